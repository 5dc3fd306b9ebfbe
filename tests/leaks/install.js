'use strict';
/* Installs what a program of the corpus needs, once, into build/leaks/npm.
 *
 *   node tests/leaks/install.js debug@4.2.0 node@20.20.1 ...
 *
 * prints one line each, in the order asked: for a package (or several, with commas
 * between them) the node_modules folder to name in LEAK_MODULES, for node@VERSION
 * the program to run. */

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const FOLDER = path.join(__dirname, '..', '..', 'build', 'leaks', 'npm');
const INSTALL_LIMIT_MS = 300_000;

/** Installs `name@version`, or several with commas between them, into one folder;
 *  returns its node_modules. */
function install(spec) {
  const place = path.join(FOLDER, spec.replaceAll('/', '+'));
  const modules = path.join(place, 'node_modules');
  if (fs.existsSync(modules)) return modules;
  fs.mkdirSync(FOLDER, { recursive: true });
  // Made beside and moved in whole: a broken install is not taken for a cache.
  const draft = fs.mkdtempSync(path.join(FOLDER, '.draft-'));
  try {
    fs.writeFileSync(path.join(draft, 'package.json'), '{ "private": true }');
    const options = ['--prefix', draft, '--no-audit', '--no-fund', '--no-package-lock'];
    execFileSync('npm', ['install', ...options, '--ignore-scripts', '--silent', '--', ...spec.split(',')], {
      stdio: ['ignore', 'ignore', 'inherit'],
      timeout: INSTALL_LIMIT_MS,
    });
    try {
      fs.renameSync(draft, place);
    } catch (error) {
      if (!fs.existsSync(modules)) throw error; // else another process was faster
    }
  } finally {
    fs.rmSync(draft, { recursive: true, force: true });
  }
  return modules;
}

/** The path of a Node version, taken from tests/runtimes when it is there. */
function installNode(version) {
  const name = `node-linux-${process.arch}`;
  const kept = path.join(__dirname, '..', 'runtimes', 'node_modules');
  const at = path.join(kept, `node${version.split('.')[0]}-${process.arch}`);
  const manifest = path.join(at, 'package.json');
  const here = fs.existsSync(manifest) && JSON.parse(fs.readFileSync(manifest, 'utf8'));
  if (here && here.version === version) return path.join(at, 'bin', 'node');
  return path.join(install(`${name}@${version}`), name, 'bin', 'node');
}

/** What `name@version` gives: a folder for LEAK_MODULES, or the path of a Node. */
function provide(spec) {
  return spec.startsWith('node@') ? installNode(spec.slice('node@'.length)) : install(spec);
}

module.exports = { provide };

if (require.main === module) {
  for (const spec of process.argv.slice(2)) console.log(provide(spec));
}
