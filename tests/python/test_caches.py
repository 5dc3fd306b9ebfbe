"""Registered caches: what goes first, how much, and what goes wrong."""

import collections
import functools
import gc
import json
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cachetools
import memguard
import pytest
from memguard import _caches

pytestmark = pytest.mark.usefixtures("unhurried")

ROWS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "caches.json").read_text()
)["rows"]


@pytest.fixture(autouse=True)
def _empty_registry() -> Iterator[None]:
    before = memguard.cache_stats() + memguard.pool_stats()
    yield
    gc.collect()
    left = memguard.cache_stats() + memguard.pool_stats()
    for made in list(_caches._registered.values()):
        made.unregister()
    assert [row["name"] for row in left] == [row["name"] for row in before]


def filled(entries: int) -> dict[int, str]:
    return {number: str(number) for number in range(entries)}


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_vectors(row: dict[str, Any]) -> None:
    cache = filled(row["entries"])
    options = {"min_entries": row["min_entries"]}
    with memguard.register_cache(cache, **options) as handle:
        for share, dropped in row["steps"]:
            assert _caches.shrink(share) == dropped
        stats = handle.get_stats()
    assert stats["dropped"] == sum(dropped for _, dropped in row["steps"])
    assert stats["entries"] == len(cache)


# ---- kinds ------------------------------------------------------------------


def test_a_dict_loses_its_oldest_insertions() -> None:
    cache = filled(100)
    with memguard.register_cache(cache):
        assert _caches.shrink(0.25) == 25
    assert list(cache) == list(range(25, 100))
    assert _caches.shrink(1.0) == 0


def test_an_emptied_dict_gives_its_table_back() -> None:
    cache = filled(100_000)
    full = cache.__sizeof__()
    with memguard.register_cache(cache):
        while _caches.shrink(1.0):
            pass
    assert cache == {}
    assert cache.__sizeof__() < full / 100


def test_an_ordered_dict_loses_its_front() -> None:
    cache = collections.OrderedDict(filled(4))
    cache.move_to_end(0)
    with memguard.register_cache(cache):
        assert _caches.shrink(0.5) == 2
    assert list(cache) == [3, 0]


def test_a_set_loses_members() -> None:
    cache = set(range(8))
    told: list[tuple[int, int]] = []
    with memguard.register_cache(cache, on_evict=lambda a, b: told.append((a, b))):
        assert _caches.shrink(0.5) == 4
    assert len(cache) == 4
    assert {a for a, b in told if a == b} | cache == set(range(8))


@pytest.mark.parametrize("kind", [cachetools.LRUCache, cachetools.LFUCache])
def test_cachetools_evict_by_their_own_policy(kind: Any) -> None:
    cache = kind(10)
    cache.update(filled(10))
    for used in (0, 1, 2):
        assert cache[used] == str(used)
    with memguard.register_cache(cache, lock=threading.Lock()):
        assert _caches.shrink(0.5) == 5
        assert sorted(cache) == [0, 1, 2, 8, 9]
        assert _caches.shrink(0.25) == 2
    assert len(cache) == 3
    assert cache.currsize == 3


def test_a_cachetools_ttl_cache_also_forgets_what_is_over() -> None:
    now = [0.0]
    cache: Any = cachetools.TTLCache(10, ttl=5, timer=lambda: now[0])
    cache.update(filled(4))
    now[0] = 3.0
    cache.update(dict.fromkeys(range(4, 8), "new"))
    now[0] = 6.0
    with memguard.register_cache(cache):
        assert _caches.shrink(0.25) == 1
    assert list(cache) == [5, 6, 7]


def test_a_cachetools_function_stands_for_its_cache_and_lock() -> None:
    lock = threading.Lock()

    @cachetools.cached(cachetools.LRUCache(100), lock=lock)
    def double(number: int) -> int:
        return 2 * number

    for number in range(8):
        double(number)
    with memguard.register_cache(double) as handle:
        assert handle.name.endswith("double")
        assert _caches.shrink(0.5) == 4
        with lock:
            assert _caches.shrink(0.5) == 0
        assert handle.get_stats() == {
            "name": handle.name,
            "entries": 4,
            "shrinks": 1,
            "dropped": 4,
            "skipped": 1,
            "failures": 0,
        }
    assert len(double.cache) == 4


