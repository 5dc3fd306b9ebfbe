"""MemoryMonitor: readings, callbacks, events, the monitoring API."""

import gc
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import memguard
import psutil
import pytest
from memguard import MemoryMonitor, ResourceManager

Logged = Callable[[], list[str]]


def press(monitor: MemoryMonitor) -> None:
    """A new sample, and what follows from it."""
    monitor._pass(False)
    monitor.check_memory_pressure()


# ---- readings ---------------------------------------------------------------


def test_defaults() -> None:
    with MemoryMonitor() as monitor:
        assert monitor.max_memory_mb == 2048
        assert monitor.pressure_threshold == 0.8
        assert monitor.monitoring_interval == 100
        assert monitor.operation_count == 0
        assert monitor.gc_count == 0
        assert monitor.pressure_callbacks == []


def test_the_config_of_a_section_flat_or_nested() -> None:
    section = {"max_memory_mb": 4096, "pressure_threshold": 0.85}
    for config in (section, {"memory_monitor": section}):
        with MemoryMonitor(config) as monitor:
            assert monitor.max_memory_mb == 4096
            assert monitor.pressure_threshold == 0.85


def test_pressure_is_the_share_of_the_limit(rss_mb: float) -> None:
    with MemoryMonitor({"max_memory_mb": rss_mb * 1.25}) as monitor:
        assert monitor.check_memory_pressure() == pytest.approx(0.8, abs=0.1)
        assert monitor.latest.domain == "max_memory"
        monitor.max_memory_mb = 1
        monitor._pass(False)
        assert monitor.check_memory_pressure() == 1.0
        assert monitor.latest.usage > 1.0


def test_attributes_follow_checks(monitor: MemoryMonitor, rss_mb: float) -> None:
    before = time.time()
    for _ in range(3):
        monitor.check_memory_pressure()
    assert monitor.operation_count == 3
    assert before - 1 <= monitor.last_check_time <= time.time() + 1
    assert monitor.peak_memory == pytest.approx(rss_mb, abs=64)
    assert monitor.pressure == monitor.latest.pressure


def test_before_the_first_sample() -> None:
    with MemoryMonitor({"enabled": False}) as monitor:
        assert monitor.latest.number == 0
        assert monitor.latest.rss_bytes is None or monitor.latest.rss_bytes == 0
        assert monitor.peak_memory == 0.0
        assert monitor.last_check_time == 0.0
        assert monitor.get_current_stats()["rss"] is not None


def test_a_sample() -> None:
    monitor = MemoryMonitor({"enabled": False})
    sample = monitor._pass(True)
    assert sample.number == 1
    assert sample.level == "normal"
    assert sample.domain in ("max_memory", "machine", "cgroup", "address", "data")
    assert sample.heap_used_bytes is None
    assert abs(sample.clock_ns - time.monotonic_ns()) < 60e9
    fields = sample.as_dict()
    assert fields["number"] == 1
    assert fields["rss_bytes"] == sample.rss_bytes
    assert fields == {name: getattr(sample, name) for name in fields}
    assert repr(sample).startswith("<memguard.Sample 1 usage=0.")
    assert monitor.latest.clock_ns == sample.clock_ns
    with pytest.raises(AttributeError):
        sample.number = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        type(sample)()


def test_readings_agree_with_psutil(monitor: MemoryMonitor) -> None:
    process = psutil.Process()
    sample = monitor._pass(False)
    assert sample.rss_bytes == pytest.approx(process.memory_info().rss, rel=0.2)
    assert sample.virtual_bytes == pytest.approx(process.memory_info().vms, rel=0.2)
    assert sample.fd_count == pytest.approx(process.num_fds(), abs=4)
    assert sample.thread_count == process.num_threads()
    total = psutil.virtual_memory().total
    assert sample.machine_total_bytes == pytest.approx(total, rel=0.001)
    assert memguard.rss_bytes() == pytest.approx(process.memory_info().rss, rel=0.2)


def test_process_info() -> None:
    info = memguard.process_info()
    assert info["threads"] is not None
    assert info["threads"] >= 1
    assert info["rss_peak_bytes"] is not None
    assert info["rss_peak_bytes"] >= 5 * 1048576
    assert set(info) == {
        "rss_peak_bytes",
        "rss_anonymous_bytes",
        "rss_file_bytes",
        "rss_shared_bytes",
        "swap_bytes",
        "locked_bytes",
        "major_faults",
        "minor_faults",
        "threads",
        "cpu_ms",
        "machine_total_bytes",
        "machine_available_bytes",
        "machine_cached_bytes",
        "machine_swap_total_bytes",
        "machine_swap_free_bytes",
    }


def test_trigger_gc(monitor: MemoryMonitor) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    gc.disable()
    try:
        gc.collect()
        for _ in range(50):
            Cycle()
        assert monitor.trigger_gc() >= 50
    finally:
        gc.enable()
    assert monitor.gc_count == 1


# ---- pressure callbacks -----------------------------------------------------


def test_callbacks_run_from_the_threshold_on(pressed: MemoryMonitor) -> None:
    seen: list[float] = []
    pressed.register_pressure_callback(seen.append)
    press(pressed)
    assert seen == [1.0]
    pressed.max_memory_mb = 1 << 20
    press(pressed)
    assert seen == [1.0]


def test_the_list_of_callbacks_is_the_hosts(pressed: MemoryMonitor) -> None:
    seen: list[str] = []
    pressed.pressure_callbacks.append(lambda pressure: seen.append("first"))
    pressed.pressure_callbacks.append(lambda: seen.append("second"))
    press(pressed)
    assert seen == ["first", "second"]
    pressed.pressure_callbacks.clear()
    press(pressed)
    assert seen == ["first", "second"]


