"""The old generation, collected in parts."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import memguard
import pytest
from common import KEEPS_GENERATIONS
from memguard import GCTuner, MemoryMonitor, _core, tuning

CAN_ROLL = KEEPS_GENERATIONS


class Knot:
    """Garbage that only a collection finds."""

    def __init__(self, found: list[int], number: int) -> None:
        self.me = self
        self.found = found
        self.number = number

    def __del__(self) -> None:
        self.found.append(self.number)


@pytest.fixture(autouse=True)
def _by_hand() -> Iterator[None]:
    """No collection but ours."""
    gc.collect()
    assert _core._gc_can_roll() == CAN_ROLL
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


def lap(most: int) -> int:
    """Has all old objects have their turn. Returns how many were collected."""
    collected = 0
    for _ in range(2):  # the mark may lie anywhere
        is_lap = False
        while not is_lap:
            taken, part, is_lap = _core._gc_roll(most)
            assert taken <= most + 128
            collected += part
        _core._gc_roll_mark()
    return collected


def old(things: list[Any]) -> list[Any]:
    gc.collect()
    return things


def test_garbage_is_found_in_parts() -> None:
    found: list[int] = []
    knots = old([Knot(found, n) for n in range(3000)])
    lap(1000)
    assert found == []
    del knots[1000:]
    gc.collect(1)
    assert found == []
    assert lap(1000) >= 2000 or not CAN_ROLL
    assert sorted(found) == list(range(1000, 3000)) or not CAN_ROLL
    assert [knot.me.number for knot in knots] == list(range(1000))


def test_cycles_whose_objects_lie_far_apart() -> None:
    found: list[int] = []
    first = [Knot(found, n) for n in range(2000)]
    second: list[list[Any]] = [[] for _ in range(20_000)]
    for n, knot in enumerate(first):
        knot.me = second[n]  # type: ignore[assignment]
        second[n].append([knot])
    old(first)
    del first, second, knot
    gc.collect(1)
    assert found == []
    lap(500)
    assert len(found) == (2000 if CAN_ROLL else 0)


def test_what_lives_is_left_as_it_was() -> None:
    rows = old([{"id": n, "row": [n, (n,)], "self": []} for n in range(20_000)])
    for row in rows:
        row["self"].append(row)
    before = len(gc.get_objects())
    for _ in range(3):
        assert lap(700) < before // 10
    assert len(gc.get_objects()) == pytest.approx(before, rel=0.02)
    assert all(
        row["self"][0] is row and row["row"][1] == (n,) for n, row in enumerate(rows)
    )
    assert gc.collect() < before // 10


def test_with_what_is_frozen() -> None:
    found: list[int] = []
    knots = old([Knot(found, n) for n in range(100)])
    gc.freeze()
    _core._gc_roll_mark()
    del knots
    lap(1000)
    assert found == []
    gc.unfreeze()
    lap(1000)
    assert len(found) == (100 if CAN_ROLL else 0)


def test_not_within_a_collection() -> None:
    seen: list[tuple[int, int, bool]] = []

    class Asks:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            seen.append(_core._gc_roll(1000))

    with MemoryMonitor({"max_memory_mb": 1 << 20}) as monitor:
        tuner = GCTuner(monitor)
        tuner.start()  # has collections recorded
        Asks()
        gc.collect()
        tuner.stop()
    assert seen == [(0, 0, True)]


def test_bad_numbers() -> None:
    with pytest.raises(TypeError):
        _core._gc_roll("all")  # type: ignore[arg-type]
    assert _core._gc_roll(0)[0] == 0
    assert _core._gc_roll(-5)[0] == 0


# ---- the tuner --------------------------------------------------------------


@pytest.fixture
def tuner(monitor: MemoryMonitor) -> Iterator[GCTuner]:
    """One that acts only when polled, with parts in force."""
    threshold = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    gc.enable()
    made = GCTuner(monitor)
    made.start()
    made._apply("rolling")
    yield made
    made.stop()
    gc.set_threshold(*threshold)


def step(tuner: GCTuner) -> None:
    tuner._last_ms = float("-inf")
    tuner.poll()


def test_growth_starts_parts(tuner: GCTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(tuning, "monotonic", lambda: now_s)
    monkeypatch.setattr(tuner, "_judge", lambda *_: None)  # nothing is frozen
    found: list[int] = []
    knots = old([Knot(found, n) for n in range(20_000)])
    step(tuner)
    grown = old([[] for _ in range(400_000)])
    del knots
    for _ in range(200):
        now_s += 1.0
        step(tuner)
    assert len(grown) == 400_000
    report = tuner.report()
    assert report["parts"] > 0
    assert len(found) == 20_000 or not CAN_ROLL
    assert report["own_ms"] > 0


def test_while_it_waits_the_collector_does_it_all(tuner: GCTuner) -> None:
    assert gc.get_threshold()[2] != 10
    gc.disable()
    step(tuner)
    assert gc.get_threshold() == (700, 10, 10)
    gc.enable()
    step(tuner)
    assert gc.get_threshold() == memguard.GC_PROFILES["rolling"]
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    try:
        step(tuner)
        assert gc.get_threshold() == (700, 10, 10)
    finally:
        gc.callbacks[:] = callbacks
    step(tuner)
    gc.disable()
    step(tuner)
    gc.set_threshold(555, 5, 5)
    gc.enable()
    step(tuner)
    assert not tuner.is_running
    assert gc.get_threshold() == (555, 5, 5)


def test_what_the_program_froze_is_left_alone(monitor: MemoryMonitor) -> None:
    def tried(tuner: GCTuner) -> set[str]:
        tuner.start()
        rows = tuner.report()["rows"]
        tuner.stop()
        return {row["profile"] for row in rows}

    others = {"default", "steady", "throughput"}
    rest = [[n] for n in range(20_000)]
    assert tried(GCTuner(monitor)) == others | ({"rolling"} if CAN_ROLL else set())
    gc.freeze()
    assert tried(GCTuner(monitor)) == others
    assert gc.get_freeze_count() > len(rest)


def test_what_is_frozen_for_forks_stays_so(tuner: GCTuner) -> None:
    tuner._job = "young"
    tuner._run_job()
    memguard.freeze_before_fork()
    try:
        tuner._job = "thaw"
        tuner._run_job()
        assert gc.get_freeze_count() > 0
    finally:
        memguard.freeze_before_fork(False)


def test_what_is_thawed_is_rolled(tuner: GCTuner) -> None:
    found: list[int] = []
    knots = old([Knot(found, n) for n in range(100)])
    tuner._job = "young"
    tuner._run_job()
    assert gc.get_freeze_count() > 100
    del knots
    tuner._job = "thaw"
    tuner._run_job()
    assert gc.get_freeze_count() == 0
    assert tuner.report()["thaws"] == 1
    lap(1000)
    assert len(found) == (100 if CAN_ROLL else 0)


def test_laps_leave_nothing_behind(run_child: Callable[..., str]) -> None:
    """In a heap of its own: what CPython keeps with an object whose turn comes for
    the first time is in place after some laps."""
    code = """
    import gc, sys
    from memguard import _core

    def laps(count):
        for _ in range(count):
            while not _core._gc_roll(2000)[2]:
                pass
            _core._gc_roll_mark()

    _core._gc_can_roll()
    laps(5)
    for _ in range(10):
        gc.collect()
        before = sys.getallocatedblocks()
        laps(5)
        gc.collect()
        grown = sys.getallocatedblocks() - before
        if grown < 5:
            break
    print(grown < 5)
    """
    assert run_child(code) == "True\n"
