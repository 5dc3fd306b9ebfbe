"""exporter.scrape1/scrape200: one scrape of `memguard exporter` that shows one or 200
processes, on a connection that stays. exporter.rss200: what it takes at most for that.
exporter.paced: failed ones of the requests of a minute at some 1000 a second, and
exporter.paced.p99 how long they took.

The peer is prometheus_client's own HTTP server: of one process, and in its mode for
many processes (a folder of mapped files) with as many processes and about as many
samples.

The project's goals: 50 ms for 200 processes, 20 MB, no failure in 60 s at 1000 requests
a second.
"""

import contextlib
import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import MANY, ROOT, fewer, row

TOOL = ROOT / "build" / "bin" / "memguard"
ROUNDS = 15
PROCESSES = 200
PACED_S = int(os.environ.get("BENCH_PACED_S", fewer(60)))
GAP_S = 0.15  # the exporter gives the same answer for a tenth of a second
CLIENT = "prometheus_client"

# As many samples of a process as memguard has of one.
PEER = """
import os, signal, sys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

def fill():
    for i in range(60):
        Gauge(f"gauge_{i}", "A gauge.").set(os.getpid())
    for i in range(20):
        Counter(f"counter_{i}", "A counter.").inc(os.getpid())
    for i in range(3):
        pauses = Histogram(f"pauses_{i}", "Pauses.", ["kind"])
        pauses.labels("young").observe(0.01)

count = int(sys.argv[1])
for _ in range(count):
    if count > 1 and os.fork() == 0:
        fill()
        signal.pause()
registry = CollectorRegistry()
if count > 1:
    MultiProcessCollector(registry)
    server, _ = start_http_server(0, "127.0.0.1", registry)
else:
    fill()
    server, _ = start_http_server(0, "127.0.0.1")
print(server.server_port, flush=True)
signal.pause()
"""
# So that a connection asks some 20 times a second.
PACED = "function delay() return 45 end\n"


@contextlib.contextmanager
def running(*words: object, **variables: str) -> Iterator[tuple[int, str]]:
    """Pid and first line of a program that is gone afterwards, with its children."""
    with subprocess.Popen(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
        start_new_session=True,
    ) as program:
        try:
            assert program.stdout is not None
            yield program.pid, program.stdout.readline()
        finally:
            os.killpg(program.pid, 9)


@contextlib.contextmanager
def exporter() -> Iterator[tuple[int, int]]:
    with running(TOOL, "exporter", "--listen", "127.0.0.1:0") as (pid, line):
        found = re.search(r":(\d+)/$", line.strip())
        assert found is not None
        yield pid, int(found[1])


class Scraper:
    def __init__(self, port: int) -> None:
        self._client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def scrape(self) -> tuple[float, bytes]:
        time.sleep(GAP_S)
        began = time.perf_counter()
        self._client.request("GET", "/metrics")
        answer = self._client.getresponse()
        text = answer.read()
        assert answer.status == 200
        return 1e3 * (time.perf_counter() - began), text

    def median_ms(self) -> float:
        return statistics.median(self.scrape()[0] for _ in range(ROUNDS))

    def wait_for(self, needle: bytes, count: int) -> None:
        end = time.monotonic() + 120
        while self.scrape()[1].count(needle) < count:
            assert time.monotonic() < end, f"there are never {count} of {needle!r}"


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def ours(count: int) -> tuple[float, float]:
    """Time of a scrape in ms, most memory in MB."""
    with running(sys.executable, "-c", MANY, count, "1s"), exporter() as (pid, port):
        scraper = Scraper(port)
        scraper.wait_for(b"\nmemguard_process_threads{", count)
        return scraper.median_ms(), peak_mb(pid)


def peers(count: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        many = {"PROMETHEUS_MULTIPROC_DIR": folder} if count > 1 else {}
        with running(sys.executable, "-c", PEER, count, **many) as (pid, line):
            scraper = Scraper(int(line))
            scraper.wait_for(b"\ngauge_59", count)
            return scraper.median_ms(), peak_mb(pid)


def paced(port: int, folder: str) -> tuple[float, float]:
    """Failures, P99 in ms."""
    script = Path(folder) / "paced.lua"
    script.write_text(PACED)
    words = [
        "-t",
        "2",
        "-c",
        "80",
        "-d",
        f"{PACED_S}s",
        "--timeout",
        "10s",
        "--latency",
    ]
    done = subprocess.run(
        ["wrk", *words, "-s", str(script), f"http://127.0.0.1:{port}/metrics"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", done.stdout)))
    for line in re.findall(r"Socket errors: (.+)", done.stdout):
        failed += sum(map(int, re.findall(r"\d+", line)))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert rate is not None
    assert p99 is not None
    sys.stderr.write(f"{float(rate[1]):.0f} requests a second\n")
    return failed, float(p99[1]) * {"us": 1e-3, "ms": 1, "s": 1e3}[p99[2]]


def paced_rows() -> Iterator[dict[str, Any]]:
    name = f"its server of {CLIENT}"
    with tempfile.TemporaryDirectory() as folder:
        with running(sys.executable, "-c", MANY, 1, "1s"), exporter() as (_, port):
            Scraper(port).wait_for(b"\nmemguard_process_threads{", 1)
            failed, p99 = paced(port, folder)
        with running(sys.executable, "-c", PEER, 1) as (_, line):
            failed_there, p99_there = paced(int(line), folder)
    yield row("exporter.paced", "1", failed, failed_there, name)
    yield row("exporter.paced.p99", "ms", p99, p99_there, name)


def rows() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="memguard-bench-") as place:
        os.environ["MEMGUARD_DIR"] = place
        try:
            one, there = ours(1), peers(1)
            yield row("exporter.scrape1", "ms", one[0], there[0], CLIENT)
            one, there = ours(PROCESSES), peers(PROCESSES)
            name = f"{CLIENT}, many processes"
            yield row("exporter.scrape200", "ms", one[0], there[0], name)
            yield row("exporter.rss200", "MB", one[1], there[1], name)
            yield from paced_rows()
        finally:
            del os.environ["MEMGUARD_DIR"]
