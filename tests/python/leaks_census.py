"""Calls for test_leaks.py: who holds what."""

import contextlib
from collections.abc import Callable
from typing import Any

import memguard
from memguard import _core, census, decide


class Thing:
    """What is looked for."""


KEPT = [Thing() for _ in range(30)]


def tables(w: Any) -> None:
    before = census.census()
    after = census.census()
    assert before.types.keys()
    census.census_difference(before, after)
    unfinished = _core.Census()
    unfinished.begin()
    unfinished.step(100)
    with contextlib.suppress(memguard.RangeError):
        census.census_difference(before, after, limit=-1)
        raise AssertionError("not refused")


def process(w: Any) -> None:
    fds = census.census_fds()
    assert fds.rows
    census.census_difference(fds, census.census_fds())
    with contextlib.suppress(memguard.InvalidError):
        census.census_difference(fds, census.census_maps())
        raise AssertionError("not refused")


def rows(w: Any) -> None:
    decide.census_difference([("a", 1, 1)], [("a", 2, 2), ("b\ud800", 1, 1)])
    with contextlib.suppress(memguard.RangeError):
        decide.census_difference([], [], max_names=100_001)
        raise AssertionError("not refused")


def referrers(w: Any) -> None:
    with contextlib.suppress(memguard.AbsentError):
        assert census.referrers(f"{__name__}.Thing", 3)
    with contextlib.suppress(memguard.RangeError):
        census.referrers("Thing", 0)
        raise AssertionError("not refused")


CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "census rows": (rows, []),
}
SLOW_CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "census": (tables, []),
    "census of the process": (process, []),
    "census referrers": (referrers, []),
}
