"""The tuner of the collector."""

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import memguard
import pytest
from common import FAR, IS_INCREMENTAL, Knot
from common import TUNE_HEAD as HEAD
from memguard import GCTuner, MemoryMonitor, ResourceManager, tuning

Logged = Callable[[], list[str]]
Run = Callable[..., str]

pytestmark = pytest.mark.usefixtures("own_collector")


@pytest.fixture
def tuner(monitor: MemoryMonitor) -> Iterator[GCTuner]:
    """One that acts only when polled."""
    made = GCTuner(monitor)
    yield made
    made.stop()


def step(tuner: GCTuner) -> None:
    """One step, however short ago the last one was."""
    tuner._last_ms = float("-inf")
    tuner.poll()


# ---- the tuner --------------------------------------------------------------


def test_it_freezes_tries_and_keeps(run_child: Run) -> None:
    """By itself, in a program that never calls memguard."""
    out = run_child(
        f"""{HEAD}
gc.set_threshold(700, 10, 10)
rows = heap()
manager = memguard.ResourceManager({{"auto_tune": True, "max_memory_mb": 1 << 20}})
tuner = manager.gc_tuner
tuner.benchmark(1, ["throughput"])
rest = []
def load():
    rest[:] = heap(2000)
    return tuner.report()["rounds"] == 1
wait(load, 50)
report = tuner.report()
print(report["frozen"], report["passes"] + report["young_freezes"] > 0,
      gc.get_freeze_count() > 0)
print([row["profile"] for row in report["rows"]], report["state"],
      report["why"], report["original"][:2])
for row in report["rows"]:
    assert row["seconds"] >= 1 and row["pause_p95_ms"] >= 0, row
    assert row["gc_percent"] >= 0 and row["peak_rss_mb"] > 1, row
    assert row["score"] > 0 and row["operations_per_second"] is None, row
best = [row["profile"] for row in report["rows"] if row["verdict"] == "best"]
assert report["profile"] == (best[0] if best else "default"), report
assert gc.get_threshold() == report["thresholds"]
manager.close()
print(gc.get_threshold()[0], gc.get_freeze_count(), tuner.report()["state"],
      tuner.report()["why"])
"""
    )
    assert out == (
        "True True True\n"
        "['default', 'throughput'] kept None (700, 10)\n"
        "700 0 off stopped\n"
    )


def test_auto_tune_follows_the_setting() -> None:
    with ResourceManager({**FAR, "auto_tune": True}) as manager:
        tuner = manager.gc_tuner
        assert tuner is manager.memory_monitor.gc_tuner
        assert tuner.is_running
        assert tuner.report()["state"] == "warming"
        manager.update_config({"auto_tune": False})
        assert not tuner.is_running
        assert tuner.report()["why"] == "stopped"
        manager.update_config({"auto_tune": True})
        assert tuner.is_running
        manager.update_config({"enabled": False})
        assert not tuner.is_running
        manager.update_config({"enabled": True})
        assert tuner.is_running
        manager.memory_monitor.stop_monitoring()
        assert not tuner.is_running
        manager.memory_monitor.start_monitoring()
        assert tuner.is_running
    assert not tuner.is_running


def test_without_auto_tune_nothing_runs() -> None:
    with ResourceManager(FAR) as manager:
        assert not manager.gc_tuner.is_running
        assert manager.gc_tuner.report()["state"] == "off"
        assert manager.gc_tuner.report()["why"] == "not started"
        manager.gc_tuner.start()
        manager.update_config({"auto_tune": False})
        assert manager.gc_tuner.is_running  # the program's own wish


def test_one_in_an_interpreter(tuner: GCTuner) -> None:
    tuner.start()
    tuner.start()
    with MemoryMonitor({**FAR, "auto_tune": True}) as monitor:
        assert not monitor.gc_tuner.is_running
        with pytest.raises(memguard.ConflictError, match="another GCTuner"):
            monitor.gc_tuner.start()
        tuner.stop()
        monitor.gc_tuner.start()
        assert monitor.gc_tuner.is_running