def test_a_function_can_only_be_cleared() -> None:
    @functools.cache
    def double(number: int) -> int:
        return 2 * number

    for number in range(8):
        double(number)
    with memguard.register_cache(double, min_entries=2):
        assert _caches.shrink(0.25) == 0
        assert double.cache_info().currsize == 8
        assert _caches.shrink(0.5) == 8
        assert double.cache_info().currsize == 0
        double(1)
        assert _caches.shrink(1.0) == 0


class Shrinkable:
    """Has its own way."""

    def __init__(self, answer: object = None) -> None:
        self.items = 10
        self.shares: list[float] = []
        self.answer = answer

    def shrink(self, share: float) -> object:
        self.shares.append(share)
        self.items -= 4
        return self.answer


def test_an_object_with_shrink() -> None:
    told, seen, plain = Shrinkable(7), Shrinkable(), Shrinkable(True)
    with (
        memguard.register_cache(told) as first,
        memguard.register_cache(seen, size_of=lambda cache: cache.items),
        memguard.register_cache(plain) as third,
    ):
        assert _caches.shrink(0.25) == 11
        assert first.get_stats()["entries"] is None
        assert third.get_stats()["dropped"] == 0
    assert told.shares == seen.shares == plain.shares == [0.25]


def test_a_callable_and_a_method() -> None:
    shares: list[float] = []
    other = Shrinkable()
    memguard.register_cache(other.shrink, name="method")
    with memguard.register_cache(lambda share: shares.append(share)):
        gc.collect()
        _caches.shrink(0.5)
        assert (shares, other.shares) == ([0.5], [0.5])
        del other
        gc.collect()
        assert len(memguard.cache_stats()) == 1


# ---- slices -----------------------------------------------------------------


def test_a_large_cache_is_shrunk_call_by_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_caches, "BUDGET_S", 0.0)
    one, two = filled(600), filled(600)
    with memguard.register_cache(one), memguard.register_cache(two):
        dropped = [_caches.shrink(0.5) for _ in range(6)]
    assert dropped == [128, 128, 128, 128, 44, 44]  # batches, in turn
    assert list(one) == list(two) == list(range(300, 600))


def test_more_pressure_changes_an_unfinished_goal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_caches, "BUDGET_S", 0.0)
    cache = filled(1000)
    with memguard.register_cache(cache):
        assert _caches.shrink(0.25) == 128
        while _caches.shrink(1.0):
            pass
    assert cache == {}


# ---- life -------------------------------------------------------------------


class Value:
    """Can be referred to weakly."""


def test_a_dead_cache_leaves_by_itself() -> None:
    cache: Any = cachetools.LRUCache(10)
    gone = weakref.ref(cache)
    memguard.register_cache(cache, name="short-lived")
    assert [row["name"] for row in memguard.cache_stats()] == ["short-lived"]
    del cache
    gc.collect()
    assert gone() is None
    assert memguard.cache_stats() == []


def test_unregister_lets_a_dict_go() -> None:
    value = Value()
    gone = weakref.ref(value)
    handle = memguard.register_cache({"value": value})
    del value
    gc.collect()
    assert gone() is not None
    handle.unregister()
    handle.unregister()
    gc.collect()
    assert gone() is None
    assert handle.get_stats()["entries"] is None


def test_registered_twice_and_again() -> None:
    cache = filled(1)
    with (
        memguard.register_cache(cache, name="prices"),
        pytest.raises(memguard.ExistsError, match="'dict' is registered already"),
    ):
        memguard.register_cache(cache)
    with memguard.register_cache(cache):
        assert _caches.shrink(1.0) == 1


def test_a_manager_unregisters_at_clean_up(manager: memguard.ResourceManager) -> None:
    mine, other = filled(2), filled(2)
    manager.register_cache(mine, name="mine", min_entries=1)
    with memguard.register_cache(other, name="other"):
        assert len(memguard.cache_stats()) == 2
        manager.cleanup()
        assert [row["name"] for row in memguard.cache_stats()] == ["other"]
        manager.register_cache(mine)
        manager.close()
        assert len(memguard.cache_stats()) == 1


# ---- failures ---------------------------------------------------------------


