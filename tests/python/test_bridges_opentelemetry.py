"""memguard's instruments in the real SDK of OpenTelemetry."""

import gc
import logging
import os
from collections.abc import Iterator

import memguard
import pytest
from memguard.bridges import opentelemetry as bridge
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Gauge,
    InMemoryMetricReader,
    Metric,
    Sum,
)
from segments import until


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    made = InMemoryMetricReader()
    provider = MeterProvider([made])
    with memguard.ResourceManager({"sample_interval": "50ms"}) as manager:
        manager.memory_monitor.collect_memory_stats()
        until(lambda: "max_memory" in memguard.metrics_text())  # it was recorded
        instruments = bridge.install(provider)
        yield made
        instruments.close()
        assert made.get_metrics_data() is None
    provider.shutdown()


def read(reader: InMemoryMetricReader) -> dict[str, Metric]:
    data = reader.get_metrics_data()
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("memguard", memguard.version)
    return {metric.name: metric for metric in scope.metrics}


def values(metric: Metric) -> dict[tuple[object, ...], float]:
    return {
        tuple(point.attributes.values()): point.value
        for point in metric.data.data_points
    }


def test_names_units_and_kinds(reader: InMemoryMetricReader) -> None:
    seen = read(reader)
    told = {name: (metric.unit, type(metric.data)) for name, metric in seen.items()}
    assert told["process.memory.usage"] == ("By", Sum)
    assert told["process.memory.virtual"] == ("By", Sum)
    assert told["process.cpu.time"] == ("s", Sum)
    assert told["process.thread.count"] == ("{thread}", Sum)
    assert told["process.unix.file_descriptor.count"] == ("{file_descriptor}", Sum)
    assert told["cpython.gc.collections"] == ("{collection}", Sum)
    assert told["cpython.gc.collected_objects"] == ("{object}", Sum)
    assert told["cpython.gc.uncollectable_objects"] == ("{object}", Sum)
    assert told["memguard.memory.usage_ratio"] == ("1", Gauge)
    assert told["memguard.memory.limit"] == ("By", Gauge)
    assert told["memguard.reclaim.rounds"] == ("{round}", Sum)
    monotonic = {
        name for name, one in seen.items() if getattr(one.data, "is_monotonic", False)
    }
    assert monotonic == {
        "cpython.gc.collected_objects",
        "cpython.gc.collections",
        "cpython.gc.uncollectable_objects",
        "memguard.alerts",
        "memguard.gc.time",
        "memguard.reclaim.freed",
        "memguard.reclaim.rounds",
        "process.cpu.time",
    }


def test_numbers_are_those_of_the_process(reader: InMemoryMetricReader) -> None:
    seen = read(reader)
    rss = values(seen["process.memory.usage"])[()]
    assert isinstance(rss, int)
    assert 4 * 1048576 < rss < 1 << 40
    fds = values(seen["process.unix.file_descriptor.count"])[()]
    assert 3 <= fds <= len(os.listdir("/proc/self/fd")) + 64
    assert "max_memory" in {key[0] for key in values(seen["memguard.memory.limit"])}


def test_collections_are_the_runtimes_own(
    reader: InMemoryMetricReader, own_collector: None
) -> None:
    gc.disable()
    for _ in range(7):
        gc.collect(1)
    expected = {
        (number,): one["collections"] for number, one in enumerate(gc.get_stats())
    }
    assert values(read(reader)["cpython.gc.collections"]) == expected


def test_a_failure_is_logged_once_and_stops_no_reader(
    reader: InMemoryMetricReader,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(**_: object) -> object:
        raise memguard.NoMemoryError("none")

    monkeypatch.setattr("memguard.bridges.opentelemetry._FRESH_S", 0.0)
    monkeypatch.setattr("memguard.bridges.opentelemetry.collect_metrics", fail)
    with caplog.at_level(logging.ERROR, "memguard"):
        left = set(read(reader)) | set(read(reader))
    assert left == {
        "cpython.gc.collected_objects",
        "cpython.gc.collections",
        "cpython.gc.uncollectable_objects",
    }
    told = [r.getMessage() for r in caplog.records if r.name == "memguard"]
    assert len([line for line in told if "metrics could not be read" in line]) == 1


def test_import_memguard_takes_none_of_it_along(run_child) -> None:
    code = """
        import sys
        import memguard
        memguard.ResourceManager().close()
        loaded = {name.split(".")[0] for name in sys.modules}
        others = {"prometheus_client", "opentelemetry", "flask", "celery", "gunicorn"}
        print(sorted(loaded & others), "memguard.bridges" in sys.modules)
    """
    assert run_child(code) == "[] False\n"
