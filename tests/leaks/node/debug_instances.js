'use strict';
/* An API that makes itself a logger for every request; requests follow the day. */

const { packaged, serve, wave } = require('./service');

const debug = packaged('debug');

const customers = ['ada', 'bob', 'cyn', 'dan'];

function handle(request) {
  const log = debug(`api:customer:${request.customer}`);
  log('%s asks for %s', request.customer, request.path);
  return { status: 200, body: `hello ${request.customer}` };
}

const request = (n) => handle({ customer: customers[n % 4], path: `/order/${n}` });

serve(wave(100, 6), request);
