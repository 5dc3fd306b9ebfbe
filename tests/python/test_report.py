"""The monitoring API: statistics, history, trends, health, optimization."""

import gc
import time
from collections.abc import Callable
from typing import Any

import memguard
import pytest
from memguard import MemoryMonitor, ResourceManager

STATS = [
    "heap_used",
    "heap_total",
    "external",
    "rss",
    "array_buffers",
    "timestamp",
    "heap_used_percentage",
    "heap_used_mb",
    "heap_total_mb",
    "rss_mb",
]


def test_collect_memory_stats(monitor: MemoryMonitor) -> None:
    stats = monitor.collect_memory_stats()
    assert list(stats) == STATS
    assert stats["external"] is None
    assert stats["array_buffers"] is None
    assert stats["heap_used_percentage"] is None
    used, total, rss = stats["heap_used"], stats["heap_total"], stats["rss"]
    assert used is not None
    assert total is not None
    assert rss is not None
    assert 1 << 20 < used <= total <= rss
    assert total % (1 << 20) == 0
    assert stats["heap_used_mb"] == used / 1048576
    assert monitor.get_current_stats() == stats
    assert monitor._pass(False).heap_used_bytes is None


def test_heap_follows_allocations(monitor: MemoryMonitor) -> None:
    before = monitor.collect_memory_stats()["heap_used"]
    kept = [(index,) for index in range(100_000)]
    after = monitor.collect_memory_stats()["heap_used"]
    assert before is not None
    assert after is not None
    assert after - before > 4_000_000
    assert len(kept) == 100_000


def test_heap_percentage_is_of_max_heap_mb() -> None:
    with MemoryMonitor({"max_heap_mb": 4096}) as monitor:
        stats = monitor.collect_memory_stats()
        assert stats["heap_used_mb"] is not None
        expected = stats["heap_used_mb"] / 4096 * 100
        assert stats["heap_used_percentage"] == pytest.approx(expected)


def test_history(monitor: MemoryMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [monitor.collect_memory_stats() for _ in range(5)]
    assert monitor.get_memory_history() == taken
    assert monitor.get_memory_history(1) == taken
    in_an_hour = time.time() + 3600
    monkeypatch.setattr("time.time", lambda: in_an_hour)
    assert monitor.get_memory_history(61) == taken
    assert monitor.get_memory_history(59.5) == []
    monitor.update_config({"history_size": 3})
    assert monitor.get_memory_history() == taken[2:]
    monitor.reset()
    assert monitor.get_memory_history() == []


def test_trends(monitor: MemoryMonitor) -> None:
    empty = {"direction": "stable", "mb_per_minute": 0.0, "tau": 0.0, "points": 0}
    assert monitor.get_memory_trends() == {
        "trend": "stable",
        "mb_per_minute": 0.0,
        "rss": empty,
        "heap": empty,
    }
    for _ in range(5):
        monitor.collect_memory_stats()
        time.sleep(0.002)
    assert monitor.get_memory_trends()["rss"]["points"] == 5
    assert monitor.get_memory_trends(3)["rss"]["points"] == 3


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, memguard.RangeError),
        (float("nan"), memguard.RangeError),
        (float("inf"), memguard.RangeError),
        ("1", memguard.ConfigTypeError),
        (True, memguard.ConfigTypeError),
    ],
)
def test_numbers_that_cannot_be(
    monitor: MemoryMonitor, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="minutes is"):
        monitor.get_memory_history(value)
    with pytest.raises(error, match="count is"):
        monitor.get_memory_trends(value)


def test_gc_stats(monitor: MemoryMonitor) -> None:
    before = monitor.get_gc_stats()
    monitor.trigger_gc()
    after = monitor.get_gc_stats()
    assert after["collections"] >= before["collections"] + 1
    assert after["triggered"] == 1
    assert after["thresholds"] == gc.get_threshold()
    assert after["enabled"] is True
    assert len(after["generations"]) == len(gc.get_stats())


def test_health(rss_mb: float) -> None:
    config = {"max_memory_mb": 1 << 20, "rss_warning": 1 << 19, "rss_critical": 1 << 19}
    with MemoryMonitor(config) as monitor:
        monitor.stop_monitoring()
        health = monitor.health_check()
        assert health["status"] == "healthy"
        assert health["healthy"] is True
        assert health["issues"] == []
        assert health["recommendations"] == []
        monitor.update_thresholds({"rss_warning": 1, "rss_critical": 2})
        health = monitor.health_check()
        assert health["status"] == "critical"
        assert health["healthy"] is False
        issue = health["issues"][0]
        assert issue["type"] == "rss_critical"
        assert issue["value"] == pytest.approx(rss_mb, abs=64)
        assert health["recommendations"][0] == issue["message"]
        monitor.max_memory_mb = 1
        kinds = [issue["type"] for issue in monitor.health_check()["issues"]]
        assert "usage_critical" in kinds


