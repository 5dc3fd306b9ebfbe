"""The handle of the leak detector: what it is told, asks for, finds and says."""

import gc
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import memguard
import pytest
from memguard import MemoryMonitor, _core

WAIT_SECONDS = 30  # a bound against hanging, never a measure
SETTINGS = {
    "sample_interval": "10ms",
    "leak": {"time_scale": 1000, "critical_within": 0},
}
MB = 1048576


@pytest.fixture
def monitor() -> Iterator[MemoryMonitor]:
    with MemoryMonitor(SETTINGS, environment=False) as made:
        made.stop_monitoring()
        yield made


@pytest.fixture
def detector(monitor: MemoryMonitor) -> Iterator[_core.Detector]:
    made = _core.Detector()
    made._open(monitor, ["collect", "census_base", "census"])
    yield made
    made._close()


def until(step: Callable[[], object]) -> Any:
    """What `step` returns once that is true."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if result := step():
            return result
        time.sleep(0.005)
    raise AssertionError("waited too long")


def growing(monitor: MemoryMonitor, detector: _core.Detector) -> Callable[[], None]:
    """A heap of 20 MB and 0.5 MB more each ms, as told after full collections."""
    began = time.monotonic()

    def step() -> None:
        ms = (time.monotonic() - began) * 1000
        detector._collected(20 * MB + int(ms * 500_000), None, 1.0)
        monitor._pass(False)

    return step


def heard(monitor: MemoryMonitor, event: str) -> list[dict[str, Any]]:
    payloads: list[dict[str, Any]] = []
    monitor.on(event, payloads.append)
    return payloads


def found(detector: _core.Detector, signal: str) -> dict[str, Any] | None:
    rows = [f for f in detector._findings() if f["signal"] == signal]
    return rows[0] if rows else None


def test_a_leak_is_told_and_explained(
    monitor: MemoryMonitor, detector: _core.Detector
) -> None:
    warnings, step, asked = (
        heard(monitor, "leak:warning"),
        growing(monitor, detector),
        [],
    )

    def look() -> dict[str, Any] | None:
        step()
        monitor.check_memory_pressure()
        if detector._has_request:
            asked.append(detector._request())
        numbers = [w["finding"] for w in warnings]
        finding = found(detector, "heap")
        return finding if finding and finding["number"] in numbers else None

    finding = until(look)
    assert finding["tier"] in ("likely", "confirmed")
    assert (finding["unit"], finding["is_critical"]) == ("bytes", False)
    assert finding["growth"] >= 4 * MB
    assert finding["to_limit_ms"] > 0
    assert (["census_base"], "heap") in [
        ([r for r in requests if r == "census_base"], signal)
        for requests, signal in asked
    ]
    warning = next(w for w in warnings if w["finding"] == finding["number"])
    assert (warning["key"], warning["count"]) == ("", 0)

    culprit = ("type", "app.Session", 10, 100, 20, 0.75)
    assert detector._culprits("heap", [culprit]) is True
    explained = detector._finding(finding["number"])
    assert explained is not None
    assert explained["culprits"] == [
        {
            "kind": "type",
            "name": "app.Session",
            "growth": 10,
            "growth_bytes": 100,
            "count": 20,
            "share": 0.75,
        }
    ]
    assert explained["advice"][1] == (
        "in the process: import objgraph; objgraph.show_backrefs("
        f"objgraph.by_type('app.Session')[-3:], filename='backrefs-{os.getpid()}.png')"
    )


def test_full_collections_are_seen(
    monitor: MemoryMonitor, detector: _core.Detector
) -> None:
    monitor.start_monitoring()
    before = detector._stats()["collections"]
    gc.collect(0)
    gc.collect(1)
    gc.collect()
    gc.collect()
    assert detector._stats()["collections"] == before + 2
    detector._request()  # tells blocks
    assert detector._stats()["collections"] == before + 2


def test_native_memory_is_known_where_blocks_are_counted(
    monitor: MemoryMonitor, detector: _core.Detector
) -> None:
    monitor.start_monitoring()
    detector._check()
    stats = detector._stats()
    assert stats["private_bytes"] > MB
    assert stats["native_bytes"] is not None
    assert stats["pipes"] >= 0
    assert stats["wide"] >= 1
    assert math.isnan(stats["fd_growth_per_minute"])


def test_many_descriptors(monitor: MemoryMonitor) -> None:
    few = {"fd_warning_count": 300, "fd_growth_per_minute": 1e9}
    monitor.update_config({"leak": few})
    detector = _core.Detector()
    detector._open(monitor, [])
    warnings = heard(monitor, "fd:warning")
    held = [os.dup(0) for _ in range(300)]
    try:
        for _ in range(3):
            monitor.check_memory_pressure()
            monitor._pass(False)
    finally:
        for fd in held:
            os.close(fd)
    monitor.check_memory_pressure()
    assert len(warnings) == 1
    assert warnings[0]["count"] >= 300
    assert warnings[0]["threshold"] == 300
    detector._close()


def test_a_pause(monitor: MemoryMonitor, detector: _core.Detector) -> None:
    assert detector._active
    detector._set_active(False)
    assert not detector._active
    samples = detector._stats()["samples"]
    monitor._pass(False)
    assert detector._stats()["samples"] == samples
    detector._set_active(True)
    assert detector._active


def test_one_detector_of_a_monitor(
    monitor: MemoryMonitor, detector: _core.Detector
) -> None:
    other = _core.Detector()
    with pytest.raises(memguard.ClosedError, match="was not opened"):
        other._check()
    with pytest.raises(memguard.ExistsError):
        other._open(monitor, [])
    detector._close()
    detector._close()
    assert detector._closed
    assert not detector._active
    with pytest.raises(memguard.ClosedError, match="LeakDetector is closed"):
        detector._findings()
    other._open(monitor, [])
    monitor.shutdown()
    other._check()
    assert not other._active
    other._close()


def test_wrong_arguments(monitor: MemoryMonitor, detector: _core.Detector) -> None:
    with pytest.raises(memguard.InvalidError, match='unknown request "sleep"'):
        _core.Detector()._open(monitor, ["sleep"])
    with pytest.raises(memguard.MemguardError, match="a signal"):
        detector._culprits("heaps", [])
    with pytest.raises(memguard.MemguardError, match="a culprit's kind"):
        detector._culprits("heap", [("kind", "n", 1, 1, 1, 0.5)])
    with pytest.raises(TypeError, match="a culprit must be a tuple"):
        detector._culprits("heap", [3])  # type: ignore[list-item]
    with pytest.raises(memguard.InvalidError, match="series 3 is not told"):
        detector._tell("rss", 5)
    detector._tell("handles", 5)
    detector._tell("connections", None)
    assert detector._culprits("heap", [("type", "dict", 1, 1, 1, 0.5)]) is False
    assert detector._finding(1) is None


def test_a_forked_child_begins_anew(
    monitor: MemoryMonitor, detector: _core.Detector
) -> None:
    monitor.start_monitoring()
    detector._check()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            detector._check()
            gc.collect()
            if detector._findings() == [] and detector._stats()["private_bytes"] > MB:
                code = 0
            detector._close()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert detector._active
