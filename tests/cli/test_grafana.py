"""`memguard rules --grafana`: a dashboard by the conventions of Grafana's linter, each
query of which a real Prometheus understands and answers from a real exporter."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TOOL, Tool
from hosts import host, published, until

sys.path.insert(0, str(ROOT / "tests" / "python"))
from servers import free_port

UNITS = {"bytes", "percentunit", "none", "short", "s", "ops", "Bps"}
# What needs more than a moment of a calm process: ten minutes for a slope.
SILENT = {"Growth"}
HOST = """
import gc, time
import memguard
manager = memguard.ResourceManager({"sample_interval": "50ms", "max_memory_mb": 4096})
pool = memguard.MemoryPool()
connections = memguard.ManagedConnectionPool(object, max_connections=2)
buffer = pool.rent(65536)
with connections.connection():
    print("ready", flush=True)
    end = time.monotonic() + 180
    while time.monotonic() < end:
        gc.collect()
        manager.memory_monitor.collect_memory_stats()
        time.sleep(0.05)
"""


@pytest.fixture
def dashboard(tool: Tool) -> dict[str, Any]:
    done = tool("rules", "--grafana")
    assert (done.code, done.err) == (0, "")
    made = done.json()
    assert isinstance(made, dict)
    return made


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in dashboard["panels"] if one["type"] != "row"]


def test_variables(dashboard: dict[str, Any]) -> None:
    source, *others = dashboard["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert (source["name"], source["label"]) == ("datasource", "Data source")
    assert [(one["name"], one["label"]) for one in others] == [
        ("job", "Job"),
        ("instance", "Instance"),
        ("program", "Program"),
    ]
    for one in others:
        assert one["type"] == "query"
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert (one["multi"], one["includeAll"], one["allValue"]) == (True, True, ".+")
        assert one["refresh"] == 2  # anew when the time range changes
        assert re.fullmatch(
            rf"label_values\(memguard_process_info.*, {one['name']}\)", one["query"]
        )


def test_dashboard(dashboard: dict[str, Any]) -> None:
    assert (dashboard["uid"], dashboard["title"]) == ("memguard", "memguard")
    assert dashboard["editable"] is False
    numbers = [one["id"] for one in dashboard["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))
    titles = [one["title"] for one in dashboard["panels"]]
    assert len(titles) == len(set(titles))
    places = set()
    for one in dashboard["panels"]:
        grid = one["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert (x, y) not in places, f"{one['title']} hides another panel"
                places.add((x, y))


def test_panels(dashboard: dict[str, Any]) -> None:
    assert len(panels(dashboard)) >= 20
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert [one["refId"] for one in panel["targets"]] in (["A"], ["A", "B"])
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert target["legendFormat"]


def test_queries_follow_the_conventions(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            query = target["expr"]
            metrics = re.findall(r"memguard_\w+(.{0,60})", query)
            assert metrics
            for behind in metrics:
                assert behind.startswith(
                    '{job=~"$job",instance=~"$instance",program=~"$program"'
                ), query
            assert re.findall(r"\[(.*?)\]", query) in ([], ["$__rate_interval"])
            # Counters and buckets only ever as what they grew by.
            counters = len(re.findall(r"memguard_\w+(?:_total|_bucket)\b", query))
            rates = len(re.findall(r"(?:rate|increase)\(memguard_", query))
            assert counters == rates, query
            if "_bucket" in query:
                assert query.startswith("histogram_quantile(")
                assert re.search(r"by \([^)]*\ble\b", query)


def test_no_other_option_goes_with_it(tool: Tool) -> None:
    done = tool("rules", "--grafana", "--rss", "5")
    assert done.code == 2
    assert "--grafana: no other option goes with it" in done.err


@contextlib.contextmanager
def exporting() -> Iterator[int]:
    """An exporter; its port."""
    running = subprocess.Popen(
        [TOOL, "exporter", "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        found = re.search(r":(\d+)/\n", running.stdout.readline())
        assert found is not None
        yield int(found[1])
    finally:
        running.kill()
        running.communicate(timeout=30)


@contextlib.contextmanager
def prometheus(folder: Path, target: int) -> Iterator[int]:
    """A real one that scrapes a port once a second; its own port."""
    port = free_port()
    (folder / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [
                    {
                        "job_name": "memguard",
                        "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
                    }
                ],
            }
        )
    )
    with open(folder / "log", "wb") as log:
        running = subprocess.Popen(
            [
                "prometheus",
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        running.kill()
        running.wait(30)


def ask(port: int, query: str) -> list[dict[str, Any]]:
    values = {"$__rate_interval": "30s", "$__range": "5m"}
    for name in ("job", "instance", "program"):
        values[f"${name}"] = ".+"
    for name, value in values.items():
        query = query.replace(name, value)
    words = urllib.parse.urlencode({"query": query})
    url = f"http://127.0.0.1:{port}/api/v1/query?{words}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        found = json.load(answer)
    assert found["status"] == "success", found
    return list(found["data"]["result"])


def answers(port: int, query: str) -> bool:
    with contextlib.suppress(OSError):  # not there yet
        return bool(ask(port, query))
    return False


@pytest.mark.timeout(300)
def test_a_real_prometheus_answers_each_query(
    dashboard: dict[str, Any], tool: Tool, tmp_path: Path
) -> None:
    with (
        host(HOST) as pid,
        host(HOST) as victim,
        exporting() as target,
        prometheus(tmp_path, target) as port,
    ):
        published(tool, pid)
        until(
            lambda: answers(port, f'memguard_process_up{{pid="{victim}"}}'),
            60,
        )
        os.kill(victim, signal.SIGKILL)
        for panel in panels(dashboard):
            if panel["title"] in SILENT:
                for one in panel["targets"]:
                    ask(port, one["expr"])  # understood
                continue
            for one in panel["targets"]:
                query = one["expr"]
                until(lambda query=query: answers(port, query), 90)
