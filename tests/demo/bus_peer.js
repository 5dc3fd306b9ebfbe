'use strict';

// The Node side of test_bus.py: bus_peer.js KIND FORMAT URL. Answers each message on
// "to-node" with one on "to-python"; on a line "put" keeps messages in an outbox, on
// "relay" passes on what is in it. Ends when its input does.
const readline = require('readline');
const { MemoryPool, serializers, transports } = require('../../node');

const [kind, format, url] = process.argv.slice(2);
const pool = new MemoryPool({ leak_check: 'paranoid' });
const serializer = new serializers[format](pool);
const bus = new transports[kind === 'nats' ? 'NatsTransport' : 'RedisTransport'](url, pool);

async function answer(message) {
  const value = serializer.deserialize(message);
  message.return();
  const reply = serializer.serializePooled({ ...value, seenBy: 'node', length: value.text.length });
  await bus.publish('to-python', reply);
  reply.return();
}

async function put(outbox) {
  const messages = [1, 2, 3].map((number) => ['from-node', serializer.serializePooled({ number, text: 'é'.repeat(number * 1000) })]);
  const ids = await outbox.putBatch(messages);
  for (const [, rental] of messages) rental.return();
  return ids;
}

async function main() {
  const outbox = kind === 'redis' ? new transports.RedisOutbox(url, 'both', pool) : null;
  await bus.subscribe('to-node', answer);
  console.log(JSON.stringify('ready'));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line === 'put') console.log(JSON.stringify(await put(outbox)));
    if (line === 'relay') console.log(JSON.stringify(await outbox.relay((topic, view) => bus.publish(topic, view))));
  }
  await outbox?.close();
  await bus.close();
  console.log(JSON.stringify({ current: pool.stats().current, findings: pool.findings() }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
