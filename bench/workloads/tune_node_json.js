'use strict';

// A JSON API over a catalogue that stays in memory: objects of a request are short-lived.

const { serve } = require('./meter');
const { generator } = require('./numbers');

const PRODUCTS = 200000;
const ORDERS = 300;
const LINES = 60;

function product(number) {
  return {
    sku: `sku-${number}`,
    name: `Article ${number} of the catalogue`,
    price: { net: (number % 9973) / 100, currency: 'EUR' },
    stock: ['B', 'K'].map((place) => ({ place, count: number % 31 })),
    tags: [`t${number % 97}`, `t${number % 89}`],
  };
}

function order(client, draw) {
  const lines = Array.from({ length: LINES }, (_, line) => ({
    sku: `sku-${draw(PRODUCTS)}`,
    count: 1 + draw(8),
    options: { gift: line % 2 === 1, notes: ['a', 'b'] },
  }));
  return JSON.stringify({ client: `client-${client}`, lines });
}

function build() {
  const draw = generator(3);
  const catalogue = new Map();
  for (let number = 0; number < PRODUCTS; number++) catalogue.set(`sku-${number}`, product(number));
  const orders = Array.from({ length: ORDERS }, (_, client) => order(client, draw));

  return (number) => {
    const { client, lines } = JSON.parse(orders[number % ORDERS]);
    const sums = lines.map(({ sku, count }) => {
      const { price, stock } = catalogue.get(sku);
      return { sku, sum: { net: price.net * count }, places: stock.map(({ place }) => place) };
    });
    const changed = product(number % PRODUCTS); // a supplier's update
    catalogue.set(changed.sku, changed);
    return JSON.stringify({ client, lines: sums, total: sums.reduce((total, { sum }) => total + sum.net, 0) });
  };
}

serve(build);
