'use strict';

module.exports = {
  ...require('./nats'),
  RedisOutbox: require('./outbox').RedisOutbox,
  RedisTransport: require('./redis').RedisTransport,
};
