"""Pools tell of what is forgotten and of what is out too long, and where it was
rented; never of anything else."""

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from memguard import MemoryPool
from pools import forget, on_thread

MIB = 1 << 20
Logged = Callable[[], list[str]]


@pytest.fixture
def pool() -> Iterator[MemoryPool]:
    """One that keeps the stack of each rental."""
    with MemoryPool({"leak_check": "paranoid"}, environment=False) as made:
        yield made


# ---- forgotten --------------------------------------------------------------


def test_a_forgotten_one_is_reported_once(pool: MemoryPool, logged: Logged) -> None:
    lines = []
    for _ in range(3):
        forget(pool)
        lines.append(logged())
    pool.rent(5).return_()
    assert logged() == []
    assert lines[0] == lines[2] == []  # told by the call that follows, once
    (line,) = lines[1]
    assert "a rented buffer (capacity 128 bytes) was dropped" in line
    assert "rented at forget (pools.py:" in line
    assert "test_a_forgotten_one_is_reported_once" in line
    forget(pool, 3000)  # another place: another line calls it
    pool.rent(5).return_()
    assert len(logged()) == 1
    found = {f["capacity"]: f for f in pool.findings()}
    assert (found[128]["kind"], found[128]["count"]) == ("lost", 3)
    assert (found[4096]["kind"], found[4096]["count"]) == ("lost", 1)
    assert found[128]["site"][0].startswith("forget (pools.py:")
    stats = pool.stats()
    assert (stats["lost"], stats["current"], stats["returned"]) == (4, 0, 2)
    assert pool.findings() == []


def test_where_no_stack_is_kept(logged: Logged) -> None:
    with MemoryPool({"leak_check": "disabled"}, environment=False) as pool:
        forget(pool)
        forget(pool)
        assert pool.stats()["lost"] == 2
        (found,) = pool.findings()
    assert (found["count"], found["site"]) == (2, None)
    (line,) = logged()
    assert "rented at a place that was not noted" in line


def test_large_ones_are_always_noted() -> None:
    with MemoryPool(environment=False) as pool:
        forget(pool, MIB)
        (found,) = pool.findings()
    assert found["site"][0].startswith("forget (pools.py:")


def test_one_that_is_lost_in_a_cycle(pool: MemoryPool) -> None:
    knot: list[Any] = [pool.rent(100)]
    knot.append(knot)
    del knot
    gc.collect()
    assert pool.stats()["lost"] == 1


def test_one_that_is_lost_on_another_thread(pool: MemoryPool) -> None:
    holder = [pool.rent(100)]
    on_thread(holder.clear)
    on_thread(lambda: pool.rent(100) and None)
    assert pool.stats()["lost"] == 2


def test_one_that_is_lost_while_an_exception_is_raised(pool: MemoryPool) -> None:
    def fail() -> None:
        kept = pool.rent(100)
        raise KeyError(len(kept))

    with pytest.raises(KeyError):
        fail()
    gc.collect()
    assert pool.stats()["lost"] == 1


def test_one_that_comes_back_to_life_is_not_lost(pool: MemoryPool) -> None:
    saved = []

    class Holder:
        def __init__(self) -> None:
            self.buffer = pool.rent(100)
            self.me = self

        def __del__(self) -> None:
            saved.append(self.buffer)

    Holder()
    gc.collect()
    assert pool.stats()["lost"] == 0
    saved.pop().return_()
    assert pool.stats()["current"] == 0


def test_logging_that_fails_does_not_reach_the_renter(
    pool: MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def fail(message: str, *args: object) -> None:
        told.append(message)
        raise OSError

    monkeypatch.setattr("memguard._log.warning", fail)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    forget(pool)
    pool.rent(5).return_()
    assert len(told) == 1


def test_logging_may_rent(pool: MemoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def rent(message: str, *args: object) -> None:
        pool.rent(10).return_()
        told.append(message)

    monkeypatch.setattr("memguard._log.warning", rent)
    forget(pool)
    pool.rent(5).return_()
    assert len(told) == 1


def test_many_places_are_told_and_kept_within_bounds(
    pool: MemoryPool, logged: Logged
) -> None:
    calls = [eval(f"lambda pool: (pool.rent({n + 1}), None)[1]") for n in range(600)]
    told = []
    for _ in range(2):
        for call in calls:
            call(pool)
        pool.rent(5).return_()
        told.append(len(logged()))
    assert told == [600, 0]
    stats = pool.stats()
    assert stats["lost"] == 1200
    assert stats["findings_lost"] > 1000  # nobody asked in time


# ---- suspected --------------------------------------------------------------


def test_old_ones_are_suspected_until_returned() -> None:
    config = {"leak_check": "paranoid", "suspect_after": "10s"}
    with MemoryPool(config, environment=False) as pool:
        pool._tick(1000.0)
        old = pool.rent(100)
        assert pool._suspects(2000.0) == []
        pool._tick(20_000.0)
        young = pool.rent(100)
        (found,) = pool._suspects(20_000.0)
        assert (found["kind"], found["capacity"]) == ("suspected", 128)
        assert 18_000 < found["age_ms"] < 20_000
        assert "test_old_ones_are_suspected" in found["site"][0]
        assert pool.stats()["suspected"] == 1
        old.return_()
        assert pool._suspects(21_000.0) == []
        stats = pool.stats()
        assert (stats["suspected"], stats["withdrawn"]) == (0, 1)
        young.return_()
        assert pool.suspects() == []
        assert pool.findings() == []