def test_callbacks_of_every_shape(pressed: MemoryMonitor) -> None:
    seen: list[object] = []

    class Shapes:
        def bound_with(self, pressure: float) -> None:
            seen.append(("bound", pressure))

        def bound_without(self) -> None:
            seen.append("bound")

        @staticmethod
        def static_without() -> None:
            seen.append("static")

        @classmethod
        def of_class(cls, pressure: float) -> None:
            seen.append(("class", pressure))

    class WithCall:
        def __call__(self, pressure: float) -> None:
            seen.append(("call", pressure))

    class WithoutArgument:
        def __call__(self) -> None:
            seen.append("call")

    shapes = Shapes()
    pressed.pressure_callbacks += [
        shapes.bound_with,
        shapes.bound_without,
        shapes.static_without,
        Shapes.of_class,
        WithCall(),
        WithoutArgument(),
        partial(lambda word, pressure: seen.append((word, pressure)), "partial"),
        lambda *pressures: seen.append(pressures),
        seen.append,
    ]
    press(pressed)
    assert seen == [
        ("bound", 1.0),
        "bound",
        "static",
        ("class", 1.0),
        ("call", 1.0),
        "call",
        ("partial", 1.0),
        (1.0,),
        1.0,
    ]


def test_a_raising_callback_is_logged_and_the_rest_run(
    pressed: MemoryMonitor, logged: Logged, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[float] = []
    errors = [ValueError("second"), ValueError("first")]

    def bad(pressure: float) -> None:
        if errors:
            raise errors.pop()

    pressed.pressure_callbacks += [bad, seen.append]
    press(pressed)
    assert caplog.records[0].exc_info is not None
    assert str(caplog.records[0].exc_info[1]) == "first"
    messages = logged()
    assert len(messages) == 1
    assert "bad" in messages[0]
    press(pressed)
    assert logged() == []
    assert seen == [1.0, 1.0]


def test_keyboard_interrupt_reaches_the_program(pressed: MemoryMonitor) -> None:
    def bad() -> None:
        raise KeyboardInterrupt

    pressed.pressure_callbacks.append(bad)
    pressed._pass(False)
    with pytest.raises(KeyboardInterrupt):
        pressed.check_memory_pressure()
    pressed.pressure_callbacks[0] = lambda: None
    press(pressed)


def test_a_callback_that_re_enters(pressed: MemoryMonitor) -> None:
    depth: list[int] = []
    inside = 0

    def again(pressure: float) -> None:
        nonlocal inside
        inside += 1
        depth.append(inside)
        press(pressed)
        pressed.collect_memory_stats()
        pressed.optimize_memory()
        inside -= 1

    pressed.register_pressure_callback(again)
    press(pressed)
    assert set(depth) == {1}
    assert 1 <= len(depth) <= 2


def test_a_callback_that_cleans_up_and_closes() -> None:
    seen: list[str] = []
    written: list[int] = []
    manager = ResourceManager({"max_memory_mb": 1})
    manager.memory_monitor.stop_monitoring()
    manager.register_cleanup_callback(lambda: seen.append("cleaned"))
    manager.create_buffer("rows", written.extend).append(1)

    def close() -> None:
        seen.append("pressure")
        manager.cleanup()
        manager.close()

    manager.memory_monitor.register_pressure_callback(close)
    manager.memory_monitor.register_pressure_callback(lambda: seen.append("later"))
    manager.memory_monitor._pass(False)
    manager.get_memory_pressure()
    assert manager.closed
    assert seen == ["pressure", "cleaned", "later"]
    assert written == [1]


def test_callbacks_run_in_one_thread_at_a_time(pressed: MemoryMonitor) -> None:
    inside = threading.Event()
    go_on = threading.Event()
    seen: list[int] = []

    def slow() -> None:
        seen.append(threading.get_ident())
        inside.set()
        assert go_on.wait(30)

    pressed.register_pressure_callback(slow)
    other = threading.Thread(target=press, args=(pressed,))
    other.start()
    assert inside.wait(30)
    press(pressed)
    assert seen == [other.ident]
    go_on.set()
    other.join(30)


def test_callbacks_run_in_the_calling_thread_by_default() -> None:
    seen: list[int] = []
    with MemoryMonitor({"max_memory_mb": 1, "sample_interval": "10ms"}) as monitor:
        monitor.register_pressure_callback(lambda: seen.append(threading.get_ident()))
        time.sleep(0.2)
        assert seen == []
        monitor.check_memory_pressure()
        assert set(seen) == {threading.get_ident()}


def test_background_callbacks() -> None:
    called = threading.Event()
    threads: set[int] = set()
    config = {"max_memory_mb": 1, "sample_interval": "10ms"}
    with MemoryMonitor({**config, "background_callbacks": True}) as monitor:

        def callback() -> None:
            threads.add(threading.get_ident())
            called.set()
            raise ValueError("logged, not fatal")

        monitor.register_pressure_callback(callback)
        assert called.wait(30)
        assert threading.get_ident() not in threads
        assert len(threads) == 1


@pytest.mark.parametrize("bad", [None, 5, "print"])
def test_callbacks_that_cannot_be_called(monitor: MemoryMonitor, bad: Any) -> None:
    with pytest.raises(memguard.ConfigTypeError, match="allowed: a callable"):
        monitor.register_pressure_callback(bad)
    with pytest.raises(memguard.ConfigTypeError, match="allowed: a callable"):
        monitor.on("pressure", bad)
    assert monitor.pressure_callbacks == []
