"""Every garbage collection recorded: counts, callbacks of the host, long pauses."""

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import memguard
import pytest
from memguard import MemoryMonitor, ResourceManager, _core, _pauses

Logged = Callable[[], list[str]]
Run = Callable[..., str]

FIGURES = {
    "count",
    "total_ms",
    "cpu_ms",
    "collected",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "max_ms",
    "last_ms",
    "longest_per_second_p95_ms",
}

HEAD = """
import gc, os, sys, threading, time
import memguard

def recorded(monitor):
    return monitor.get_gc_stats()["pauses"]["count"]

def interpreters():
    try:
        import _interpreters as api
    except ImportError:
        import _xxsubinterpreters as api
    return api
"""


class Slow:
    """Garbage whose finalizer takes its time."""

    def __init__(self, seconds: float) -> None:
        self.me = self
        self.seconds = seconds

    def __del__(self) -> None:
        time.sleep(self.seconds)


@pytest.fixture(autouse=True)
def _no_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of long pauses need not be a minute apart, except where said."""
    monkeypatch.setattr(_pauses, "_QUIET_S", 0.0)
    _core._gc_set_quiet(0.0)


@pytest.fixture(autouse=True)
def _collections_on_request() -> Iterator[None]:
    gc.collect()
    gc.disable()
    _core._gc_take_long()
    yield
    gc.enable()


def figures(monitor: MemoryMonitor) -> list[tuple[int, int]]:
    stats = monitor.get_gc_stats()
    of_all = [g["pauses"] for g in stats["generations"]] + [stats["pauses"]]
    return [(pauses["count"], pauses["collected"]) for pauses in of_all]


# ---- what is recorded -------------------------------------------------------


def test_ten_thousand_collections(run_child: Run) -> None:
    """On request and automatic ones, against CPython's own counts."""
    out = run_child(f"""{HEAD}
def counts():
    stats = monitor.get_gc_stats()
    assert gc.get_stats() == [
        {{k: v for k, v in g.items() if k != "pauses"}} for g in stats["generations"]]
    own = [(g["collections"], g["collected"]) for g in stats["generations"]]
    ours = [(g["pauses"]["count"], g["pauses"]["collected"])
            for g in stats["generations"]]
    return own, ours, stats["pauses"]["count"]

def change(before, after):
    return [(a[0] - b[0], a[1] - b[1]) for b, a in zip(before, after)]

class Knot:
    def __init__(self):
        self.me = self

monitor = memguard.MemoryMonitor()
gc.disable()
own, ours, count = counts()
for i in range(10_000):
    Knot()
    gc.collect(2 if i % 100 == 0 else 1 if i % 10 == 0 else 0)
own_then, ours_then, count_then = counts()
assert change(own, own_then) == change(ours, ours_then)
print(count_then - count, [c for c, _ in change(ours, ours_then)],
      sum(collected for _, collected in change(ours, ours_then)) >= 10_000)

gc.set_threshold(50, 3, 3)
gc.enable()
for _ in range(20_000):
    Knot()
gc.disable()
own, ours, count = counts()
assert change(own_then, own) == change(ours_then, ours)
print(count - count_then >= 300)

pauses = monitor.get_gc_stats()["pauses"]
assert 0 < pauses["p50_ms"] <= pauses["p95_ms"] <= pauses["p99_ms"] <= pauses["max_ms"]
assert 0 <= pauses["last_ms"] <= pauses["max_ms"] <= pauses["total_ms"]
assert 0 < pauses["cpu_ms"] <= pauses["total_ms"]
""")
    assert out == "10000 [9000, 900, 100] True\nTrue\n"


