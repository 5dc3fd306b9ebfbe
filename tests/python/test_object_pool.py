"""ObjectPool: objects rented, used again, and returned once."""

import gc
import math
from collections.abc import Callable
from typing import Any

import memguard
import pytest
from memguard import ObjectPool, _caches

Logged = Callable[[], list[str]]


class Thing:
    """With weak references."""

    def __init__(self) -> None:
        self.uses = 0


def test_objects_are_used_again() -> None:
    pool = ObjectPool(Thing, max_size=2)
    first = pool.rent()
    pool.return_(first)
    assert pool.rent() is first
    others = [pool.rent() for _ in range(3)]
    for thing in (first, *others):
        pool.return_(thing)
    assert pool.stats() == {
        "rented": 5,
        "returned": 5,
        "lost": 0,
        "current": 0,
        "idle": 2,
        "max": 2,
        "created": 4,
        "dropped": 2,
    }
    pool.close()
    with pytest.raises(memguard.ClosedError):
        pool.rent()


def test_what_comes_back_is_reset() -> None:
    pool = ObjectPool(list, lambda items: items.clear())
    with pool.borrow() as items:
        items.extend(range(5))
    assert items == []
    with pool.borrow() as again:
        assert again is items
        pool.return_(again)  # the block need not do it then
    with pytest.raises(ZeroDivisionError), pool.borrow():
        raise ZeroDivisionError
    assert pool.stats()["current"] == 0
    pool.close()


def test_a_reset_that_raises_drops_the_object(logged: Logged) -> None:
    def fail(thing: Thing) -> None:
        raise OSError

    pool = ObjectPool(Thing, fail)
    first = pool.rent()
    pool.return_(first)
    assert "reset of a ReusePool failed" in logged()[0]
    assert pool.rent() is not first
    assert pool.stats()["dropped"] == 1
    pool.close()


@pytest.mark.parametrize("factory", [Thing, lambda: [1], lambda: bytearray(5)])
def test_wrong_returns(factory: Callable[[], Any]) -> None:
    pool, other = ObjectPool(factory), ObjectPool(factory)
    thing = pool.rent()
    kind = type(thing).__name__
    with pytest.raises(memguard.ForeignError, match=f"a {kind} is not rented from"):
        other.return_(thing)
    with pytest.raises(memguard.ForeignError):
        pool.return_(factory())
    pool.return_(thing)
    with pytest.raises(memguard.ReturnedError, match=f"a {kind} was returned before"):
        pool.return_(thing)
    with pytest.raises(memguard.ReturnedError):
        pool.release(thing)
    assert pool.stats()["returned"] == 1
    assert pool.rent() is thing
    for made in (pool, other):
        made.close()


def test_returned_twice_where_nothing_is_kept() -> None:
    pool = ObjectPool(Thing, max_size=0)
    thing = pool.acquire()
    pool.return_(thing)
    with pytest.raises(memguard.ForeignError):
        pool.return_(thing)
    pool.close()


def test_a_forgotten_one_is_counted() -> None:
    pool = ObjectPool(Thing)
    for _ in range(3):
        pool.rent()
    gc.collect()
    stats = pool.stats()
    assert (stats["lost"], stats["current"]) == (3, 0)
    pool.close()


def test_idle_ones_go_under_pressure() -> None:
    pool = ObjectPool(Thing)
    things = [pool.rent() for _ in range(10)]
    for thing in things:
        pool.return_(thing)
    _caches.trim_pools(1.0)
    assert pool.stats()["idle"] == 0
    pool.close()


def test_bad_arguments() -> None:
    with pytest.raises(memguard.ConfigTypeError, match="factory is 5"):
        ObjectPool(5)  # type: ignore[arg-type]
    with pytest.raises(memguard.ConfigTypeError, match="reset is 5"):
        ObjectPool(Thing, 5)  # type: ignore[arg-type]
    with pytest.raises(memguard.RangeError, match="max_size is -1"):
        ObjectPool(Thing, max_size=-1)
    with pytest.raises(memguard.ConfigTypeError, match="max_size is nan"):
        ObjectPool(Thing, max_size=math.nan)  # type: ignore[arg-type]
