"""MemoryOptimizationService: real memory, real failures. Times of
the scheduler and the degraded mode are in tests/vectors/optimize.json."""

import asyncio
import gc
import json
import mmap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import common
import memguard
import pytest
from memguard import MemoryMonitor, MemoryOptimizationService

MIB = 1 << 20
FAR = {**common.FAR, "strategy_timeout": "20s"}
WAIT_S = 20


@pytest.fixture
def service() -> Iterator[MemoryOptimizationService]:
    with MemoryOptimizationService(FAR) as made:
        yield made


def step_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    (step,) = (step for step in report["optimizations"] if step["name"] == name)
    assert isinstance(step, dict)
    return step


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


class Data:
    """64 MB of a host, which it can do without. Pages of their own: the C library
    may keep those of its heap."""

    def __init__(self) -> None:
        self.block = mmap.mmap(-1, 64 * MIB)
        self.block.write(b"x" * len(self.block))

    def drop(self) -> None:
        self.block.close()


# ---- perform_optimization() -------------------------------------------------


def test_it_reports_what_it_measured(service: MemoryOptimizationService) -> None:
    data = Data()
    told: list[tuple[str, Any]] = []
    for event in ("started", "completed", "failed"):
        name = f"optimization:{event}"
        service.on(name, lambda payload, name=name: told.append((name, payload)))
    service.register_cleanup(data.drop)
    report = service.perform_optimization(aggressive=True)
    assert report["reason"] == "manual"
    assert report["method"] == "aggressive"
    assert report["success"] is True
    before, after = report["before_stats"], report["after_stats"]
    falls = [before[key] - after[key] for key in ("rss_mb", "heap_used_mb")]
    assert report["freed_memory_mb"] == pytest.approx(max(falls))
    assert report["freed_memory_mb"] > 50
    assert report["duration_ms"] > 0
    assert step_of(report, "Data.drop")["outcome"] == "done"
    assert step_of(report, "Data.drop")["freed_memory_mb"] > 50
    assert [name for name, _ in told] == [
        "optimization:started",
        "optimization:completed",
    ]
    assert told[0][1]["method"] == "aggressive"
    assert told[1][1] is report
    assert service.get_optimization_history() == [report]


def test_garbage_is_collected(service: MemoryOptimizationService) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.block = b"x" * (64 * MIB)

    gc.disable()
    try:
        Cycle()
        report = service.perform_optimization()
    finally:
        gc.enable()
    assert report["freed_memory_mb"] > 50
    assert report["collected"] >= 1
    assert step_of(report, "full")["outcome"] == "done"
    assert step_of(report, "trim")["outcome"] == "done"


@pytest.mark.parametrize(
    ("reason", "aggressive", "method", "cleans"),
    [
        ("manual", False, "standard", 1),
        ("scheduled", False, "standard", 1),
        ("emergency", False, "aggressive", 1),
        ("preventive", False, "preventive", 0),
        ("preventive", True, "aggressive", 1),
    ],
)
def test_strategies(
    service: MemoryOptimizationService,
    reason: str,
    aggressive: bool,
    method: str,
    cleans: int,
) -> None:
    class Pool:
        trimmed = 0

        def get_stats(self) -> dict[str, int]:
            return {"active": 1, "idle": 2}

        def release_idle(self) -> None:
            self.trimmed += 1

    cleaned, pool = [], Pool()
    service.register_cleanup(lambda: cleaned.append(1))
    service.set_connection_pool(pool)
    report = service.perform_optimization(reason, aggressive=aggressive)
    assert (report["reason"], report["method"]) == (reason, method)
    assert report["success"] is True
    assert (len(cleaned), pool.trimmed) == (cleans, cleans)


def test_aggressive_flushes_buffers() -> None:
    written: list[int] = []
    with memguard.ResourceManager(FAR) as manager:
        manager.create_buffer("rows", written.extend).append(1)
        with MemoryOptimizationService(monitor=manager.memory_monitor) as service:
            service.perform_optimization()
            assert written == []
            service.perform_optimization(aggressive=True)
            assert written == [1]


