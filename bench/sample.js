'use strict';

const memguard = require('../node');
const { medianNs, print } = require('./measure');

const monitor = new memguard.MemoryMonitor({ sampleInterval: '1s' });
monitor.collectMemoryStats();

let sink = 0;
const peer = medianNs(() => (sink += process.memoryUsage.rss()), 20_000);
const rss = medianNs(() => (sink += memguard.rssBytes()), 200_000);
const latest = medianNs(() => (sink += monitor.latest.rssBytes), 2_000_000);

print('sample.rss', 'ns', rss, peer, 'process.memoryUsage.rss');
print('sample.read.node', 'ns', latest, peer, 'process.memoryUsage.rss');
monitor.shutdown();
if (sink === 0) process.exit(1);