def test_before_the_first_start(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
assert gc.callbacks == []
monitor = memguard.MemoryMonitor({{"enabled": False}})
gc.collect()
stats = monitor.get_gc_stats()
print(stats["source"], stats["pauses"]["count"], stats["pauses"]["max_ms"])
assert gc.callbacks == []
monitor.update_config({{"enabled": True}})
gc.collect()
print(monitor.get_gc_stats()["source"], recorded(monitor) > 0, len(gc.callbacks))
memguard.ResourceManager()
memguard.MemoryMonitor().start_monitoring()
print(len(gc.callbacks))
""")
    assert out == "none 0 0.0\ncallback True 1\n1\n"


def test_figures(monitor: MemoryMonitor) -> None:
    before = monitor.get_gc_stats()["generations"][0]["pauses"]
    Slow(0.03)
    gc.collect(0)
    gc.collect(0)
    stats = monitor.get_gc_stats()
    assert stats["source"] == "callback"
    assert set(stats["pauses"]) == FIGURES
    assert len(stats["generations"]) == 3
    for generation in stats["generations"]:
        assert set(generation["pauses"]) == FIGURES
        assert generation["pauses"]["longest_per_second_p95_ms"] is None
    young = stats["generations"][0]["pauses"]
    assert young["count"] == before["count"] + 2
    assert young["collected"] >= before["collected"] + 1
    # Asleep: 30 ms of time, hardly any of the processor's.
    assert young["total_ms"] - before["total_ms"] >= 30
    assert young["total_ms"] - before["total_ms"] >= young["cpu_ms"] - before["cpu_ms"]
    assert young["max_ms"] >= 30
    assert young["max_ms"] >= young["p99_ms"] >= young["p50_ms"] >= 0
    assert stats["pauses"]["longest_per_second_p95_ms"] >= 0


def test_a_sleeping_finalizer_takes_no_cpu_time(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
class Slow:
    def __del__(self):
        time.sleep(0.5)
monitor = memguard.MemoryMonitor({{"long_pause": "60s"}})
gc.disable()
slow = Slow()
slow.me = slow
del slow
gc.collect()
pauses = monitor.get_gc_stats()["pauses"]
assert pauses["total_ms"] >= 500
print(pauses["cpu_ms"] < pauses["total_ms"] / 2)
""")
    assert out == "True\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("stop",),
        ("stop", {"generation": 0, "collected": 1}, None),
        ("stop", None),
        (None, {}),
        (b"stop", {"generation": 0, "collected": 1}),
        ("other", {"generation": 0, "collected": 1}),
        ("stop", {"generation": 0, "collected": 1}),
    ],
)
def test_a_malformed_call_is_ignored(
    monitor: MemoryMonitor, arguments: tuple[Any, ...]
) -> None:
    (callback,) = [c for c in gc.callbacks if c.__name__ == "memguard_gc_callback"]
    before = figures(monitor)
    assert callback(*arguments) is None
    assert figures(monitor) == before


@pytest.mark.parametrize(
    "info",
    [{}, {"generation": "0"}, {"generation": -1}, {"generation": 1 << 80}],
)
def test_a_collection_without_a_generation_is_ignored(
    monitor: MemoryMonitor, info: dict[str, Any]
) -> None:
    (callback,) = [c for c in gc.callbacks if c.__name__ == "memguard_gc_callback"]
    before = figures(monitor)
    callback("start", info)
    callback("stop", info)
    assert figures(monitor) == before


def test_a_collection_that_does_not_tell_what_it_collected(
    monitor: MemoryMonitor,
) -> None:
    (callback,) = [c for c in gc.callbacks if c.__name__ == "memguard_gc_callback"]
    before = figures(monitor)
    callback("start", {})
    callback("stop", {"generation": 0, "collected": None})
    after = figures(monitor)
    assert after[0] == (before[0][0] + 1, before[0][1])


# ---- what a host may do -----------------------------------------------------


def test_the_host_empties_the_callbacks(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
monitor = memguard.MemoryMonitor({{"long_pause": "60s"}})
gc.disable()
gc.collect()
gc.callbacks.clear()
before = recorded(monitor)
gc.collect()
print(monitor.get_gc_stats()["source"], recorded(monitor) - before)
monitor.start_monitoring()
gc.collect()
print(monitor.get_gc_stats()["source"], recorded(monitor) - before)
""")
    assert out == "none 0\ncallback 1\n"


def test_the_host_changes_the_callbacks(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
def theirs(phase, info):
    pass
class Odd:
    def __call__(self, phase, info):
        pass
    def __eq__(self, other):
        raise ValueError("not to be compared")
gc.callbacks.append(Odd())
monitor = memguard.MemoryMonitor()
gc.disable()
(_, ours) = gc.callbacks
before = recorded(monitor)
gc.callbacks[:] = [theirs, ours, theirs, ours]  # twice, but recorded once
gc.collect()
print(recorded(monitor) - before)
gc.callbacks = []  # CPython goes on with the list it has
gc.collect()
print(recorded(monitor) - before, monitor.get_gc_stats()["source"])
memguard.MemoryMonitor()
gc.collect()
print(recorded(monitor) - before, gc.callbacks)
""")
    assert out == "1\n2 callback\n3 []\n"


