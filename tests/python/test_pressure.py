"""Buffers under pressure: everything reaches its sink, in order, once."""

import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from memguard import MemoryMonitor, ResourceManager

Logged = Callable[[], list[str]]


def test_full_pressure_flushes_every_sink(full: ResourceManager) -> None:
    written: list[int] = []
    rows = full.create_buffer("rows", written.extend)
    plain = full.create_buffer("plain")
    rows.extend([1, 2])
    plain.append(3)
    assert full.get_memory_pressure() == 1.0
    assert written == [1, 2]
    assert plain == [3]
    assert full.should_flush_buffer("plain")
    assert full.flush_buffer("plain") == [3]


def test_full_pressure_needs_no_callback_threshold() -> None:
    written: list[int] = []
    config = {"max_memory_mb": 1, "pressure_threshold": 1.0, "monitoring_interval": 1}
    with ResourceManager(config) as manager:
        manager.memory_monitor.stop_monitoring()
        rows = manager.create_buffer("rows", written.extend)
        rows.append(1)
        deadline = time.monotonic() + 30
        while not written and time.monotonic() < deadline:
            manager.should_flush_buffer("rows")
    assert written == [1]


def test_full_pressure_costs_the_hot_path_one_delivery_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[None] = []
    deliver = MemoryMonitor._deliver

    def counted(self: MemoryMonitor) -> None:
        calls.append(None)
        deliver(self)

    config = {"max_memory_mb": 1, "pressure_threshold": 1.0, "monitoring_interval": 1}
    with ResourceManager(config) as manager:
        monitor = manager.memory_monitor
        monitor.stop_monitoring()
        manager.create_buffer("rows")
        monkeypatch.setattr(MemoryMonitor, "_deliver", counted)
        for _ in range(5000):
            manager.should_flush_buffer("rows")
        assert 1 <= len(calls) <= 2 * monitor.latest.number + 10


def test_the_hot_path_flushes_when_a_check_is_due(rss_mb: float) -> None:
    written: list[int] = []
    config = {"max_memory_mb": rss_mb * 100, "monitoring_interval": 3}
    with ResourceManager(config) as manager:
        manager.memory_monitor.stop_monitoring()
        rows = manager.create_buffer("rows", written.extend)
        rows.append(1)
        for _ in range(10):
            manager.should_flush_buffer("rows")
        assert written == []
        manager.update_config({"max_memory_mb": 1})
        time.sleep(0.03)  # a sample is fresh for 20 ms
        for _ in range(3):
            manager.should_flush_buffer("rows")
        assert written == [1]


def test_the_hot_path_allocates_nothing(manager: ResourceManager) -> None:
    rows = manager.create_buffer("rows")
    rows.extend(range(50))
    should_flush = manager.should_flush_buffer
    for _ in range(1000):
        should_flush("rows")
    files = os.listdir("/proc/self/fd")
    blocks = sys.getallocatedblocks()
    for _ in itertools.repeat(None, 100_000):
        should_flush("rows")
    assert abs(sys.getallocatedblocks() - blocks) < 10
    assert os.listdir("/proc/self/fd") == files
    assert manager.memory_monitor.operation_count == 101_000


def test_a_failing_sink_under_pressure_is_told_once(
    full: ResourceManager, logged: Logged
) -> None:
    fails = True
    written: list[int] = []

    def sink(items: list[int]) -> None:
        if fails:
            raise ValueError("no")
        written.extend(items)

    rows = full.create_buffer("rows", sink)
    for item in range(3):
        rows.append(item)
        full.memory_monitor._pass(False)
        full.get_memory_pressure()
        time.sleep(0.03)
    assert rows == [0, 1, 2]
    assert len(logged()) == 1
    fails = False
    full.memory_monitor._pass(False)
    full.get_memory_pressure()
    assert written == [0, 1, 2]


