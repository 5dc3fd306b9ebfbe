"""Reclaiming memory from the worst places: collections, finalizers, signal handlers,
many threads, forks, interpreters that end. No crash, no deadlock, a clear report."""

import gc
import sys
from collections.abc import Callable
from typing import Any

import memguard
import pytest
from common import RECLAIM_HEAD as HEAD
from common import Knot
from memguard import MemoryMonitor, _reclaim

Run = Callable[..., str]


# ---- from bad places -----------------------------------------------------------


def test_inside_a_gc_callback(monitor: MemoryMonitor) -> None:
    rounds: list[dict[str, Any]] = []
    collected = []

    def callback(phase: str, info: dict[str, int]) -> None:
        if not rounds or phase == "stop":
            rounds.append(monitor.release_memory())
            collected.append(monitor.trigger_gc())

    for place in (0, len(gc.callbacks)):
        rounds.clear()
        gc.callbacks.insert(place, callback)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(callback)
        assert len(rounds) == 2
        for done in rounds:
            (step,) = done["steps"]
            assert (step["was_done"], step["gc_ms"]) == (False, 0.0)
    assert set(collected) == {0}


def test_inside_a_finalizer(monitor: MemoryMonitor) -> None:
    found: list[object] = []

    class Reclaims(Knot):
        def __del__(self) -> None:
            try:
                found.append(monitor.release_memory()["steps"][0]["was_done"])
            except memguard.ConflictError as error:
                found.append(str(error))
            found.append(monitor.check_memory_pressure() >= 0)
            found.append(monitor.trigger_gc())

    Reclaims()
    gc.collect()  # the program's collection: CPython does not nest them
    assert found == [False, True, 0]
    found.clear()
    Reclaims()
    done = monitor.release_memory()
    assert found == [
        "memory is being reclaimed by this very thread: not again from inside an "
        "action",
        True,
        0,
    ]
    assert done["steps"][0]["was_done"] is True


def test_from_a_signal_handler(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
monitor = memguard.MemoryMonitor({{"max_memory_mb": 256, "sample_interval": "10ms"}})
conflicts = 0
rounds = 0
def handler(*_):
    global rounds, conflicts
    try:
        monitor.release_memory()
        rounds += 1
    except memguard.ConflictError:
        conflicts += 1
    monitor.trigger_gc()
    if rounds < 100:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001)
until = time.monotonic() + 30
while rounds < 100 and time.monotonic() < until:
    burst(5)
print(rounds)
monitor.close()
""")
    assert out == "100\n"


def test_from_many_threads(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
monitor = memguard.MemoryMonitor({{"max_memory_mb": 512, "sample_interval": "10ms"}})
failed = []
def work():
    for _ in range(15):
        burst(5)
        try:
            assert monitor.release_memory()["steps"][0]["action"] == "release"
            monitor.trigger_gc()
            monitor.check_memory_pressure()
            monitor.get_reclaim_stats()
            monitor.get_reclaim_history()
        except memguard.ConflictError:
            pass
        except BaseException as error:
            failed.append(error)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failed, done(monitor, "release") >= 15)
monitor.close()
""")
    assert out == "[] True\n"


def test_finalizers_that_raise_close_and_exit(run_child: Run) -> None:
    out = run_child(
        f"""{HEAD}
class Raises(Knot):
    def __del__(self):
        raise ValueError("of a finalizer")
class Closes(Knot):
    def __del__(self):
        monitors.pop().close()
class Exits(Knot):
    def __del__(self):
        sys.exit(3)
kept = bytearray(80_000_000)
kept[::4096] = bytes(len(range(0, len(kept), 4096)))
for kind in (Raises, Closes, Exits):
    monitors = [memguard.MemoryMonitor({{"max_memory_mb": 64,
                                         "sample_interval": "10ms"}})]
    monitor = monitors[0]
    for _ in range(3):
        kind()
        monitors.append(monitors[0])
    wait_for(lambda: monitor.closed or done(monitor, "young", "full", "release"))
    monitor.close()
print("well")
""",
        stderr="ValueError: of a finalizer",
    )
    assert out == "well\n"