def test_a_cache_that_raises_is_told_once_and_others_go_on(
    logged: Callable[[], list[str]],
) -> None:
    class Broken(collections.UserDict[int, str]):
        """Breaks."""

        def popitem(self) -> tuple[int, str]:
            raise OSError("broken")

    broken, good = Broken(filled(4)), filled(4)
    with (
        memguard.register_cache(broken, name="broken") as handle,
        memguard.register_cache(good),
    ):
        assert _caches.shrink(0.5) == 2
        assert _caches.shrink(0.5) == 1
        assert handle.get_stats()["failures"] == 2
    assert logged() == [
        "cache 'broken' could not be shrunk (told once until it works again)"
    ]


def test_an_on_evict_that_raises_stops_nothing(
    logged: Callable[[], list[str]],
) -> None:
    told: list[int] = []

    def on_evict(key: int, value: str) -> None:
        told.append(key)
        raise ValueError

    with memguard.register_cache(filled(4), name="x", on_evict=on_evict) as handle:
        assert _caches.shrink(1.0) == 4
        assert handle.get_stats()["failures"] == 4
    assert told == [0, 1, 2, 3]
    assert logged() == ["on_evict of 'x' failed (told once until it works again)"]


def test_what_was_taken_before_a_failure_is_told() -> None:
    class Half(collections.UserDict[int, str]):
        """Breaks on the way."""

        def popitem(self) -> tuple[int, str]:
            if len(self) == 2:
                raise OSError
            return super().popitem()

    told: list[int] = []
    half = Half(filled(4))
    with memguard.register_cache(half, on_evict=lambda key, _: told.append(key)):
        assert _caches.shrink(1.0) == 2
    assert len(told) == 2


# ---- locks and threads ------------------------------------------------------


def test_a_lock_that_is_held_is_not_waited_for() -> None:
    cache, lock = filled(4), threading.Lock()
    with memguard.register_cache(cache, lock=lock) as handle:
        with lock:
            assert _caches.shrink(0.5) == 0
        assert handle.get_stats()["skipped"] == 1
        assert _caches.shrink(0.5) == 2
        assert lock.acquire(blocking=False)
        lock.release()


@pytest.mark.parametrize("make", [threading.RLock, threading.Condition])
def test_a_reentrant_lock_of_this_thread_counts_as_held(make: Any) -> None:
    cache, lock = filled(4), make()
    with memguard.register_cache(cache, lock=lock):
        with lock:
            assert _caches.shrink(0.5) == 0
        assert _caches.shrink(0.5) == 2


def test_entries_die_without_a_lock_held() -> None:
    lock = threading.Lock()
    seen: list[bool] = []

    class Payload:
        """Its finalizer uses the cache."""

        def __del__(self) -> None:
            seen.append(lock.acquire(blocking=False))
            if seen[-1]:
                lock.release()
            assert _caches.shrink(1.0) == 0  # its turn is taken

    cache: Any = cachetools.LRUCache(10)
    for number in range(4):
        cache[number] = Payload()
    with memguard.register_cache(cache, lock=lock):
        assert _caches.shrink(1.0) == 4
    assert seen == [True] * 4


def test_a_cache_in_python_is_left_alone_while_it_is_used() -> None:
    dropped: list[int] = []

    def size_of(value: str) -> int:  # inside LRUCache.__setitem__
        dropped.append(_caches.shrink(1.0))
        return 1

    cache: Any = cachetools.LRUCache(10, getsizeof=size_of)
    with memguard.register_cache(cache) as handle:
        cache["a"] = "1"
        cache["b"] = "2"
        assert dropped == [0, 0]
        assert handle.get_stats()["skipped"] == 2
        assert _caches.shrink(1.0) == 2
    assert cache.currsize == 0


