// Prints what index.d.ts and the other entry points declare, as JSON: one
// [entry point, name, comment before it, declaration] each.
'use strict';

const fs = require('fs');
const { parse } = require('@babel/parser');

const ENTRIES = {
  memguard: 'node/index.d.ts',
  'memguard/jest': 'node/jest.d.ts',
  'memguard/stress': 'node/stress.d.ts',
};

function nameOf({ id, declarations }) {
  return id ? id.name : declarations[0].id.name;
}

function commentOf(statement) {
  const comments = (statement.leadingComments || []).filter(({ value }) => value.startsWith('*'));
  return comments.length === 0 ? '' : comments[comments.length - 1].value;
}

function declared(entry, file) {
  const text = fs.readFileSync(file, 'utf8');
  const { program } = parse(text, { sourceType: 'module', plugins: [['typescript', { dts: true }]] });
  return program.body
    .filter(({ type, declaration }) => type === 'ExportNamedDeclaration' && declaration)
    .map((statement) => [entry, nameOf(statement.declaration), commentOf(statement),
      text.slice(statement.start, statement.end)]);
}

const all = Object.entries(ENTRIES).flatMap(([entry, file]) => declared(entry, file));
process.stdout.write(JSON.stringify(all));