def test_a_million_items_through_eight_buffers_under_changing_pressure() -> None:
    rounds, per_round, names = 50, 2500, [f"buffer {i}" for i in range(8)]
    out: dict[str, list[int]] = {name: [] for name in names}
    calls = {"count": 0, "fail_every": 97}
    round_ends = threading.Barrier(len(names) + 1, timeout=60)

    def sink(name: str) -> Callable[[list[int]], None]:
        def run(items: list[int]) -> None:
            calls["count"] += 1
            if calls["count"] % calls["fail_every"] == 0:
                half = len(items) // 2
                out[name].extend(items[:half])
                del items[:half]
                raise OSError("try again")
            out[name].extend(items)

        return run

    def fill(name: str) -> None:
        rows = manager.create_buffer(name, sink(name))
        for item in range(rounds * per_round):
            rows.append(item)
            if manager.should_flush_buffer(name):
                with contextlib.suppress(OSError):
                    manager.flush_buffer(name)
            if item % per_round == 0:
                round_ends.wait()

    def toggle() -> None:
        for turn in range(rounds):
            limit_mb = 1 if turn % 2 else 1 << 20
            manager.update_config({"max_memory_mb": limit_mb})
            manager.memory_monitor._pass(False)
            round_ends.wait()

    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ResourceManager({"sample_interval": "10ms"}) as manager:
            threads = [threading.Thread(target=fill, args=(name,)) for name in names]
            threads.append(threading.Thread(target=toggle))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(100)
            calls["fail_every"] = 1 << 60
    finally:
        sys.setswitchinterval(switch_interval)
    for name in names:
        assert out[name] == list(range(125_000)), name


def test_growth_of_real_memory_flushes(
    memory: Callable[[int], Any], rss_mb: float
) -> None:
    written: list[int] = []
    config = {"max_memory_mb": rss_mb + 120}
    with ResourceManager(config) as manager:
        manager.memory_monitor.stop_monitoring()
        if manager.get_memory_pressure() > 0.9:
            pytest.fail("the machine is too full for this test")
        rows = manager.create_buffer("rows", written.extend)
        rows.append(1)
        manager.memory_monitor._pass(False)
        manager.get_memory_pressure()
        assert written == []
        block = memory(120)
        manager.memory_monitor._pass(False)
        assert manager.get_memory_pressure() > 0.9
        assert written == [1]
        assert manager.memory_monitor.peak_memory > rss_mb + 100
        block.close()
        manager.memory_monitor._pass(False)
        assert manager.get_memory_pressure() < 0.9


def test_a_buffer_at_work_is_not_waited_for(full: ResourceManager) -> None:
    inside = threading.Event()
    go_on = threading.Event()
    written: list[int] = []

    def sink(items: list[int]) -> None:
        inside.set()
        assert go_on.wait(30)
        written.extend(items)

    full.memory_monitor.stop_monitoring()
    rows = full.create_buffer("rows", sink)
    rows.append(1)
    worker = threading.Thread(target=full.flush_buffer, args=("rows",))
    worker.start()
    assert inside.wait(30)
    rows.append(2)
    full.memory_monitor._pass(False)
    assert full.get_memory_pressure() == 1.0
    assert rows == [2]
    go_on.set()
    worker.join(30)
    assert written == [1]


def test_items_stay_in_order_when_a_monitor_flushes_in_the_background() -> None:
    written: list[int] = []
    config = {
        "max_memory_mb": 1,
        "background_callbacks": True,
        "sample_interval": "10ms",
    }
    with ResourceManager(config) as manager:
        rows = manager.create_buffer("rows", written.extend)
        for item in range(300):
            rows.append(item)
            time.sleep(0.0005)
        deadline = time.monotonic() + 30
        while len(written) < 300 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert rows == []
    assert written == list(range(300))


def test_a_monitor_alone_has_no_buffers() -> None:
    with MemoryMonitor({"max_memory_mb": 1}) as monitor:
        assert monitor.check_memory_pressure() == 1.0
