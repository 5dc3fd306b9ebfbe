'use strict';

// Alerts as the core tells them, JSON, for JavaScript.
const { camel } = require('./names');

function alertOf(told) {
  return Object.fromEntries(Object.entries(told).map(([key, value]) => [camel(key), value]));
}

/** { active, changes, lost, stats } */
function toldOf(text) {
  const told = JSON.parse(text);
  return { ...told, active: told.active.map(alertOf), changes: told.changes.map(alertOf) };
}

module.exports = { toldOf };
