'use strict';
/* A circuit breaker for each tenant's visit, shut down when the tenant leaves. */

const { packaged, serve } = require('./service');

const CircuitBreaker = packaged('opossum');

async function lookUp(tenant) {
  return { tenant, rows: new Array(20).fill(tenant) };
}

serve(10, async (n) => {
  const breaker = new CircuitBreaker(lookUp, { timeout: 500, rollingCountTimeout: 10_000 });
  await breaker.fire(`tenant-${n}`);
  breaker.shutdown();
});
