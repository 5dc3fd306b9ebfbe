"""memguard's collector in registries of prometheus_client, alone and of workers."""

import gc
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import memguard
import pytest
from memguard.bridges.prometheus import MemguardCollector
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed
from servers import free_port
from services import get, serves, service, until

BIN = Path(sys.executable).parent
RSS = "memguard_process_resident_memory_bytes"


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    with memguard.ResourceManager({"sample_interval": "50ms"}) as manager:
        manager.memory_monitor.collect_memory_stats()
        yield CollectorRegistry()


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parsed(text):
        for one in family.samples:
            found.setdefault(one.name, []).append((one.labels, one.value))
    return found


def test_numbers_of_this_process(registry: CollectorRegistry) -> None:
    registry.register(MemguardCollector())
    gc.collect()
    before = [one["collections"] for one in gc.get_stats()]
    seen = samples(generate_latest(registry).decode())
    ((labels, rss),) = seen[RSS]
    assert labels["pid"] == str(os.getpid())
    assert labels["runtime"] == "python"
    assert rss > 4 * 1048576
    kinds = {labels["kind"] for labels, _ in seen["memguard_gc_collections_total"]}
    assert "generation2" in kinds
    # A histogram is whole: the last bucket counts all, as does the counter.
    full = {
        labels["kind"]: value
        for labels, value in seen["memguard_gc_pause_seconds_bucket"]
        if labels["le"] == "+Inf"
    }
    counts = seen["memguard_gc_pause_seconds_count"]
    assert full == {labels["kind"]: value for labels, value in counts}
    assert 1 <= full["generation2"] <= before[2] + 1
    # The names of hosts before memguard.
    assert seen["process_memory_rss_bytes"][0][1] == rss
    assert "memory_gc_pause_ns_bucket" in seen


def test_families_are_made_by_a_scrape_only(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = MemguardCollector()
    reads: list[int] = []
    collect = memguard.bridges.prometheus.collect_metrics

    def counted(**options: bool) -> object:
        reads.append(1)
        return collect(**options)

    monkeypatch.setattr("memguard.bridges.prometheus.collect_metrics", counted)
    registry.register(collector)
    assert all(family.samples == [] for family in collector.describe())
    assert reads == []
    generate_latest(registry)
    assert reads == [1]


def test_beside_the_collectors_of_the_default_registry() -> None:
    collector = MemguardCollector()
    with memguard.ResourceManager():
        REGISTRY.register(collector)
        try:
            text = generate_latest(REGISTRY).decode()
        finally:
            REGISTRY.unregister(collector)
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert types.count("process_open_fds") == 1
    assert "memguard_process_open_fds" in types


def test_a_name_that_is_taken_is_refused(registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="process_open_fds"):
        REGISTRY.register(MemguardCollector(exclude=()))
    registry.register(MemguardCollector())
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(MemguardCollector())


def test_without_the_compatible_names(registry: CollectorRegistry) -> None:
    registry.register(MemguardCollector(compatible=False))
    text = generate_latest(registry).decode()
    assert {name.split("_")[0] for name in samples(text)} == {"memguard"}


def test_text_passes_promtool_and_openmetrics(registry: CollectorRegistry) -> None:
    registry.register(MemguardCollector(exclude=()))
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        timeout=60,
        check=False,
    )
    complaints = (checked.stdout + checked.stderr).decode().splitlines()
    names = {line.split()[0] for line in complaints}
    # Names of hosts before memguard, which stay as they are.
    assert names <= {
        "memory_gc_pause_ns",
        "memory_growth_rate_mb_per_minute",
        "memory_total_alloc_bytes",
    }
    assert openmetrics(registry).endswith(b"# EOF\n")


def test_a_failure_is_logged_once_and_breaks_no_scrape(
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(**_: object) -> object:
        raise memguard.NoMemoryError("none")

    monkeypatch.setattr("memguard.bridges.prometheus.collect_metrics", fail)
    registry.register(MemguardCollector())
    with caplog.at_level(logging.ERROR, "memguard"):
        assert generate_latest(registry) == b""
        assert generate_latest(registry) == b""
    told = [r.getMessage() for r in caplog.records if r.name == "memguard"]
    assert len([line for line in told if "metrics could not be read" in line]) == 1


def test_bad_options() -> None:
    with pytest.raises(memguard.InvalidError, match="exclude has 'nothing'"):
        MemguardCollector(exclude=["nothing"])
    with pytest.raises(memguard.ConfigTypeError, match="exclude is 'x', allowed"):
        MemguardCollector(exclude="x")


APP = """
import os

import memguard
from memguard.bridges.prometheus import MemguardCollector
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

manager = memguard.ResourceManager({"sample_interval": "50ms"})
requests = Counter("app_requests", "Requests.")

def app(environ, start_response):
    requests.inc()
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        registry.register(MemguardCollector())
        body = generate_latest(registry)
    else:
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""


def test_every_worker_once_by_whichever_answers(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    values = tmp_path / "values"
    values.mkdir()
    port = free_port()
    (tmp_path / "conf.py").write_text("control_socket_disable = True")
    words = ["-w", "3", "-b", f"127.0.0.1:{port}", "-c", "conf.py", "app:app"]

    def told() -> list[str]:
        status, text = get(port, "/metrics")
        if status != 200:  # prometheus_client reads a file that is just being made
            return []
        seen = samples(text)
        assert "app_requests_total" in seen  # the service's own, of all workers
        return [labels["pid"] for labels, _ in seen[RSS]]

    def workers() -> set[str]:
        return {get(port)[1] for _ in range(20)}

    with service(
        tmp_path, BIN / "gunicorn", *words, PROMETHEUS_MULTIPROC_DIR=str(values)
    ):
        until(lambda: serves(port), "it serves")
        until(lambda: len(told()) == 3, "all workers show themselves")
        until(lambda: len(set(told())) == 3, "each is another one")
        # One that dies is not told any more; the one that takes its place is.
        (victim, *_) = workers()
        os.kill(int(victim), signal.SIGKILL)
        until(
            lambda: victim not in told() and len(told()) == 3,
            "the new worker shows itself",
        )
        until(lambda: workers() == set(told()), "those that answer are told")
        # prometheus_client keeps a file of each process that ever was; we have none.
        assert len(list(values.iterdir())) > 3


GROUP = """
import os, subprocess, sys, time
import memguard

HOST = '''
import sys, memguard
with memguard.ResourceManager({"sample_interval": "50ms"}):
    print("ready", flush=True)
    sys.stdin.read()
'''

def told():
    names = ("memguard_process_up",)
    found = memguard.metrics.collect_metrics(workers=True)
    rows = [s for metric in found if metric.name in names for s in metric.samples]
    return sorted(int(row.labels["pid"]) for row in rows if row.value == 1)

def started(**options):
    made = subprocess.Popen(
        [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        **options)
    assert made.stdout.readline() == b"ready\\n"
    return made

def has_segment(pid):
    return any(f"-{pid}-" in name for name in os.listdir(os.environ["MEMGUARD_DIR"]))

def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, (told(), os.listdir(os.environ["MEMGUARD_DIR"]))
        time.sleep(0.02)

import memguard.metrics
mine, other = started(), started(start_new_session=True)
try:
    until(lambda: mine.pid in told())
    until(lambda: has_segment(other.pid))
    assert told() == sorted([os.getpid(), mine.pid]), told()
finally:
    for one in (mine, other):
        one.communicate()
assert told() == [os.getpid()]
print("done")
"""


def test_what_was_started_together(run_child) -> None:
    assert run_child(GROUP) == "done\n"