def test_an_interrupt_inside_an_action(
    monitor: MemoryMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(share: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(_reclaim, "caches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        monitor._reclaim(("caches", "young"), "manual", 1.0)
    (done,) = monitor.get_reclaim_history(1)
    assert [s["was_done"] for s in done["steps"]] == [False, True]


def test_an_action_that_raises(
    monitor: MemoryMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(share: float) -> bool:
        raise ValueError("broken")

    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append(args.exc_value))
    monkeypatch.setattr(_reclaim, "caches", broken)
    done = monitor._reclaim(("caches", "young"), "manual", 1.0)
    assert [s["was_done"] for s in done["steps"]] == [False, True]
    assert [str(error) for error in seen] == ["broken"]


# ---- interpreters and processes ------------------------------------------------


def test_fork(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
monitor = memguard.MemoryMonitor({{"max_memory_mb": 256, "sample_interval": "10ms"}})
wait_for(lambda: monitor.latest.number > 0)
burst(300)
class Forks(Knot):
    def __del__(self):
        # A child of memguard's thread would have nobody to go on with the script.
        if threading.current_thread() is threading.main_thread():
            children.append(os.fork())
def collects_again():
    burst(30)
    return done(monitor, "young", "full") > before
children = []
for how in ("plain", "in a finalizer"):
    before = done(monitor, "young", "full")
    if how == "plain":
        children.append(os.fork())
    else:
        while not children:
            Forks()
            monitor.release_memory()
    pid = children.pop()
    if pid == 0:
        code = 1
        try:
            seen = monitor.latest.number
            wait_for(lambda: monitor.latest.number > seen)
            wait_for(collects_again)
            monitor.release_memory()
            monitor.close()
            code = 0
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    seen = monitor.latest.number
    wait_for(lambda: monitor.latest.number > seen)
    wait_for(collects_again)
""")
    assert out == "0\n0\n"


def test_subinterpreters(run_child: Run) -> None:
    """Each reclaims its own; before Python 3.14 inside calls of the program."""
    out = run_child(f"""{HEAD}
try:
    import _interpreters as api
except ImportError:
    import _xxsubinterpreters as api
monitor = memguard.MemoryMonitor({{"max_memory_mb": 256, "sample_interval": "10ms"}})
code = '''
import memguard, time
class Knot:
    def __init__(self):
        self.me = self
        self.payload = bytearray(1048576)
monitor = memguard.MemoryMonitor({{"max_memory_mb": 256, "sample_interval": "10ms"}})
until = time.monotonic() + 30
while monitor.latest.number == 0 and time.monotonic() < until:
    time.sleep(0.01)
for _ in range(600):
    Knot()
    monitor.check_memory_pressure()
actions = monitor.get_reclaim_stats()["actions"]
assert actions["young"] + actions["full"] > 0
monitor.release_memory()
if CLOSE:
    monitor.close()
'''
for close in (0, 1):
    sub = api.create()
    failure = api.run_string(sub, f"CLOSE = {{close}}" + code)
    assert failure is None, failure
    api.destroy(sub)
burst(600)
print(done(monitor, "young", "full") > 0)
""")
    assert out == "True\n"


def test_exit_while_memory_is_reclaimed(run_child: Run) -> None:
    for _ in range(3):
        out = run_child(f"""{HEAD}
class Slow(Knot):
    def __del__(self):
        time.sleep(0.001)
def work():
    while True:
        burst(2)
        Slow()
        time.sleep(0.01)
        try:
            monitor.check_memory_pressure()
        except memguard.ClosedError:
            pass  # the program ends
monitor = memguard.MemoryMonitor({{"max_memory_mb": 64, "sample_interval": "10ms",
                                   "gc_interval": 0, "background_callbacks": True}})
monitor.on("optimization:automatic", lambda payload: gc.collect())
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
wait_for(lambda: done(monitor, "young", "full") > 2)
print("end")
""")
        assert out == "end\n"


def test_exit_without_exit_hooks(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
import atexit
monitor = memguard.MemoryMonitor({{"max_memory_mb": 256, "sample_interval": "10ms"}})
burst(600)
monitor.close()
atexit._clear()
print("end")
""")
    assert out == "end\n"


def test_monitors_come_and_go(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
for _ in range(30):
    with memguard.MemoryMonitor({{"max_memory_mb": 256}}) as monitor:
        burst(20)
before = gc.get_stats()[1]["collections"] + gc.get_stats()[2]["collections"]
gc.set_threshold(0)
burst(600)  # nobody asks for it now
after = gc.get_stats()[1]["collections"] + gc.get_stats()[2]["collections"]
print(after - before)
""")
    assert out == "0\n"


def test_a_stopped_monitor_reclaims_nothing_by_itself(monitor: MemoryMonitor) -> None:
    before = monitor.get_reclaim_stats()["rounds"]
    monitor.update_config({"max_memory_mb": 64})
    for _ in range(200):
        Knot(1048576)
    gc.collect()
    assert monitor.get_reclaim_stats()["rounds"] == before