def test_a_finalizer_that_collects(monitor: MemoryMonitor) -> None:
    nested = []

    class Collects:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nested.append(gc.collect())

    Collects()
    own = [g["collections"] for g in gc.get_stats()]
    before = figures(monitor)
    gc.collect()
    after = figures(monitor)
    assert nested == [0]
    assert [g["collections"] for g in gc.get_stats()] == [own[0], own[1], own[2] + 1]
    assert after[3][0] == before[3][0] + 1


def test_a_finalizer_that_starts_the_first_monitor(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
made = []
class Starts:
    def __del__(self):
        made.append(memguard.MemoryMonitor())
gc.disable()
starts = Starts()
starts.me = starts
del starts
gc.collect()
print(recorded(made[0]))
gc.collect()
print(recorded(made[0]))
""")
    assert out == "0\n1\n"


def test_collections_of_many_threads(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
class Knot:
    def __init__(self):
        self.me = self
        self.text = str(id(self))
def work():
    for i in range(2000):
        Knot()
        if i % 10 == 0:
            gc.collect(0)
            monitor.get_gc_stats()
monitor = memguard.MemoryMonitor()
gc.disable()
own, ours = sum(g["collections"] for g in gc.get_stats()), recorded(monitor)
workers = [threading.Thread(target=work) for _ in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
done = sum(g["collections"] for g in gc.get_stats()) - own
print(done > 0, recorded(monitor) - ours - done)
""")
    assert out == "True 0\n"


# ---- long pauses ------------------------------------------------------------


def slow_collection(seconds: float = 0.05) -> None:
    Slow(seconds)
    gc.collect(0)


def test_a_long_pause_is_told_once(
    monitor: MemoryMonitor, logged_pauses: Logged
) -> None:
    slow_collection()
    assert logged_pauses() == []  # not inside the collection
    monitor.check_memory_pressure()
    (message,) = logged_pauses()
    assert message.startswith("garbage collection of generation 0 took ")
    assert message.endswith(" objects collected")
    monitor.check_memory_pressure()
    gc.collect(0)
    monitor.check_memory_pressure()
    assert logged_pauses() == []


def test_what_is_long_is_a_setting(
    monitor: MemoryMonitor, logged_pauses: Logged
) -> None:
    monitor.update_config({"memory": {"long_pause": "60s"}})
    slow_collection()
    monitor.check_memory_pressure()
    assert logged_pauses() == []
    monitor.update_config({"memory": {"long_pause": "1ms"}})
    slow_collection()
    monitor.check_memory_pressure()
    assert len(logged_pauses()) == 1


def test_the_shortest_limit_of_all_monitors_counts(logged_pauses: Logged) -> None:
    far = {"max_memory_mb": 1 << 20, "rss_warning": 1 << 20, "rss_critical": 1 << 20}
    with MemoryMonitor({**far, "long_pause": "60s"}) as patient:
        with MemoryMonitor({**far, "long_pause": "1ms"}):
            slow_collection()
            patient.check_memory_pressure()
            assert len(logged_pauses()) == 1
        slow_collection()
        patient.check_memory_pressure()
        assert logged_pauses() == []


def test_reports_are_a_minute_apart(
    monitor: MemoryMonitor, logged_pauses: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pauses, "_QUIET_S", 60.0)
    slow_collection(0.025)
    monitor.check_memory_pressure()
    assert len(logged_pauses()) == 1
    slow_collection(0.025)
    slow_collection(0.025)
    monitor.check_memory_pressure()
    assert logged_pauses() == []
    _core._gc_set_quiet(0.0)  # the minute is over
    monitor.check_memory_pressure()
    assert len(logged_pauses()) == 2


