"""sample.* monitor.* import.*: what watching a process costs.

Peers: psutil in Python, process.memoryUsage and prom-client in Node, libproc2 in
C, each doing the same reading the way its users do.
"""

from collections.abc import Iterator
from typing import Any

from measure import (
    ROOT,
    fewer,
    median_of,
    node_child,
    node_rows,
    output_of,
    python_child,
    python_ns,
    row,
)

IMPORT_RUNS = fewer(15, least=5)
RSS_RUNS = fewer(5)
CPU_SECONDS = fewer(20, least=10)

IMPORT = """
import time
began = time.perf_counter()
import {module}
print((time.perf_counter() - began) * 1e3)
"""

REQUIRE = """
const began = process.hrtime.bigint()
require('{module}')
console.log(Number(process.hrtime.bigint() - began) / 1e6)
"""

# A service that is watched once a second, and does nothing else.
WATCHED = {
    "memguard": """
import memguard
monitor = memguard.MemoryMonitor({"sample_interval": "1s", "monitor_interval": "1s"})
""",
    "psutil thread": """
import threading, psutil
process = psutil.Process()
def watch():
    while True:
        process.memory_info(), psutil.virtual_memory()
        process.num_fds(), process.num_threads()
        time.sleep(1)
threading.Thread(target=watch, daemon=True).start()
""",
}

RSS = """
import os, time
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = rss()
{watch}
time.sleep(2.5)
print((rss() - before) / 1048576)
"""

CPU = """
import time
{watch}
time.sleep(1.5)
cpu, wall = time.process_time(), time.perf_counter()
time.sleep({seconds})
print(100 * (time.process_time() - cpu) / (time.perf_counter() - wall))
"""

NODE_WATCHED = {
    "memguard": """
const { MemoryMonitor } = require('./node')
const monitor = new MemoryMonitor({ sampleInterval: '1s', monitorInterval: '1s' })
monitor.startMonitoring(1000)
""",
    "prom-client": """
const client = require('prom-client')
client.collectDefaultMetrics()
setInterval(() => client.register.metrics(), 1000).unref()
""",
}

NODE_RSS = """
const before = process.memoryUsage.rss()
{watch}
setTimeout(() => {{
  console.log((process.memoryUsage.rss() - before) / 1048576)
  process.exit()
}}, 2500)
"""

NODE_CPU = """
{watch}
setTimeout(() => {{
  const cpu = process.cpuUsage(), began = process.hrtime.bigint()
  setTimeout(() => {{
    const used = process.cpuUsage(cpu)
    const wall_us = Number(process.hrtime.bigint() - began) / 1e3
    console.log(100 * (used.user + used.system) / wall_us)
    process.exit()
  }}, {seconds} * 1000)
}}, 1500)
"""


def python_rows() -> Iterator[dict[str, Any]]:
    import memguard
    import psutil

    with memguard.ResourceManager({"sample_interval": "1s"}) as manager:
        manager.memory_monitor.collect_memory_stats()
        names = {
            "rss_bytes": memguard.rss_bytes,
            "monitor": manager.memory_monitor,
            "process": psutil.Process(),
        }
        psutil_ns = python_ns("process.memory_info().rss", names, 20_000)
        yield row(
            "sample.rss",
            "ns",
            python_ns("rss_bytes()", names, 200_000),
            psutil_ns,
            "psutil",
        )
        latest_ns = python_ns("monitor.latest.rss_bytes", names, 1_000_000)
        yield row("sample.read.python", "ns", latest_ns, psutil_ns, "psutil")


def c_rows() -> Iterator[dict[str, Any]]:
    import psutil

    process = psutil.Process()

    def psutil_pass() -> None:
        (
            process.memory_info(),
            psutil.virtual_memory(),
            process.num_fds(),
            process.num_threads(),
        )

    for line in output_of([f"{ROOT}/build/bench_sample"]).splitlines():
        name, ours, peer, peer_name = line.split()
        if name == "sample.pass":
            peer_ns = python_ns("measured()", {"measured": psutil_pass}, 2_000)
            yield row(name, "ns", float(ours), peer_ns, "psutil, the same readings")
        else:
            yield row(name, "ns", float(ours), float(peer), peer_name)


def cost_rows() -> Iterator[dict[str, Any]]:
    """Memory and CPU of a process that is only watched, by each way to watch it."""
    runtimes = (
        ("", python_child, WATCHED, RSS, CPU),
        (".node", node_child, NODE_WATCHED, NODE_RSS, NODE_CPU),
    )
    for suffix, child, watched, rss, cpu in runtimes:
        peer = list(watched)[1]
        mb = [median_of(RSS_RUNS, child, rss.format(watch=w)) for w in watched.values()]
        yield row(f"monitor.rss{suffix}", "MB", *mb, peer)
        percent = [
            child(cpu.format(watch=w, seconds=CPU_SECONDS)) for w in watched.values()
        ]
        yield row(f"monitor.cpu{suffix}", "%", *percent, peer)


def import_rows() -> Iterator[dict[str, Any]]:
    figures = [
        median_of(IMPORT_RUNS, python_child, IMPORT.format(module=m))
        for m in ("memguard", "psutil")
    ]
    yield row("import.python", "ms", *figures, "psutil")
    figures = [
        median_of(IMPORT_RUNS, node_child, REQUIRE.format(module=m))
        for m in ("./node", "prom-client")
    ]
    yield row("import.node", "ms", *figures, "prom-client")


def rows() -> Iterator[dict[str, Any]]:
    python_child("import memguard, psutil; print(0)")  # compiles both
    yield from c_rows()
    yield from python_rows()
    yield from node_rows("sample.js")
    yield from cost_rows()
    yield from import_rows()