@pytest.mark.parametrize(
    ("kind", "has_lock"),
    [
        (lambda: cachetools.LRUCache(500), True),
        (lambda: cachetools.TTLCache(500, 10), True),
        (dict, False),
        (collections.OrderedDict, False),
        (set, False),
    ],
)
def test_shrinking_while_threads_use_the_cache(kind: Any, has_lock: bool) -> None:
    cache = kind()
    lock: Any = threading.Lock() if has_lock else None
    errors: list[Exception] = []
    stop = threading.Event()

    def put(number: int) -> None:
        if isinstance(cache, set):
            cache.add(number % 1000)
        else:
            cache[number % 1000] = str(number)
            cache.get(number % 777)

    def use(start: int) -> None:
        number = start
        try:
            while not stop.is_set():
                number += 7
                if lock is None:
                    put(number)
                else:
                    with lock:
                        put(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    with memguard.register_cache(cache, lock=lock) as handle:
        total = 0
        for _ in range(200_000):
            total += _caches.shrink(0.5)
            if total > 5000:
                break
        stop.set()
        for thread in threads:
            thread.join(20)
        assert errors == []
        assert handle.get_stats()["failures"] == 0
        assert handle.get_stats()["dropped"] == total > 5000


def test_a_fork_inside_of_a_call_leaves_the_child_able_to_shrink() -> None:
    children: list[int] = []

    def fork(key: int, value: str) -> None:
        if not children:
            children.append(os.fork())

    cache, other = filled(8), filled(8)
    parent = os.getpid()
    with memguard.register_cache(cache, on_evict=fork):
        _caches.shrink(0.5)
        if os.getpid() != parent:
            status = 1
            try:
                memguard.register_cache(other)
                status = 0 if _caches.shrink(0.5) == 6 else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


# ---- bad input --------------------------------------------------------------


class AsyncLock:
    """Not for threads."""

    async def acquire(self) -> None:
        """Waits."""

    def release(self) -> None:
        """Gives up."""


@pytest.mark.parametrize(
    ("cache", "options", "error", "text"),
    [
        (5, {}, memguard.ConfigTypeError, "cache is 5, allowed: a mutable mapping"),
        (dict, {}, memguard.ConfigTypeError, "cache is <class 'dict'>"),
        ({}, {"name": 5}, memguard.ConfigTypeError, "name is 5, allowed: a str"),
        ({}, {"min_entries": -1}, memguard.RangeError, "min_entries is -1"),
        ({}, {"min_entries": True}, memguard.ConfigTypeError, "min_entries is True"),
        ({}, {"on_evict": 1}, memguard.ConfigTypeError, "on_evict is 1"),
        ({}, {"size_of": len}, memguard.InvalidError, "size_of is of no use"),
        (print, {"on_evict": print}, memguard.InvalidError, "on_evict is of no use"),
        ({}, {"lock": 5}, memguard.ConfigTypeError, "lock is 5, allowed: a lock"),
        ({}, {"lock": AsyncLock()}, memguard.ConfigTypeError, "lock is <"),
    ],
)
def test_bad_input(cache: Any, options: Any, error: Any, text: str) -> None:
    with pytest.raises(error) as caught:
        memguard.register_cache(cache, **options)
    assert text in str(caught.value)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_is_none_drops_nothing(share: float) -> None:
    with memguard.register_cache(filled(4)):
        assert _caches.shrink(share) == 0


# ---- pools ------------------------------------------------------------------


class AnyPool:
    """A pool of somebody else."""

    def __init__(self) -> None:
        self.idle = 8

    def get_stats(self) -> dict[str, int]:
        return {"active": 3, "idle": self.idle}

    def drop(self, share: float) -> None:
        self.idle -= int(self.idle * share)


def test_any_pool() -> None:
    pool = AnyPool()
    memguard.register_pool(pool, pool.drop, name="db")
    assert _caches.shrink(0.5) == 0
    assert _caches.trim_pools(0.5) == 4
    assert memguard.cache_stats() == []
    assert memguard.pool_stats() == [
        {
            "name": "db",
            "active": 3,
            "idle": 4,
            "shrinks": 1,
            "dropped": 4,
            "skipped": 0,
            "failures": 0,
        }
    ]
    pool.idle = 0
    assert _caches.trim_pools(1.0) == 0
    del pool
    gc.collect()
    assert memguard.pool_stats() == []


def test_a_pool_without_statistics_that_trims_itself() -> None:
    class Own:
        """Knows best."""

        def trim(self, share: float) -> int:
            return int(100 * share)

    pool = Own()
    with memguard.register_pool(pool) as handle:
        assert _caches.trim_pools(0.25) == 25
        assert handle.get_stats()["idle"] is None
        assert handle.is_pool


def test_bad_pools() -> None:
    with pytest.raises(memguard.ConfigTypeError, match="allowed: one with trim"):
        memguard.register_pool(object())
    with pytest.raises(memguard.ConfigTypeError, match="trim is 5"):
        memguard.register_pool(AnyPool(), 5)  # type: ignore[arg-type]
    with pytest.raises(memguard.ConfigTypeError, match="pool is None"):
        memguard.register_pool(None, print)
