"""Calls for test_leaks.py: looking for leaks. Each public name stands in the case
that calls it."""

import gc
from collections.abc import Callable
from typing import Any

import memguard
from memguard import leak

FAR = {"max_memory_mb": 1 << 20}


def detector(w: Any) -> None:
    with memguard.LeakDetector(FAR) as made:
        made.on("leak:warning", print)
        made.off("leak:warning", print)
        made.tell("connections", 3)
        made.check()
        assert (made.is_running, made.closed, made.errors) == (True, False, 0)
        assert made.findings == []
        assert made.report() == "no leak found"
        assert made.as_dict()["leak_detection"] == []
        assert made.stats()["wide"] >= 1
        made.stop()
        made.start()
    made.close()


def joined(w: Any) -> None:
    found = w.manager.leak_detector
    assert found is w.monitor.leak_detector
    found.close()


def descriptors(w: Any) -> None:
    with memguard.FdWatch(monitor=w.monitor, cleanup=print) as watch:
        watch.targets()
        watch.count  # noqa: B018
        assert (watch.warnings, watch.failures) == (0, 0)
        assert watch.growth_per_minute is None
    watch.close()
    w.monitor.leak_detector.close()


def calls(w: Any) -> None:
    gc.freeze()  # or the heap of all tests is collected again and again
    try:
        memguard.assert_no_leak(list, iterations=4)
        assert memguard.find_leaks(list, iterations=4) == []
    finally:
        gc.unfreeze()


def findings(w: Any) -> None:
    culprit = memguard.LeakCulprit("type", "app.Session", 3)
    finding = memguard.LeakFinding(
        "blocks", "likely", "low", 3, 1, "count", culprits=(culprit,)
    )
    finding.as_dict()
    error = leak.leak_error("it", [finding])
    assert isinstance(error, memguard.MemoryLeakDetected)


CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "findings": (
        findings,
        [
            "LeakCulprit",
            "LeakFinding",
            "MemoryLeakDetected",
            "LeakFinding.as_dict",
            *(
                f"LeakFinding.{name}"
                for name in (
                    "advice",
                    "calls",
                    "culprits",
                    "since",
                    "time_to_limit_seconds",
                )
            ),
        ],
    ),
}

SLOW_CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "leak detector": (
        detector,
        [
            "LeakDetector",
            *(
                f"LeakDetector.{name}"
                for name in (
                    "as_dict",
                    "check",
                    "close",
                    "closed",
                    "errors",
                    "findings",
                    "is_running",
                    "off",
                    "on",
                    "report",
                    "start",
                    "stats",
                    "stop",
                    "tell",
                )
            ),
        ],
    ),
    "joined leak detector": (
        joined,
        ["MemoryMonitor.leak_detector", "ResourceManager.leak_detector"],
    ),
    "descriptors": (
        descriptors,
        [
            "FdWatch",
            *(
                f"FdWatch.{name}"
                for name in (
                    "close",
                    "count",
                    "failures",
                    "growth_per_minute",
                    "targets",
                    "warnings",
                )
            ),
        ],
    ),
    "calls": (calls, ["assert_no_leak", "find_leaks"]),
}
