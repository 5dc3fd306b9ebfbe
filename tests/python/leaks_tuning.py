"""Calls for test_leaks.py: settings of the collector. Each public name stands in
the case that calls it."""

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any

import memguard


def gc_settings(w: Any) -> None:
    with memguard.temporary_gc_settings(profile="aggressive", enabled=True):
        former = memguard.apply_gc_profile("steady")
    gc.set_threshold(*former)
    gc.set_threshold(*memguard.GC_PROFILES["default"])
    with contextlib.suppress(memguard.InvalidError):
        memguard.apply_gc_profile("fast")
        raise AssertionError("not refused")


def tuner_calls(w: Any) -> None:
    tuner = w.manager.gc_tuner
    assert tuner is w.monitor.gc_tuner
    tuner.report_load(0.5)
    tuner.count_operations()
    assert tuner.load == 0.5
    tuner.report()


def tuning(w: Any) -> None:
    loop = asyncio.new_event_loop()
    with memguard.MemoryMonitor({"max_memory_mb": 1 << 20}) as monitor:
        tuner = memguard.GCTuner(monitor)
        tuner.start()
        tuner.watch_loop(loop)
        loop.run_until_complete(asyncio.sleep(0))
        tuner.benchmark(1, ["throughput"])
        tuner.poll()
        assert tuner.is_running
        tuner.stop()
    loop.close()


def freezing(w: Any) -> None:
    memguard.freeze_before_fork()
    memguard.freeze_before_fork(False)
    memguard.freeze()
    memguard.unfreeze()


CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "gc settings": (
        gc_settings,
        ["temporary_gc_settings", "apply_gc_profile", "GC_PROFILES"],
    ),
    "tuner": (
        tuner_calls,
        [
            "ResourceManager.gc_tuner",
            "MemoryMonitor.gc_tuner",
            "GCTuner.report",
            "GCTuner.report_load",
            "GCTuner.load",
            "GCTuner.count_operations",
        ],
    ),
}

SLOW_CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "tuning": (
        tuning,
        [
            "GCTuner",
            "GCTuner.start",
            "GCTuner.stop",
            "GCTuner.poll",
            "GCTuner.benchmark",
            "GCTuner.watch_loop",
            "GCTuner.is_running",
        ],
    ),
    "freezing": (
        freezing,
        ["freeze", "unfreeze", "freeze_before_fork"],
    ),
}