def test_bad_input(service: MemoryOptimizationService) -> None:
    def run(reason: Any = "manual", **flags: Any) -> None:
        service.perform_optimization(reason, **flags)

    with pytest.raises(memguard.InvalidError, match="bored"):
        run("bored")
    with pytest.raises(memguard.ConfigTypeError, match="force is 1"):
        run(force=1)
    with pytest.raises(memguard.ConfigTypeError, match="aggressive is 'yes'"):
        run(aggressive="yes")
    with pytest.raises(memguard.ConfigKeyError, match="max_memory_mb"):
        MemoryOptimizationService({"max_memry_mb": 1})
    with pytest.raises(memguard.ConfigTypeError, match="MemoryMonitor"):
        MemoryOptimizationService(monitor=5)  # type: ignore[arg-type]
    with pytest.raises(memguard.InvalidError, match="service:started"):
        service.on("service:begun", print)
    with pytest.raises(memguard.ConfigTypeError, match="callable"):
        service.on("service:started", 5)  # type: ignore[arg-type]
    with pytest.raises(memguard.RangeError, match="count"):
        service.get_optimization_history(-1)
    with pytest.raises(memguard.ConfigTypeError, match="count"):
        service.get_usage_snapshots("x")  # type: ignore[arg-type]
    service.close()
    service.close()
    for call in (run, service.start, service.create_usage_snapshot):
        with pytest.raises(memguard.ClosedError):
            call()
    assert service.get_service_stats()["total"] == 0


def test_a_failing_listener_stops_nothing(
    service: MemoryOptimizationService, logged: Callable[[], list[str]]
) -> None:
    told = []

    def fail(report: dict[str, Any]) -> None:
        raise ValueError

    service.on("optimization:completed", fail)
    service.on("optimization:completed", told.append)
    report = service.perform_optimization()
    assert told == [report]
    assert len(logged()) == 1
    service.off("optimization:completed", fail)
    service.perform_optimization()
    assert logged() == []


def test_a_monitor_closed_under_it_fails_the_report_only() -> None:
    monitor = MemoryMonitor(FAR)
    service = MemoryOptimizationService(monitor=monitor)
    service.register_cleanup(monitor.close)
    report = service.perform_optimization()
    assert report["success"] is False
    assert report["error"] == "ERR_MEMGUARD_CLOSED"
    service.close()


def test_in_an_event_loop(service: MemoryOptimizationService) -> None:
    report = asyncio.run(service.aperform_optimization("scheduled"))
    assert report["reason"] == "scheduled"


# ---- strategies of the host -------------------------------------------------


