'use strict';

// In which order it is told what grew.
const { ranked } = require('../../node/lib/leak_rank');

const rows = (shares, all = 1000) => Object.entries(shares).map(([name, share]) => ({ name, growth: share * all, count: 0, share }));
const told = (difference) => ranked(difference).map(([kind, { name }]) => `${kind} ${name}`);

test('what the program names comes first, by turns', () => {
  expect(told({
    types: rows({ Function: 0.5, Object: 0.2, Breaker: 0.1, Status: 0.08 }),
    sites: rows({ 'open breaker.js:9': 0.6, 'close breaker.js:20': 0.3 }),
  })).toEqual([
    'sites open breaker.js:9', 'types Breaker', 'sites close breaker.js:20', 'types Status', 'types Function', 'types Object',
  ]);
  expect(told({ types: rows({ Order: 0.9 }), sites: rows({ 'main.js:1': 0.5 }) })).toEqual(['types Order', 'sites main.js:1']);
});

test('what is small is not told', () => {
  expect(told({ types: rows({ Array: 0.9, Order: 0.06, Session: 0.04 }), sites: rows({ 'a.js:1': 0.049 }) })).toEqual([
    'types Order', 'types Array',
  ]);
});

test('one leaked thing may be made of many', () => {
  expect(told({ types: rows({ Array: 0.95, Order: 0.03, Page: 0.02 }) })).toEqual(['types Order', 'types Array']);
  expect(told({ types: rows({ Array: 0.95, Session: 0.009 }) })).toEqual(['types Array']);
});

test('entries and listeners are measured by the objects that grew', () => {
  expect(told({
    types: rows({ Object: 0.6, Function: 0.4 }),
    entries: rows({ Map: 1 }, 500),
    listeners: rows({ "Signal 'abort'": 1 }, 400),
  })).toEqual(["listeners Signal 'abort'", 'types Object', 'entries Map', 'types Function']);
  expect(told({ entries: rows({ Map: 1 }) })).toEqual(['entries Map']);
});

test('nothing grew', () => {
  expect(ranked({})).toEqual([]);
  expect(ranked({ types: [], entries: [], listeners: [], sites: [] })).toEqual([]);
});

test('eight at most', () => {
  const many = Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`Type${index}`, 0.08]));
  expect(ranked({ types: rows(many) })).toHaveLength(8);
});