def test_a_pause_that_waits_to_be_told_costs_the_hot_path_nothing(
    logged_pauses: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    deliver = MemoryMonitor._deliver

    def counted(self: MemoryMonitor) -> None:
        calls.append(None)
        deliver(self)

    monkeypatch.setattr(_pauses, "_QUIET_S", 3600.0)
    config = {"max_memory_mb": 1 << 20, "monitoring_interval": 1}
    with ResourceManager(config) as manager:
        monitor = manager.memory_monitor
        monitor.stop_monitoring()
        manager.create_buffer("rows")
        slow_collection()
        monitor.check_memory_pressure()
        assert logged_pauses()
        slow_collection()
        monkeypatch.setattr(MemoryMonitor, "_deliver", counted)
        for _ in range(100_000):
            manager.should_flush_buffer("rows")
        assert len(calls) < 50_000  # events of new samples may be delivered
        assert logged_pauses() == []


def test_many_long_pauses_take_few_lines(
    monitor: MemoryMonitor, logged_pauses: Logged
) -> None:
    for _ in range(12):
        slow_collection(0.025)
    for _ in range(300):
        gc.collect(0)
    slow_collection(0.025)
    monitor.check_memory_pressure()
    messages = logged_pauses()
    assert len(messages) == 6
    assert messages[0].startswith("garbage collection of generation 0 took ")
    assert messages[5] == "and 8 more long garbage collections"
    for _ in range(9):
        slow_collection(0.025)
    monitor.check_memory_pressure()
    messages = logged_pauses()
    assert len(messages) == 6
    assert messages[5] == "and 4 more long garbage collections"


def test_nobody_asks_for_long_pauses(logged_pauses: Logged) -> None:
    far = {"max_memory_mb": 1 << 20}
    manager = memguard.ResourceManager({**far, "long_pause": "1ms"})
    monitor = manager.memory_monitor
    manager.close()
    del manager, monitor
    slow_collection()
    with MemoryMonitor({**far, "long_pause": "1ms"}) as other:
        other.check_memory_pressure()
    assert logged_pauses() == []


# ---- interpreters and processes ---------------------------------------------


def test_the_callback_is_gone_at_exit(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
import atexit
atexit.unregister(memguard._life._at_exit)
def last():
    gc.collect()
    print(gc.callbacks, recorded(monitor) - before)
    memguard.MemoryMonitor()
    print(gc.callbacks)
atexit.register(last)
atexit.register(memguard._life._at_exit)
monitor = memguard.MemoryMonitor({{"enabled": True}})
get = monitor.get_gc_stats
gc.disable()
before = recorded(monitor)
""")
    assert out == "[] 0\n[]\n"


def test_exit_without_exit_hooks(run_child: Run) -> None:
    """The callback is still in the list when the interpreter goes."""
    out = run_child(f"""{HEAD}
import atexit
monitor = memguard.MemoryMonitor()
gc.collect()
class Knot:
    def __del__(self):
        gc.collect()
knot = Knot()
knot.me = knot
monitor.close()
atexit._clear()
print(len(gc.callbacks))
""")
    assert out == "1\n"


def test_subinterpreters_record_their_own(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
api = interpreters()
monitor = memguard.MemoryMonitor()
gc.disable()
before = recorded(monitor)
code = '''
import gc, memguard
gc.disable()
assert gc.callbacks == []
monitor = memguard.MemoryMonitor()
for _ in range(5):
    gc.collect()
assert monitor.get_gc_stats()["pauses"]["count"] == 5
if CLOSE:
    monitor.close()
'''
for close in (0, 1, 0):
    sub = api.create()
    failure = api.run_string(sub, f"CLOSE = {{close}}" + code)
    assert failure is None, failure
    api.destroy(sub)
own = gc.get_stats()[2]["collections"]
gc.collect()
print(recorded(monitor) - before, len(gc.callbacks))
""")
    assert out == "1 1\n"


def test_a_fork(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
import logging
logging.basicConfig(stream=sys.stdout, format="%(message).18s")
class Slow:
    def __del__(self):
        time.sleep(0.05)
def slow_collection():
    slow = Slow()
    slow.me = slow
    del slow
    gc.collect()
monitor = memguard.MemoryMonitor({{"long_pause": "20ms"}})
monitor.stop_monitoring()
gc.disable()
slow_collection()  # the parent's to tell
before = recorded(monitor)
pid = os.fork()
if pid == 0:
    monitor.check_memory_pressure()
    print("child", recorded(monitor) - before, flush=True)
    slow_collection()
    monitor.check_memory_pressure()
    print("child", recorded(monitor) - before, flush=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
monitor.check_memory_pressure()
print("parent", recorded(monitor) - before)
""")
    told = "garbage collection\n"
    assert out == f"child 0\n{told}child 1\n{told}parent 0\n"


def test_a_fork_inside_a_collection(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
class Forks:
    def __del__(self):
        global pid
        pid = os.fork()
monitor = memguard.MemoryMonitor({{"long_pause": "60s"}})
monitor.stop_monitoring()
gc.disable()
forks = Forks()
forks.me = forks
del forks
before = monitor.get_gc_stats()["pauses"]
gc.collect()
after = monitor.get_gc_stats()["pauses"]
assert before["cpu_ms"] <= after["cpu_ms"] <= after["total_ms"]
if pid:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print(after["count"] - before["count"], flush=True)
if pid == 0:
    os._exit(0)
""")
    assert out == "1\n1\n"