def test_report(monitor: MemoryMonitor) -> None:
    monitor.register_object_counter("sockets")
    report = monitor.get_memory_report()
    assert list(report) == [
        "timestamp",
        "current",
        "trends",
        "gc",
        "thresholds",
        "counters",
        "history",
        "peak_memory_mb",
        "events_lost",
        "health",
        "recommendations",
    ]
    assert report["history"] == {"count": 1, "capacity": 1000}
    assert report["counters"] == {"sockets": 0}
    assert report["events_lost"] == 0
    assert report["thresholds"]["leak_critical_count"] == 500


@pytest.mark.parametrize("method", ["gc", "aggressive"])
def test_optimize_memory(
    monitor: MemoryMonitor, method: str, memory: Callable[[int], Any]
) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.block = memory(64)

    gc.disable()
    try:
        Cycle()
        report = monitor.optimize_memory(method)
    finally:
        gc.enable()
    assert report["method"] == method
    assert report["success"] is True
    assert report["collected"] >= 1
    assert report["duration_ms"] > 0
    before, after = report["before_stats"], report["after_stats"]
    falls = [before[key] - after[key] for key in ("rss_mb", "heap_used_mb")]
    assert report["freed_memory_mb"] == pytest.approx(max(0, *falls))


def test_optimize_measures_what_was_freed(monitor: MemoryMonitor) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.block = b"x" * (64 << 20)

    gc.disable()
    try:
        Cycle()
        report = monitor.optimize_memory("aggressive")
    finally:
        gc.enable()
    assert report["freed_memory_mb"] > 50


def test_aggressive_optimization_flushes_sinks() -> None:
    written: list[int] = []
    with ResourceManager({"enabled": False}) as manager:
        manager.create_buffer("rows", written.extend).append(1)
        manager.memory_monitor.optimize_memory("gc")
        assert written == []
        manager.memory_monitor.optimize_memory("aggressive")
        assert written == [1]
        with pytest.raises(memguard.InvalidError, match='"gc", "aggressive"'):
            manager.memory_monitor.optimize_memory("magic")


def test_reset(monitor: MemoryMonitor) -> None:
    monitor.register_object_counter("sockets")
    monitor.increment_object_counter("sockets")
    monitor.trigger_gc()
    monitor.check_memory_pressure()
    monitor.collect_memory_stats()
    monitor.reset()
    assert monitor.operation_count == 0
    assert monitor.gc_count == 0
    assert monitor.object_counters == {"sockets": 0}
    assert monitor.get_memory_history() == []


@pytest.mark.parametrize(
    ("ms", "error"),
    [
        (0, memguard.RangeError),
        (-5, memguard.RangeError),
        (1e12, memguard.RangeError),
        (True, memguard.ConfigTypeError),
        ("soon", memguard.ConfigTypeError),
    ],
)
def test_start_monitoring_bad_input(
    monitor: MemoryMonitor, ms: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        monitor.start_monitoring(ms)
    assert not monitor.is_monitoring


def test_shutdown() -> None:
    monitor = MemoryMonitor()
    assert monitor.is_monitoring
    monitor.shutdown()
    monitor.shutdown()
    assert monitor.closed
    assert not monitor.is_monitoring
    for call in (
        monitor.check_memory_pressure,
        monitor.start_monitoring,
        monitor.stop_monitoring,
        monitor.collect_memory_stats,
        monitor.get_current_stats,
        monitor.get_memory_history,
        monitor.get_memory_report,
        monitor.health_check,
        monitor.reset,
        monitor.trigger_gc,
        lambda: monitor.latest,
        lambda: monitor.settings,
        lambda: monitor.max_memory_mb,
        lambda: monitor.operation_count,
    ):
        with pytest.raises(memguard.ClosedError, match="MemoryMonitor is closed"):
            call()


def test_shutdown_of_a_managers_monitor_leaves_the_manager_usable() -> None:
    with ResourceManager() as manager:
        manager.memory_monitor.shutdown()
        assert not manager.memory_monitor.is_monitoring
        assert not manager.closed
        assert manager.create_buffer("rows") == []
        assert 0.0 <= manager.get_memory_pressure() <= 1.0


def test_an_object_that_was_never_opened() -> None:
    monitor = MemoryMonitor.__new__(MemoryMonitor)
    with pytest.raises(memguard.ClosedError, match="__init__ did not run"):
        monitor.check_memory_pressure()
