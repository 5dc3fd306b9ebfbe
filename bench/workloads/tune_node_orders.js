'use strict';

// A queue service: orders wait in a queue, so they live a while before they are done.

const { createHash } = require('crypto');
const { serve } = require('./meter');
const { generator } = require('./numbers');

const WAITING = 20000;
const ITEMS = 6;

function order(number, draw) {
  const items = Array.from({ length: ITEMS }, () => ({ sku: `sku-${draw(5000)}`, count: 1 + draw(9), price: draw(9999) / 100 }));
  return { id: `order-${number}`, customer: { id: draw(100000), tags: ['new', 'web'] }, items, attempts: [] };
}

function build() {
  const draw = generator(17);
  const queue = new Map(); // keeps the order in which they came
  const turnover = new Map();
  for (let number = 0; number < WAITING; number++) queue.set(number, order(number, draw));

  return (number) => {
    queue.set(number + WAITING, order(number + WAITING, draw));
    const next = queue.get(number);
    queue.delete(number);
    next.attempts.push({ at: number, by: `worker-${number % 8}` });
    const sum = next.items.reduce((total, { count, price }) => total + count * price, 0);
    const shop = next.customer.id % 500;
    turnover.set(shop, (turnover.get(shop) ?? 0) + sum);
    return createHash('sha1').update(JSON.stringify(next)).digest('hex');
  };
}

serve(build);
