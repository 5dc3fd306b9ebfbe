"""Events of a monitor: what raises them, what listeners are given."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import memguard
import pytest
from memguard import MemoryMonitor

Logged = Callable[[], list[str]]

EVENTS = [
    "monitoring:started",
    "monitoring:stopped",
    "stats:collected",
    "threshold:exceeded",
    "trend:rapid-growth",
    "leak:warning",
    "leak:critical",
    "level:changed",
    "pressure",
]


def listen(monitor: MemoryMonitor, *names: str) -> list[tuple[str, dict[str, Any]]]:
    heard: list[tuple[str, dict[str, Any]]] = []
    for name in names:
        monitor.on(name, partial(lambda n, payload: heard.append((n, payload)), name))
    return heard


def test_stats_are_collected(monitor: MemoryMonitor) -> None:
    heard = listen(monitor, *EVENTS)
    stats = monitor.collect_memory_stats()
    assert heard == [("stats:collected", stats)]


def test_monitoring_starts_and_stops() -> None:
    with MemoryMonitor({"enabled": True, "monitor_interval": "20s"}) as monitor:
        monitor.stop_monitoring()
        heard = listen(monitor, "monitoring:started", "monitoring:stopped")
        assert not monitor.is_monitoring
        monitor.start_monitoring()
        assert monitor.is_monitoring
        monitor.start_monitoring(250)
        assert monitor.settings["memory"]["monitor_interval"] == 0.25
        monitor.stop_monitoring()
        monitor.stop_monitoring()
        assert heard == [
            ("monitoring:started", {"interval_ms": 20000}),
            ("monitoring:stopped", {}),
        ]


def test_recorded_in_the_background() -> None:
    with MemoryMonitor({"sample_interval": "10ms"}) as monitor:
        heard = listen(monitor, "stats:collected")
        monitor.start_monitoring(10)
        deadline = time.monotonic() + 30
        while len(heard) < 2 and time.monotonic() < deadline:
            monitor.check_memory_pressure()
            time.sleep(0.01)
        assert len(heard) >= 2
        assert "rss_mb" in heard[0][1]


def test_thresholds(monitor: MemoryMonitor, rss_mb: float) -> None:
    heard = listen(monitor, "threshold:exceeded")
    monitor.update_thresholds({"rss_warning": 1, "rss_critical": 1 << 20})
    monitor.collect_memory_stats()
    (_, payload), *rest = heard
    assert rest == []
    assert payload["level"] == "warning"
    (alert,) = payload["alerts"]
    assert alert["type"] == "rss_warning"
    assert alert["level"] == "warning"
    assert alert["threshold"] == 1
    assert alert["value"] == pytest.approx(rss_mb, abs=64)
    assert alert["message"].startswith("Resident memory")
    assert payload["stats"]["rss_mb"] == alert["value"]
    monitor.update_thresholds({"rssCritical": 2})
    monitor.collect_memory_stats()
    assert heard[-1][1]["level"] == "critical"
    with pytest.raises(memguard.ConflictError):
        monitor.update_thresholds({"rss_warning": 50})
    with pytest.raises(memguard.ConfigKeyError):
        monitor.update_thresholds({"max_memory_mb": 50})


def test_levels(monitor: MemoryMonitor) -> None:
    heard = listen(monitor, "level:changed", "pressure")
    monitor.max_memory_mb = 1
    monitor._pass(False)
    monitor.check_memory_pressure()
    assert [name for name, _ in heard] == ["level:changed", "pressure"]
    level, pressure = heard[0][1], heard[1][1]
    assert (level["level"], level["previous"]) == ("critical", "normal")
    assert level["domain"] == "max_memory"
    assert level["usage"] > 1.0
    assert pressure["pressure"] == 1.0
    assert pressure["domain"] == "max_memory"


def test_object_counters(monitor: MemoryMonitor) -> None:
    heard = listen(monitor, "leak:warning", "leak:critical")
    monitor.update_thresholds({"leak_warning_count": 3, "leak_critical_count": 5})
    monitor.register_object_counter("sockets")
    monitor.register_object_counter("sockets")
    values = [monitor.increment_object_counter("sockets") for _ in range(6)]
    assert values == [1, 2, 3, 4, 5, 6]
    assert [(name, p["key"], p["count"], p["threshold"]) for name, p in heard] == [
        ("leak:warning", "sockets", 3, 3),
        ("leak:critical", "sockets", 5, 5),
    ]
    assert monitor.object_counters == {"sockets": 6}
    assert monitor.increment_object_counter("sockets", -10) == 0
    monitor.increment_object_counter("sockets", 4)
    monitor.reset_object_counter("sockets")
    assert monitor.object_counters == {"sockets": 0}


def test_object_counters_bad_input(monitor: MemoryMonitor) -> None:
    with pytest.raises(memguard.NotFoundError, match="none"):
        monitor.increment_object_counter("none")
    with pytest.raises(memguard.NotFoundError):
        monitor.reset_object_counter("none")
    for bad in ("", "x" * 64, "a\0b"):
        with pytest.raises(memguard.InvalidError):
            monitor.register_object_counter(bad)
    with pytest.raises(memguard.ConfigTypeError):
        monitor.register_object_counter(5)  # type: ignore[arg-type]
    for index in range(256):
        monitor.register_object_counter(f"counter {index}")
    with pytest.raises(memguard.RangeError, match="256"):
        monitor.register_object_counter("one more")
    assert len(monitor.object_counters) == 256


def test_listeners_can_be_taken_away(monitor: MemoryMonitor) -> None:
    heard: list[Any] = []
    monitor.on("stats:collected", heard.append)
    monitor.off("stats:collected", heard.append)
    monitor.off("stats:collected", print)
    monitor.off("nothing", print)
    monitor.collect_memory_stats()
    assert heard == []
    with pytest.raises(memguard.InvalidError, match="stats:collected"):
        monitor.on("stats", heard.append)


def test_a_raising_listener(monitor: MemoryMonitor, logged: Logged) -> None:
    heard: list[Any] = []

    def bad(payload: dict[str, Any]) -> None:
        raise ValueError

    monitor.on("stats:collected", bad)
    monitor.on("stats:collected", heard.append)
    monitor.collect_memory_stats()
    assert len(heard) == 1
    assert len(logged()) == 1
