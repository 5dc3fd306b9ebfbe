"""A real Prometheus scrapes the exporter, a Python program and a Node program, with our
rules loaded, and not one scrape fails: for SCRAPE_SECONDS (`./dev test --all`: 300)."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Tool
from exporters import LINT_ALLOWED, TOKEN, exporter, lint
from hosts import until

sys.path.insert(0, str(ROOT / "tests" / "python"))
from servers import free_port, program

SECONDS = float(os.environ.get("SCRAPE_SECONDS", "12"))
SCRAPES = 3
# As rare as a busy machine needs it: what takes longer than this has failed.
INTERVAL_S = 4
PYTHON = """
import gc, time, memguard
monitor = memguard.MemoryMonitor({"sample_interval": "1s"})
monitor.start_monitoring()
server = memguard.serve(port=0)
print(server.address[1], flush=True)
while True:
    kept = [[i] for i in range(10_000)]
    gc.collect()
    time.sleep(0.05)
"""
NODE = """
const { ResourceManager, serve } = require(process.argv[1]);
const manager = new ResourceManager({ sampleInterval: 1 });
let kept = [];
setInterval(() => {
  kept = Array.from({ length: 10000 }, (_, i) => [i]);
}, 5);
serve({ port: 0 }).then((server) => console.log(server.address.port));
"""
CONFIG = """
global:
  scrape_interval: {interval}s
  scrape_timeout: {interval}s
  evaluation_interval: {interval}s
rule_files: [memguard.rules.yml]
scrape_configs:
  - job_name: memguard
    authorization:
      credentials_file: token
    static_configs: [{{targets: ["127.0.0.1:{exporter}"]}}]
  - job_name: memguard-python
    static_configs: [{{targets: ["127.0.0.1:{python}"]}}]
  - job_name: memguard-node
    static_configs: [{{targets: ["localhost:{node}"]}}]
"""
JOBS = {"memguard", "memguard-python", "memguard-node"}


class Prometheus:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> dict[tuple[str, str], float]:
        """By job and pid."""
        rows = self.ask("/api/v1/query", query=expression)["result"]
        found = {}
        for row in rows:
            key = (row["metric"].get("job", ""), row["metric"].get("pid", ""))
            found[key] = float(row["value"][1])
        assert len(found) == len(rows), "two of one job and pid"
        return found

    def by_job(self, expression: str) -> dict[str, float]:
        return {job: value for (job, _), value in self.query(expression).items()}

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/-/ready", timeout=60
            ).close()
            return True
        return False


@contextlib.contextmanager
def prometheus(folder: Path, config: str) -> Iterator[Prometheus]:
    (folder / "prometheus.yml").write_text(config)
    port = free_port()
    with open(folder / "log", "wb") as log:
        running = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        one = Prometheus(port)
        until(lambda: one.is_ready() or running.poll() is not None, 60)
        assert running.poll() is None, (folder / "log").read_text()
        yield one
    finally:
        running.kill()
        running.wait(30)


@contextlib.contextmanager
def site_of(*words: object) -> Iterator[tuple[int, int]]:
    """Port and pid of a program that serves itself."""
    with subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        try:
            assert running.stdout is not None
            yield int(running.stdout.readline()), running.pid
        finally:
            running.kill()


def text_of(port: int, **headers: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    for name, value in headers.items():
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def watch(server: Prometheus) -> None:
    """Until the time is over and each was scraped some times."""
    end = time.monotonic() + SECONDS

    def is_over() -> bool:
        for target in server.ask("/api/v1/targets")["activeTargets"]:
            assert target["lastError"] == "", target
        counts = server.by_job("count_over_time(up[1h])")
        return (
            time.monotonic() > end
            and set(counts) == JOBS
            and min(counts.values()) >= SCRAPES
        )

    until(is_over, SECONDS + 90)


def check_rules(server: Prometheus) -> None:
    def all_are_well() -> bool:
        groups = server.ask("/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) == 18
        for rule in rules:
            assert rule.get("lastError", "") == ""
        return all(rule["health"] == "ok" for rule in rules)

    until(all_are_well, 60)


@pytest.mark.timeout(SECONDS + 300)
def test_a_real_prometheus(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "memguard.rules.yml").write_text(tool("rules").out)
    (tmp_path / "token").write_text(TOKEN)
    with (
        site_of(sys.executable, "-c", PYTHON) as (python_port, python_pid),
        site_of("node", "-e", NODE, ROOT / "node/index.js") as (node_port, node_pid),
        exporter("--read-token") as site,
    ):
        config = CONFIG.format(
            interval=INTERVAL_S, exporter=site.port, python=python_port, node=node_port
        )
        for port in (python_port, node_port):
            assert lint(text_of(port)) <= LINT_ALLOWED
        text = text_of(site.port, Authorization=f"Bearer {TOKEN}")
        assert lint(text) <= LINT_ALLOWED
        with prometheus(tmp_path, config) as server:
            watch(server)
            assert server.by_job("min_over_time(up[1h])") == dict.fromkeys(JOBS, 1.0)
            check_rules(server)
            # The exporter shows both, each program itself.
            assert server.query("memguard_process_up") == {
                ("memguard", str(python_pid)): 1.0,
                ("memguard", str(node_pid)): 1.0,
                ("memguard-python", str(python_pid)): 1.0,
                ("memguard-node", str(node_pid)): 1.0,
            }
            rates = server.query(
                "sum without (kind) (increase(memguard_gc_collections_total[1h])) > 0"
            )
            assert set(rates) == {
                ("memguard", str(python_pid)),
                ("memguard", str(node_pid)),
                ("memguard-python", str(python_pid)),
                ("memguard-node", str(node_pid)),
            }
            assert len(server.query("process_memory_rss_bytes > 1e6")) == 4
            # No counter ever went back.
            for name in (
                "memguard_process_cpu_seconds_total",
                "memguard_process_samples_total",
            ):
                resets = server.query(f"resets({name}[1h])")
                assert len(resets) == 4
                assert set(resets.values()) == {0.0}