def test_a_round(tuner: GCTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each profile in force for its time, the program's own first."""
    now_s = 1000.0
    monkeypatch.setattr(tuning, "monotonic", lambda: now_s)
    tuner.benchmark(2, ["conservative", "aggressive"])
    seen = []
    for _ in range(90):
        step(tuner)
        seen.append(tuner.report()["profile"])
        tuner.count_operations(10)
        now_s += 0.5
    order = list(dict.fromkeys(seen))
    assert order[:3] == ["default", "conservative", "aggressive"]
    report = tuner.report()
    assert report["rounds"] == 1
    assert report["state"] == "kept"
    assert {row["profile"] for row in report["rows"]} == set(order[:3])
    assert {row["operations_per_second"] for row in report["rows"]} == {20.0}
    tuner.stop()
    assert gc.get_threshold() == (700, 10, 10) or IS_INCREMENTAL


def test_it_steps_back(tuner: GCTuner, logged: Logged) -> None:
    tuner.start()
    step(tuner)
    gc.set_threshold(555, 5, 5)
    step(tuner)
    step(tuner)
    assert not tuner.is_running
    assert gc.get_threshold()[0] == 555
    report = tuner.report()
    assert report["state"] == "off"
    assert report["why"].startswith("stepped back: the program set the thresholds (555")
    (line,) = logged()
    assert "thresholds to (555" in line
    tuner.stop()
    assert gc.get_threshold()[0] == 555
    tuner.start()
    assert tuner.is_running


def test_it_waits(tuner: GCTuner) -> None:
    def why() -> tuple[str, str | None]:
        step(tuner)
        report = tuner.report()
        return report["state"], report["why"]

    tuner.start()
    assert why() == ("warming", None)
    gc.disable()
    assert why() == ("waiting", "the program disabled the collector")
    gc.enable()
    assert why() == ("warming", None)
    with memguard.temporary_gc_settings(threshold=(1, 1, 1)):
        assert why() == ("waiting", "temporary settings are in force")
    assert why() == ("warming", None)
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    try:
        state, reason = why()
    finally:
        gc.callbacks[:] = callbacks
    assert (state, reason is not None and "not recorded" in reason) == ("waiting", True)
    assert why() == ("warming", None)


def test_what_the_program_froze_stays_frozen(tuner: GCTuner) -> None:
    gc.freeze()
    tuner.start()
    tuner._job = "pass"
    tuner._run_job()
    assert tuner.report()["passes"] == 1
    tuner.stop()
    assert gc.get_freeze_count() > 0


@pytest.mark.parametrize("job", ["pass", "young"])
def test_what_the_tuner_froze_does_not(tuner: GCTuner, job: str) -> None:
    tuner.start()
    tuner._job = job
    tuner._run_job()
    assert tuner.report()["frozen"]
    assert gc.get_freeze_count() > 0
    tuner.stop()
    assert gc.get_freeze_count() == 0
    assert not tuner.report()["frozen"]


def test_garbage_among_the_frozen_is_found(tuner: GCTuner) -> None:
    tuner.start()
    kept = [Knot() for _ in range(1000)]
    tuner._job = "young"
    tuner._run_job()
    kept.clear()
    gc.collect()
    before = len([x for x in gc.get_objects() if isinstance(x, Knot)])
    collected: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            collected.append(info["collected"])

    gc.callbacks.append(note)
    try:
        tuner._job = "pass"
        tuner._run_job()
    finally:
        gc.callbacks.remove(note)
    assert before == 0
    assert max(collected) >= 1000


def test_the_program_freezes_itself(tuner: GCTuner) -> None:
    tuner.start()
    memguard.freeze()
    assert tuner.report()["frozen"]
    memguard.unfreeze()
    assert not tuner.report()["frozen"]


def test_finalizers_run_in_the_main_thread(run_child: Run) -> None:
    out = run_child(
        f"""{HEAD}
import threading
ran = []
class Knot:
    def __init__(self):
        self.me = self
    def __del__(self):
        ran.append(threading.current_thread() is threading.main_thread())

gc.set_threshold(100_000, 50, 50)
manager = memguard.ResourceManager({{"auto_tune": True, "max_memory_mb": 1 << 20}})
rows = heap(60_000)
[Knot() for _ in range(10)]
wait(lambda: manager.gc_tuner.report()["passes"] > 0)
print(len(ran), set(ran))
manager.close()
"""
    )
    assert out == "10 {True}\n"


def test_a_busy_main_thread_holds_up_nothing(run_child: Run) -> None:
    out = run_child(
        f"""{HEAD}
manager = memguard.ResourceManager({{"auto_tune": True, "max_memory_mb": 1 << 20}})
rows = heap(60_000)
read, write = os.pipe()
import threading
def works():  # in whichever way the trial picks
    report = manager.gc_tuner.report()
    return report["passes"] + report["young_freezes"] + report["parts"] > 0
def watch():
    wait(works)
    os.write(write, b"done")
thread = threading.Thread(target=watch)
thread.start()
print(os.read(read, 9))
thread.join()
manager.close()
"""
    )
    assert out == "b'done'\n"


# ---- load -------------------------------------------------------------------


def test_idle_collections(tuner: GCTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(tuning, "monotonic", lambda: now_s)
    tuner.start()
    rows: list[list[int]] = []

    def collections(load: float) -> int:
        nonlocal now_s
        for _ in range(20):
            tuner.report_load(load)
            rows.extend([] for _ in range(500))
            step(tuner)
            now_s += 0.6
        assert tuner.load == load
        return int(tuner.report()["idle_collections"])

    assert collections(0.9) == 0
    assert collections(0.2) >= 1
    now_s += 10
    assert tuner.load is None


@pytest.mark.parametrize(
    ("load", "error"),
    [
        (-0.1, memguard.RangeError),
        (1.1, memguard.RangeError),
        (float("nan"), memguard.RangeError),
        ("high", memguard.ConfigTypeError),
        (True, memguard.ConfigTypeError),
    ],
)
def test_bad_loads(tuner: GCTuner, load: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="load is"):
        tuner.report_load(load)
    assert tuner.load is None


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((0.5,), memguard.RangeError, "0.5, allowed: 1 to 3600"),
        ((3601,), memguard.RangeError, "allowed: 1 to 3600"),
        (("5",), memguard.ConfigTypeError, "'5', allowed: a number"),
        ((5, ["hasty"]), memguard.InvalidError, "hasty"),
    ],
)
def test_bad_benchmarks(
    tuner: GCTuner, arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        tuner.benchmark(*arguments)
    assert not tuner.is_running


async def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.05)


