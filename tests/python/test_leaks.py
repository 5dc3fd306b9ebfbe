"""Every public function, called again and again, leaves nothing behind: no block
of Python, no byte of malloc, no descriptor."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import leak_cases_bus
import leak_cases_detector
import leak_cases_pool
import leak_cases_reuse
import leak_cases_services
import leaks_census
import leaks_optimizer
import leaks_tuning
import memguard
import pytest
from memguard import decide

CALLS = 400
# A leak shows in every round; what a cache takes once does not.
ROUNDS = 6
BLOCKS = CALLS // 4
BYTES = CALLS * 4

FAR = {"max_memory_mb": 1 << 20, "enabled": False}
MIB = 1 << 20


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def malloc_bytes() -> int:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    info = mallinfo2()
    return int(info.uordblks) + int(info.hblkhd)


def usage() -> tuple[int, int, int]:
    gc.collect()
    return sys.getallocatedblocks(), malloc_bytes(), len(os.listdir("/proc/self/fd"))


def grew(function: Callable[[], object]) -> str:
    """Empty, or what grew in each of the rounds."""
    for _ in range(CALLS):
        function()
    found = ""
    for _ in range(ROUNDS):
        before = usage()
        for _ in range(CALLS):
            function()
        blocks, heap, files = (b - a for a, b in zip(before, usage(), strict=True))
        found = f"{blocks} blocks, {heap} bytes, {files} descriptors"
        if blocks < BLOCKS and heap < BYTES and files <= 0:
            return ""
    return found


# ---- what is called ---------------------------------------------------------


class World:
    """Objects for the calls to work on."""

    def __init__(self, folder: Path) -> None:
        self.manager = memguard.ResourceManager(FAR)
        self.monitor = self.manager.memory_monitor
        self.buffers = memguard.BufferManager()
        self.rows = self.manager.create_buffer("rows")
        self.sunk = self.manager.create_buffer("sunk", lambda items: None)
        self.bad = self.manager.create_buffer("bad", self.fail)
        self.buffers.create_buffer("rows")
        self.monitor.register_object_counter("objects")
        self.monitor.on("stats:collected", lambda stats: None)
        self.monitor.register_pressure_callback(lambda: None)
        self.tracker = decide.LevelTracker({})
        self.service = memguard.MemoryOptimizationService(monitor=self.monitor)
        self.service.set_connection_pool(self)
        self.optimizer = decide.Optimizer()
        self.loop = asyncio.new_event_loop()
        self.path = str(folder / "file")
        self.config = str(folder / "config.json")
        Path(self.config).write_text('{"memory": {"max_memory_mb": 100}}')

    def get_stats(self) -> dict[str, int]:
        return {"idle": 1}

    def trim(self) -> None:
        """As a connection pool."""

    def fail(self, items: list[int]) -> None:
        raise ValueError

    def close(self) -> None:
        self.loop.close()
        self.bad.clear()
        self.service.close()
        self.manager.close()
        self.buffers.close()


def refused(error: type[Exception], call: Callable[[], object]) -> None:
    with contextlib.suppress(error):
        call()
        raise AssertionError("not refused")


def flush_rows(w: World) -> None:
    w.rows.extend([1, 2, 3])
    w.manager.flush_buffer("rows")
    w.sunk.extend([1, 2, 3])
    w.manager.flush_buffer("sunk")


def flush_bad(w: World) -> None:
    w.bad[:] = [1, 2, 3]
    refused(ValueError, lambda: w.manager.flush_buffer("bad"))


def managed(w: World) -> None:
    with w.manager.managed_resource(object(), lambda resource: None):
        pass


def failing_clean_ups(w: World) -> None:
    w.manager.register_cleanup_callback(lambda: [][0])
    w.manager.managed_resource(object(), lambda resource: [][0]).__enter__()
    w.manager.cleanup()


def life(w: World) -> None:
    with memguard.ResourceManager() as manager:
        manager.create_buffer("rows", lambda items: None).append(1)
        manager.register_cleanup_callback(lambda: None)
        manager.get_memory_pressure()


def dropped(w: World) -> None:
    class Host:
        def __init__(self) -> None:
            self.manager = memguard.ResourceManager(FAR)
            self.manager.register_cleanup_callback(self.clean)

        def clean(self) -> None:
            self.manager.cleanup()

    Host()


def event(w: World) -> None:
    w.monitor.max_memory_mb = 1
    w.monitor._pass(True)
    w.monitor.check_memory_pressure()
    w.monitor.max_memory_mb = MIB


def stage(w: World) -> None:
    with memguard.StageBase({"resource_manager": FAR}) as made:
        made.cleanup()


def all_buffers(w: World) -> None:
    w.buffers.create_buffer("x", lambda items: None).append(1)
    w.buffers.cleanup_all_buffers()
    w.buffers.create_buffer("rows")


def buffers_alone(w: World) -> None:
    with memguard.BufferManager() as made:
        made.create_buffer("x").append(1)
        made.update_config({"min_buffer_size": 5})


def one_buffer(w: World) -> None:
    w.buffers.create_buffer("x", lambda items: None).append(1)
    stats = w.buffers.buffer_stats["x"]
    w.buffers.cleanup_buffer("x")
    dict(stats)


def shed_callbacks(w: World) -> None:
    with memguard.MemoryMonitor(FAR) as monitor:
        monitor.register_shed_callback(print)


def monitor_life(w: World) -> None:
    with memguard.MemoryMonitor() as monitor:
        monitor.stop_monitoring()
        monitor.start_monitoring()


def listeners(w: World) -> None:
    w.monitor.on("pressure", print)
    w.monitor.off("pressure", print)


def alerting(w: World) -> None:
    channel = w.monitor.alerts.add(memguard.alerts.Callback(print))
    w.monitor.alerts.remove(channel)


def callbacks(w: World) -> None:
    w.monitor.register_pressure_callback(print)
    w.monitor.pressure_callbacks.remove(print)


def counters(w: World) -> None:
    w.monitor.register_object_counter("objects")
    w.monitor.increment_object_counter("objects", 200)
    w.monitor.reset_object_counter("objects")
    refused(KeyError, lambda: w.monitor.increment_object_counter("none"))


def bad_config(w: World) -> None:
    refused(KeyError, lambda: memguard.ResourceManager({"max_memry_mb": 1}))
    refused(TypeError, lambda: memguard.ResourceManager({"max_memory_mb": [1]}))
    refused(ValueError, lambda: w.manager.update_config({"max_memory_mb": -1}))


def temp_files(w: World) -> None:
    Path(w.path).write_text("x")
    w.manager.register_temp_file(w.path)
    list(w.manager.temp_files)
    w.manager.cleanup()


def statistics(w: World) -> None:
    w.manager.get_resource_stats()
    list(w.manager.managed_resources)
    list(w.manager.cleanup_callbacks)


def decisions(w: World) -> None:
    decide.resolve_config({"memory": {"gc_interval": "5m"}}, environ={"A": "b"})
    decide.usage({"rss_bytes": 5, "fd_count": None}, {})
    decide.trend([(0, 1), (1, None), (2, 3)])
    decide.buffer_size_next(5, 0.5, {})
    decide.buffer_flush_at(5, 0.5, {})
    decide.v8_advice(None, 24)
    decide.sample_due_ms(0.5, 0.1, 1000)
    grown = [("heap", 15e3 * i, 1e8 + 2e7 * i) for i in range(30)]
    assert decide.leak_replay(grown)[-1]["tier"] == "likely"
    w.tracker.update(0.5, 1)
    decide.strategy_plan(decide.strategy_for("manual", True))
    decide.freed_bytes((1, None), (0, None))
    w.optimizer.due(now_ms=1, usage=0.5, level="normal")
    w.optimizer.may("manual", False, 1)
    w.optimizer.done("manual", success=True, now_ms=1)
    dict(w.optimizer.state)
    refused(ValueError, lambda: decide.strategy_for("none at all", True))
    refused(TypeError, lambda: decide.trend([5]))  # type: ignore[list-item]
    refused(TypeError, lambda: decide.leak_replay([("heap", "now")]))  # type: ignore[list-item]
    refused(TypeError, lambda: decide.leak_replay([5]))  # type: ignore[list-item]
    str(memguard.MemoryLeakDetected("it grows"))


# Each public name stands in the case that calls it.
CASES: dict[str, tuple[Callable[[World], object], list[str]]] = {
    "functions": (
        lambda w: (memguard.rss_bytes(), memguard.process_info()),
        ["rss_bytes", "process_info"],
    ),
    "load_config": (lambda w: memguard.load_config(w.config), ["load_config"]),
    "dropped manager": (dropped, []),
    "failing clean-ups": (failing_clean_ups, ["ResourceManager.cleanup"]),
    "should_flush_buffer": (
        lambda w: w.manager.should_flush_buffer("rows"),
        ["ResourceManager.should_flush_buffer"],
    ),
    "unknown buffer": (
        lambda w: refused(KeyError, lambda: w.manager.should_flush_buffer("none")),
        [],
    ),
    "flush_buffer": (flush_rows, ["ResourceManager.flush_buffer"]),
    "failing sink": (flush_bad, []),
    "managed_resource": (managed, ["ResourceManager.managed_resource"]),
    "temp files": (
        temp_files,
        ["ResourceManager.register_temp_file", "ResourceManager.temp_files"],
    ),
    "statistics": (
        statistics,
        [
            "ResourceManager.get_resource_stats",
            "ResourceManager.managed_resources",
            "ResourceManager.cleanup_callbacks",
            "ResourceStats",
        ],
    ),
    "settings": (
        lambda w: (
            w.manager.settings,
            w.monitor.settings,
            w.manager.segment_path,
            w.monitor.segment_path,
            w.manager.update_config({"gc_interval": "5m"}),
            w.monitor.update_config({"gc_interval": "6m"}),
        ),
        [
            "ResourceManager.settings",
            "ResourceManager.segment_path",
            "MemoryMonitor.segment_path",
            "ResourceManager.update_config",
            "MemoryMonitor.settings",
            "MemoryMonitor.update_config",
        ],
    ),
    "metrics": (
        lambda w: (memguard.metrics_text(), memguard.collect_metrics()),
        ["metrics_text", "collect_metrics", "Metric", "MetricSample"],
    ),
    "bad config": (bad_config, []),
    "closed": (
        lambda w: (w.manager.closed, w.monitor.closed, w.buffers.closed),
        ["ResourceManager.closed", "MemoryMonitor.closed", "BufferManager.closed"],
    ),
    "stage": (
        stage,
        ["StageBase", "StageBase.initialize", "StageBase.cleanup", "StageBase.close"],
    ),
    "buffers": (
        buffers_alone,
        [
            "BufferManager",
            "BufferManager.close",
            "BufferManager.create_buffer",
            "BufferManager.update_config",
        ],
    ),
    "buffer": (
        one_buffer,
        ["BufferManager.cleanup_buffer", "BufferManager.buffer_stats"],
    ),
    "all buffers": (all_buffers, ["BufferManager.cleanup_all_buffers"]),
    "buffer calls": (
        lambda w: (
            w.buffers.should_flush_buffer("rows", 0.5),
            w.buffers.flush_buffer("rows"),
            dict(w.buffers.active_buffers),
            w.buffers.default_buffer_size,
            w.buffers.max_buffer_size,
            w.buffers.min_buffer_size,
            w.buffers.auto_resize,
        ),
        [
            "BufferManager.should_flush_buffer",
            "BufferManager.flush_buffer",
            "BufferManager.active_buffers",
            "BufferManager.default_buffer_size",
            "BufferManager.max_buffer_size",
            "BufferManager.min_buffer_size",
            "BufferManager.auto_resize",
        ],
    ),
    "events": (event, ["MemoryMonitor.check_memory_pressure"]),
    "listeners": (listeners, ["MemoryMonitor.on", "MemoryMonitor.off"]),
    "alerts": (alerting, ["MemoryMonitor.alerts"]),
    "callbacks": (callbacks, ["MemoryMonitor.register_pressure_callback"]),
    "readings": (
        lambda w: (
            w.monitor.latest.as_dict(),
            repr(w.monitor.latest),
            w.monitor.pressure,
            w.monitor.operation_count,
            w.monitor.peak_memory,
            w.monitor.last_check_time,
            w.monitor.is_monitoring,
            w.monitor.events_lost,
            w.monitor.max_memory_mb,
            w.monitor.pressure_threshold,
            w.monitor.monitoring_interval,
        ),
        [
            "MemoryMonitor.latest",
            "MemoryMonitor.pressure",
            "MemoryMonitor.operation_count",
            "MemoryMonitor.peak_memory",
            "MemoryMonitor.last_check_time",
            "MemoryMonitor.is_monitoring",
            "MemoryMonitor.events_lost",
            "MemoryMonitor.max_memory_mb",
            "MemoryMonitor.pressure_threshold",
            "MemoryMonitor.monitoring_interval",
        ],
    ),
    "stats": (
        lambda w: (w.monitor.collect_memory_stats(), w.monitor.get_current_stats()),
        ["MemoryMonitor.collect_memory_stats", "MemoryMonitor.get_current_stats"],
    ),
    "history": (
        lambda w: (
            w.monitor.reset(),
            w.monitor.collect_memory_stats(),
            w.monitor.get_memory_history(5),
            w.monitor.get_memory_trends(),
        ),
        [
            "MemoryMonitor.reset",
            "MemoryMonitor.get_memory_history",
            "MemoryMonitor.get_memory_trends",
        ],
    ),
    "thresholds": (
        lambda w: w.monitor.update_thresholds({"rss_warning": 500}),
        ["MemoryMonitor.update_thresholds"],
    ),
    "counters": (
        lambda w: (counters(w), w.monitor.object_counters),
        [
            "MemoryMonitor.register_object_counter",
            "MemoryMonitor.increment_object_counter",
            "MemoryMonitor.reset_object_counter",
            "MemoryMonitor.object_counters",
        ],
    ),
    "decisions": (decisions, ["MemoryLeakDetected"]),
}

# These start threads or collect garbage; a few calls tell as much as many.
SLOW_CASES: dict[str, tuple[Callable[[World], object], list[str]]] = {
    "manager": (
        life,
        [
            "ResourceManager",
            "ResourceManager.close",
            "ResourceManager.create_buffer",
            "ResourceManager.get_memory_pressure",
            "ResourceManager.register_cleanup_callback",
        ],
    ),
    "monitor": (
        monitor_life,
        [
            "MemoryMonitor",
            "MemoryMonitor.start_monitoring",
            "MemoryMonitor.stop_monitoring",
            "MemoryMonitor.shutdown",
            "MemoryMonitor.close",
        ],
    ),
    "shed": (shed_callbacks, ["MemoryMonitor.register_shed_callback"]),
    "report": (
        lambda w: (
            w.monitor.reset(),
            w.monitor.health_check(),
            w.monitor.get_memory_report(),
            w.monitor.get_gc_stats(),
            w.monitor.trigger_gc(),
            w.monitor.optimize_memory("aggressive"),
            w.monitor.release_memory(),
            w.monitor.get_reclaim_stats(),
            w.monitor.get_reclaim_history(),
        ),
        [
            "MemoryMonitor.health_check",
            "MemoryMonitor.get_memory_report",
            "MemoryMonitor.get_gc_stats",
            "MemoryMonitor.trigger_gc",
            "MemoryMonitor.optimize_memory",
            "MemoryMonitor.release_memory",
            "MemoryMonitor.get_reclaim_stats",
            "MemoryMonitor.get_reclaim_history",
        ],
    ),
}
CASES |= leaks_optimizer.CASES | leaks_tuning.CASES
SLOW_CASES |= leaks_optimizer.SLOW_CASES | leaks_tuning.SLOW_CASES
CASES |= leaks_census.CASES
SLOW_CASES |= leaks_census.SLOW_CASES

CASES |= leak_cases_detector.CASES
SLOW_CASES |= leak_cases_detector.SLOW_CASES
CASES |= leak_cases_services.CASES
SLOW_CASES |= leak_cases_services.SLOW_CASES
CASES |= leak_cases_bus.CASES | leak_cases_reuse.CASES | leak_cases_pool.CASES
SLOW_CASES |= leak_cases_reuse.SLOW_CASES


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(logging.getLogger("memguard"), "disabled", True)
    made = World(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield made
        made.close()


@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("case", CASES)
def test_no_leak(world: World, case: str) -> None:
    function, _ = CASES[case]
    assert grew(lambda: function(world)) == ""


@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("case", SLOW_CASES)
def test_no_leak_of_slow_ones(
    world: World, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.CALLS", 20)
    monkeypatch.setattr(f"{__name__}.BLOCKS", 5)
    monkeypatch.setattr(f"{__name__}.BYTES", 80)
    function, _ = SLOW_CASES[case]
    assert grew(lambda: function(world)) == ""


@pytest.mark.usefixtures("small_heap")
def test_leaks_are_found() -> None:
    kept: list[Any] = []
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    assert "blocks" in grew(lambda: kept.append(object()))
    assert "bytes" in grew(lambda: libc.malloc(ctypes.c_size_t(600)) and None)
    try:
        assert "descriptors" in grew(lambda: kept.append(os.dup(0)))
    finally:
        for item in kept:
            if isinstance(item, int):
                os.close(item)


def test_every_public_name_is_called() -> None:
    classes = [
        memguard.ResourceManager,
        memguard.MemoryMonitor,
        memguard.BufferManager,
        memguard.StageBase,
        memguard.MemoryOptimizationService,
        memguard.QueueMemory,
        memguard.AsyncManagedConnectionPool,
        memguard.IndicatorCache,
        memguard.ManagedConnectionPool,
        memguard.Registration,
        memguard.ReusePool,
        memguard.RingBuffer,
        memguard.GCTuner,
        memguard.MemoryPool,
        memguard.PooledBuffer,
        memguard.PooledBufferWriter,
        memguard.ObjectPool,
        memguard.FrameWindow,
        memguard.LeakDetector,
        memguard.LeakFinding,
        memguard.FdWatch,
    ]
    public = {
        f"{cls.__name__}.{name}"
        for cls in classes
        for name in dir(cls)
        if not name.startswith("_")
    }
    public |= {
        name
        for name in memguard.__all__
        if not name.endswith("Error") and name not in ("version", "ResourceType")
    }
    public |= {f"PooledArray.{name}" for name in ("return_", "returned")}
    called = {n for case in (*CASES.values(), *SLOW_CASES.values()) for n in case[1]}
    assert public - called == set()
    assert called - public == set()
