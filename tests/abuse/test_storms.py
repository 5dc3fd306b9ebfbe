"""Hosts that fork, start threads and Workers, and are signalled, a thousand times."""

import json
import sys
from pathlib import Path

from conftest import NODE, run

FORKS = """
import os, memguard
with memguard.ResourceManager({"sample_interval": "20ms"}) as manager:
    rows = manager.create_buffer("rows", sink=lambda items: None)
    manager.memory_monitor.start_monitoring()
    bad = 0
    for number in range(1000):
        child = os.fork()
        if child == 0:
            rows.append(number)
            manager.should_flush_buffer("rows")
            manager.get_memory_pressure()
            os._exit(0 if len(rows) == 1 else 1)
        bad += os.waitpid(child, 0)[1] != 0
    manager.memory_monitor.check_memory_pressure()
    alive = manager.memory_monitor.is_monitoring
print(bad, alive, len(os.listdir("/proc/self/task")))
"""

THREADS = """
import os, threading, memguard
def work(manager):
    with manager.pool.rent(4096) as buffer, memoryview(buffer) as view:
        view[:4] = b"abcd"
    manager.should_flush_buffer("rows")
    manager.get_memory_pressure()
with memguard.ResourceManager({"sample_interval": "20ms"}) as manager:
    manager.create_buffer("rows", sink=lambda items: None)
    for _ in range(1000):
        threads = [threading.Thread(target=work, args=(manager,)) for _ in range(32)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    stats = manager.pool.stats()
threads = len(os.listdir("/proc/self/task"))
print(stats["rented"], stats["current"], threads)
"""

SIGNALS = """
import gc, os, signal, time, memguard
seen = 0
def handler(number, frame):
    global seen
    seen += 1
    manager.get_memory_pressure()
    manager.should_flush_buffer("rows")
with memguard.ResourceManager({"sample_interval": "20ms"}) as manager:
    manager.create_buffer("rows", sink=lambda items: None)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        cycles = [[] for _ in range(2000)]
        for one in cycles: one.append(one)
        del cycles
        gc.collect()
    signal.setitimer(signal.ITIMER_REAL, 0)
    collections = manager.memory_monitor.get_gc_stats()
print(seen > 100, len(os.listdir("/proc/self/task")))
"""

WORKERS = """
const { Worker } = require('worker_threads');
const body = `
  const { ResourceManager } = require(${JSON.stringify(process.argv[2])});
  const manager = new ResourceManager({ sampleInterval: '20ms' });
  manager.createBuffer('rows', () => {}).push(1);
  manager.pool.rent(4096);
  require('worker_threads').parentPort.postMessage('up');
  setInterval(() => manager.shouldFlushBuffer('rows'), 1);
`;
async function one() {
  const worker = new Worker(body, { eval: true });
  await new Promise((resolve, reject) => {
    worker.once('message', resolve).once('error', reject);
  });
  await worker.terminate();
}
async function main() {
  for (let round = 0; round < 50; round++) {
    await Promise.all(Array.from({ length: 10 }, one));
  }
  const { ResourceManager } = require(process.argv[2]);
  const manager = new ResourceManager();
  manager.memoryMonitor.collectMemoryStats();
  await manager.close();
  console.log(JSON.stringify('well'));
}
main();
"""


def python(code: str) -> str:
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_thousand_forks() -> None:
    bad, alive, _ = python(FORKS).split()
    assert (bad, alive) == ("0", "True")


def test_thirty_two_thousand_threads() -> None:
    assert python(THREADS).split() == ["32000", "0", "1"]


def test_signals_during_collections() -> None:
    assert python(SIGNALS).split() == ["True", "1"]


def test_five_hundred_workers(tmp_path: Path) -> None:
    script = tmp_path / "storm.js"
    script.write_text(WORKERS)
    package = Path(__file__).resolve().parents[2] / "node"
    done = run([*NODE, str(script), str(package)])
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == "well"