def test_the_load_of_a_loop(tuner: GCTuner) -> None:
    async def busy() -> None:
        for _ in range(6):
            time.sleep(0.4)
            await asyncio.sleep(0.01)

    async def main() -> None:
        tuner.watch_loop()
        tuner.watch_loop(asyncio.get_running_loop())
        assert len(tuner._watches) == 1
        await _until(lambda: tuner.load is not None and tuner.load < 0.3)
        await busy()
        assert tuner.load is not None
        assert tuner.load > 0.3
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main(), debug=True)


def test_a_watched_loop_holds_nothing(tuner: GCTuner) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        tuner.watch_loop()
        await _until(lambda: tuner.load is not None)
        tuner.stop()
        await asyncio.sleep(0.05)
        scheduled: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]
        return [h for h in scheduled if not h.cancelled()]

    assert asyncio.run(main()) == []
    loop = asyncio.new_event_loop()
    tuner.watch_loop(loop)
    loop.close()
    tuner.watch_loop(loop)
    tuner.stop()


# ---- forks and ends ---------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork(run_child: Run) -> None:
    out = run_child(
        f"""{HEAD}
rows = heap(60_000)
manager = memguard.ResourceManager({{"auto_tune": True, "max_memory_mb": 1 << 20}})
wait(lambda: manager.gc_tuner.report()["passes"] > 0)
child = os.fork()
if child == 0:
    assert manager.gc_tuner.is_running and gc.get_freeze_count() > 0
    manager.gc_tuner.stop()
    assert gc.get_freeze_count() == 0
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), gc.get_freeze_count() > 0)
manager.close()
"""
    )
    assert out == "7 True\n"


def test_the_end_of_the_interpreter(run_child: Run) -> None:
    """Nothing is unfrozen then: it would be collected in vain."""
    out = run_child(
        f"""{HEAD}
import atexit
atexit.register(lambda: print(gc.get_freeze_count() > 0))
rows = heap(60_000)
manager = memguard.ResourceManager({{"auto_tune": True, "max_memory_mb": 1 << 20}})
wait(lambda: manager.gc_tuner.report()["passes"] > 0)
atexit.unregister(memguard._life._at_exit)
atexit.register(memguard._life._at_exit)
"""
    )
    assert out == "True\n"


def test_a_tuner_that_is_dropped() -> None:
    monitor = MemoryMonitor({**FAR, "auto_tune": True})
    monitor.gc_tuner._apply("aggressive")
    assert gc.get_threshold()[0] == 1200
    del monitor
    gc.collect()
    assert gc.get_threshold()[0] == 700


def test_a_closed_monitor(monitor: MemoryMonitor) -> None:
    tuner = GCTuner(monitor)
    monitor.close()
    with pytest.raises(memguard.ClosedError):
        tuner.start()
    assert not tuner.is_running
    assert os.getpid() > 0
