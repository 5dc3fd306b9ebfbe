"""The page of metrics: whose they are, as processes of both runtimes show them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import ROOT

# Known after ten minutes; once some processor time was used; while something fires.
SOMETIMES = {
    "memguard_resident_memory_growth_bytes_per_second",
    "memory_growth_rate_mb_per_minute",
    "memguard_gc_cpu_ratio",
    "memory_gc_cpu_fraction",
    "memguard_alerts_active",
}
RECORDED = "memguard_process_recording_timestamp_seconds"  # by memguard's own thread
PYTHON = f"""
import gc, json, memguard, time
def names():
    return [metric.name for metric in memguard.collect_metrics()]
pool = memguard.ManagedConnectionPool(object)
with memguard.ResourceManager() as manager, pool.connection():
    manager.memory_monitor.start_monitoring()
    garbage = []
    garbage.append(garbage)
    del garbage
    gc.collect()
    manager.memory_monitor.collect_memory_stats()
    end = time.monotonic() + 60
    while {RECORDED!r} not in names() and time.monotonic() < end:
        time.sleep(0.01)
    print(json.dumps(names()))
"""
NODE = f"""
const memguard = require(process.argv[1]);
const names = () => memguard.collectMetrics().map((metric) => metric.name);
const manager = new memguard.ResourceManager();
const pool = new memguard.ManagedConnectionPool(() => ({{}}));
pool.acquire().then(async (connection) => {{
  globalThis.kept = [pool, connection];  // the collection below would take them
  manager.memoryMonitor.startMonitoring();
  manager.memoryMonitor.triggerGc();
  manager.memoryMonitor.collectMemoryStats();
  const end = Date.now() + 60000;
  while (!names().includes({RECORDED!r}) && Date.now() < end) {{
    await new Promise((resolve) => setTimeout(resolve, 10));
  }}
  console.log(JSON.stringify(names()));
  return manager.close();
}});
"""


def names(words: list[str]) -> set[str]:
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=100
    )
    return set(json.loads(done.stdout))


def test_whose_they_are() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in page.splitlines()
        if line.startswith("| `")
    ]
    assert {row[4] for row in rows} == {"", "Python", "Node", "exporter"}
    for who, words in [
        ("Python", [sys.executable, "-c", PYTHON]),
        ("Node", ["node", "-e", NODE, str(ROOT / "node")]),
    ]:
        told = {row[0].strip("`") for row in rows if row[4] in ("", who)}
        assert names(words) - SOMETIMES == told - SOMETIMES, who


@pytest.mark.parametrize("words", [["--list-metrics"], ["--list-metrics", "--json"]])
def test_the_tool_lists_them(words: list[str]) -> None:
    tool = Path(ROOT / "build" / "bin" / "memguard")
    done = subprocess.run(
        [tool, "exporter", *words], capture_output=True, text=True, check=True
    )
    assert "memguard_gc_pause_seconds" in done.stdout
    assert "Length of garbage collections [kind]." in done.stdout