def test_priorities_and_context(service: MemoryOptimizationService) -> None:
    calls: list[Any] = []

    def note(name: str) -> Callable[[dict[str, Any]], None]:
        def call(context: dict[str, Any]) -> None:
            calls.append((name, context["reason"], context["aggressive"]))
            calls.append(context["cancelled"]())

        return call

    service.register_strategy("last", note("last"), priority=-1)
    service.register_strategy("after", note("after"))
    service.register_strategy("first", note("first"), priority=9)
    report = service.perform_optimization()
    names = [step["name"] for step in report["optimizations"]]
    assert names[0] == "first"
    assert names[-2:] == ["after", "last"]
    assert "full" in names
    assert calls[:2] == [("first", "manual", False), False]
    assert service.unregister_strategy("first") is True
    assert service.unregister_strategy("first") is False
    assert service.get_service_stats()["strategies"] == ["after", "last"]


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What a hanging strategy waits for; set at the end, however the test ends."""
    event = threading.Event()
    yield event
    event.set()


def test_failing_and_hanging_ones_are_isolated(
    service: MemoryOptimizationService,
    logged: Callable[[], list[str]],
    release: threading.Event,
) -> None:
    service.update_config({"strategy_timeout": "2s"})
    cancelled: list[Callable[[], bool]] = []
    failed: list[Any] = []

    def fail() -> None:
        raise RuntimeError("card of bob")

    def leave() -> None:
        raise SystemExit("bob")

    def hang(context: dict[str, Any]) -> None:
        cancelled.append(context["cancelled"])
        release.wait(WAIT_S)

    service.on("optimization:failed", failed.append)
    service.register_strategy("fails", fail, priority=3)
    service.register_strategy("leaves", leave, priority=2)
    service.register_strategy("hangs", hang, priority=1)
    service.register_strategy("works", lambda: None)
    report = service.perform_optimization()
    assert report["success"] is False
    assert step_of(report, "fails")["outcome"] == "failed"
    assert step_of(report, "fails")["error"] == "RuntimeError"
    assert step_of(report, "leaves")["error"] == "SystemExit"
    assert step_of(report, "hangs")["outcome"] == "timeout"
    assert step_of(report, "full")["outcome"] == "done"
    assert step_of(report, "works")["outcome"] == "done"
    assert cancelled[0]() is True
    assert failed == [report]
    second = service.perform_optimization()
    assert step_of(second, "hangs")["outcome"] == "skipped"
    assert step_of(second, "hangs")["error"] == "busy"
    messages = logged()
    assert len(messages) == 3
    assert "RuntimeError at test_optimizer.py:" in messages[0]
    assert "bob" not in json.dumps(service.get_optimization_history())
    assert not any("bob" in message for message in messages)
    release.set()
    until(lambda: "memguard-strategy" not in [t.name for t in threading.enumerate()])
    assert step_of(service.perform_optimization(), "hangs")["outcome"] == "done"
    assert len(cancelled) == 2


def test_bad_strategies(service: MemoryOptimizationService) -> None:
    async def later() -> None: ...

    service.register_strategy("mine", print)
    for name in ("mine", "standard"):
        with pytest.raises(memguard.ExistsError, match=name):
            service.register_strategy(name, print)
    with pytest.raises(memguard.ConfigTypeError, match="callable"):
        service.register_strategy("x", 5)  # type: ignore[arg-type]
    with pytest.raises(memguard.ConfigTypeError, match="name"):
        service.register_strategy(5, print)  # type: ignore[arg-type]
    with pytest.raises(memguard.ConfigTypeError, match="priority"):
        service.register_strategy("x", print, priority="high")  # type: ignore[arg-type]
    with pytest.raises(memguard.ConfigTypeError, match="async"):
        service.register_cleanup(later)
    with pytest.raises(memguard.ConfigTypeError, match="get_stats"):
        service.set_connection_pool(object())
    service.register_cleanup(print)
    assert service.unregister_cleanup(print) is True
    assert service.unregister_cleanup(print) is False


# ---- one at a time ----------------------------------------------------------


def test_who_asks_meanwhile_shares_the_report(
    service: MemoryOptimizationService,
) -> None:
    entered, release = threading.Event(), threading.Event()
    running: list[int] = []

    def hold() -> None:
        running.append(1)
        entered.set()
        release.wait(WAIT_S)

    service.register_strategy("holds", hold)
    reports: list[dict[str, Any]] = []

    def ask(**flags: bool) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: reports.append(service.perform_optimization(**flags))
        )
        thread.start()
        return thread

    threads = [ask()]
    assert entered.wait(WAIT_S)
    assert service.get_service_stats()["is_optimizing"] is True
    threads += [ask(), ask(force=True), ask(force=True)]
    time.sleep(0.05)  # whoever comes later shares as well
    assert running == [1]
    release.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(reports) == 4
    different = {id(report) for report in reports}
    assert len(different) == service.get_service_stats()["total"] == len(running)
    assert 2 <= len(different) <= 3


def test_from_inside_another_it_is_refused(service: MemoryOptimizationService) -> None:
    inner: list[dict[str, Any]] = []

    def ask(*args: object) -> None:
        inner.append(service.perform_optimization(force=True))
        service.stop()

    service.on("optimization:started", ask)
    service.register_cleanup(ask)
    assert service.perform_optimization()["success"] is True
    assert [report["refused"] for report in inner] == ["busy", "busy"]
    assert inner[0]["optimizations"] == []


# ---- the degraded mode ------------------------------------------------------


def test_degraded_and_back(service: MemoryOptimizationService) -> None:
    is_broken = [True]

    def breaks() -> None:
        if is_broken:
            raise ValueError

    service.register_strategy("breaks", breaks)
    for _ in range(3):
        assert service.perform_optimization("scheduled")["success"] is False
    stats = service.get_service_stats()
    assert (stats["degraded"], stats["failures_in_row"], stats["failed"]) == (
        True,
        3,
        3,
    )
    assert stats["success_rate"] == 0
    assert stats["resumes_in_ms"] > 0
    health = service.health_check()
    assert (health["degraded"], health["healthy"]) == (True, False)
    assert any("paused" in text for text in health["recommendations"])
    for reason in ("scheduled", "preventive", "emergency"):
        report = service.perform_optimization(reason)
        assert (report["reason"], report["refused"]) == (reason, "degraded")
        assert (report["success"], report["optimizations"]) == (False, [])
    stats = service.get_service_stats()
    assert (stats["total"], stats["refused"]) == (3, 3)
    is_broken.clear()
    assert service.perform_optimization("emergency", force=True)["success"] is True
    stats = service.get_service_stats()
    assert (stats["degraded"], stats["resumes_in_ms"]) == (False, None)
    assert (stats["total"], stats["succeeded"]) == (4, 1)
    assert service.health_check()["degraded"] is False


# ---- by itself --------------------------------------------------------------


def test_emergency_at_critical() -> None:
    tight = {"max_memory_mb": 1, "rss_warning": 1, "rss_critical": 1}
    with MemoryOptimizationService(tight) as service:
        reports: list[dict[str, Any]] = []
        alerts: list[str] = []
        service.on("optimization:completed", reports.append)
        service.on(
            "alert:memory-threshold", lambda event: alerts.append(event["level"])
        )
        service.start()
        monitor = service.get_memory_monitor()
        until(lambda: monitor.check_memory_pressure() == 1 and reports)
        assert reports[0]["reason"] == "emergency"
        assert reports[0]["method"] == "aggressive"
        assert "critical" in alerts
        service.stop()
        assert service.get_service_stats()["by_reason"]["emergency"] == 1
    assert not any(t.name.startswith("memguard") for t in threading.enumerate())


def test_scheduled_at_the_threshold() -> None:
    config = {
        "low_water_mark_percent": 0.01,
        "threshold": "1%",
        "alert_threshold": 100,
        "force_gc_threshold": 100,
        "max_memory_mb": 1024,
    }
    with MemoryOptimizationService(config) as service:
        reports: list[str] = []
        service.on("optimization:completed", lambda r: reports.append(r["reason"]))
        service.start()
        service.get_memory_monitor().collect_memory_stats()
        until(lambda: reports)
        service.stop()
        assert reports == ["scheduled"]


def test_nothing_with_auto_optimization_off() -> None:
    config = {"max_memory_mb": 1, "memoryOptimization": {"autoOptimization": False}}
    with MemoryOptimizationService(config) as service:
        service.start()
        service.get_memory_monitor().check_memory_pressure()
        service.get_memory_monitor().collect_memory_stats()
        service.stop()
        assert service.get_service_stats()["total"] == 0


def test_life_and_leaks(service: MemoryOptimizationService) -> None:
    told: list[Any] = []
    for name in ("service:started", "service:stopped", "alert:memory-leak"):
        service.on(name, lambda p, name=name: told.append((name, p.get("level"))))
    monitor = service.get_memory_monitor()
    assert monitor.is_monitoring is False
    service.start()
    service.start()
    assert monitor.is_monitoring is True
    monitor.register_object_counter("sockets")
    monitor.increment_object_counter("sockets", 200)
    monitor.increment_object_counter("sockets", 400)
    service.stop()
    service.stop()
    assert told == [
        ("service:started", None),
        ("alert:memory-leak", "warning"),
        ("alert:memory-leak", "critical"),
        ("service:stopped", None),
    ]
    assert monitor.is_monitoring is False
    assert not any(monitor._listeners.values())
    service.start()
    assert service.get_service_stats()["is_running"] is True


def test_a_monitor_of_the_host_goes_on() -> None:
    with MemoryMonitor(FAR) as monitor:
        with MemoryOptimizationService({"threshold": 70}, monitor=monitor) as service:
            service.start()
            assert monitor.settings["memory"]["high_water_mark_percent"] == 70
        assert monitor.is_monitoring is True
        assert not monitor.closed


def test_left_open_at_exit(run_child: Callable[..., str]) -> None:
    code = """
        import memguard, threading, time
        service = memguard.MemoryOptimizationService(
            {"max_memory_mb": 1, "strategy_timeout": "50ms"})
        service.register_strategy("hangs", lambda: threading.Event().wait(30))
        service.start()
        service.perform_optimization()
        service.get_memory_monitor().check_memory_pressure()
        print("end")
    """
    assert run_child(code, stderr="did not end in time") == "end\n"


def test_after_a_fork(run_child: Callable[..., str]) -> None:
    code = """
        import memguard, os, threading
        service = memguard.MemoryOptimizationService({"strategy_timeout": "10s"})
        entered, release = threading.Event(), threading.Event()
        def hold():
            entered.set()
            release.wait(20)
        service.register_strategy("holds", hold)
        thread = threading.Thread(target=service.perform_optimization)
        thread.start()
        entered.wait(20)
        child = os.fork()
        if child == 0:
            release.set()
            done = service.perform_optimization()["success"]
            os._exit(0 if done else 1)
        print(os.waitpid(child, 0)[1])
        release.set()
        thread.join()
        service.close()
    """
    assert run_child(code, "-W", "ignore") == "0\n"


# ---- what was seen ----------------------------------------------------------


def test_snapshots_hold_no_data_of_the_host(service: MemoryOptimizationService) -> None:
    class Pool:
        def get_stats(self) -> dict[str, Any]:
            return {"active": 3, "idle": 4, "user": "bob", "hosts": ["h"]}

    service.set_connection_pool(Pool())
    snapshot = service.create_usage_snapshot()
    assert snapshot["connection_pool"] == {"active": 3, "idle": 4}
    assert snapshot["stats"]["rss"] > MIB
    assert snapshot["level"] == "normal"
    assert "bob" not in json.dumps(snapshot)
    for _ in range(120):
        service.create_usage_snapshot()
    assert len(service.get_usage_snapshots()) == 100
    assert len(service.get_usage_snapshots(2)) == 2
    assert service.get_usage_snapshots(0) == []


def test_a_pool_that_raises(service: MemoryOptimizationService) -> None:
    class Pool:
        def get_stats(self) -> dict[str, int]:
            raise ValueError

        def trim(self) -> None:
            raise KeyError

    service.set_connection_pool(Pool())
    assert service.create_usage_snapshot()["connection_pool"] is None
    report = service.perform_optimization()
    assert step_of(report, "connection-pool")["error"] == "KeyError"
    service.set_connection_pool(None)
    assert service.perform_optimization()["success"] is True


def test_history_keeps_the_newest_hundred(service: MemoryOptimizationService) -> None:
    for _ in range(103):
        service.perform_optimization("preventive")
    history = service.get_optimization_history()
    assert len(history) == 100
    assert service.get_optimization_history(5) == history[-5:]
    stats = service.get_service_stats()
    assert stats["total"] == stats["by_reason"]["preventive"] == 103
    assert stats["success_rate"] == 1
    assert stats["average_duration_ms"] <= stats["max_duration_ms"]
    assert stats["last_optimization"] == history[-1]["timestamp"]


def test_settings_by_the_names_of_memory_optimization() -> None:
    with MemoryOptimizationService(profile="queue-production") as service:
        assert service.get_config() == {
            "enabled": True,
            "auto_optimization": True,
            "threshold": 85,
            "interval_ms": 60000,
            "max_heap_size_mb": 4096,
            "max_rss_size_mb": 8192,
        }
        service.update_config({"threshold": 70, "interval_ms": 5000})
        service.update_config({"memoryOptimization": {"maxRSSSizeMB": 2048}})
        config = service.get_config()
        assert (config["threshold"], config["interval_ms"]) == (70, 5000)
        assert config["max_rss_size_mb"] == 2048
        with pytest.raises(memguard.ConfigKeyError, match="threshold"):
            service.update_config({"threshhold": 1})
