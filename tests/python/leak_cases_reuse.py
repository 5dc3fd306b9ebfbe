"""Calls for test_leaks.py: caches and pools. Each public name stands in the case
that calls it."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import Any

import cachetools
import memguard
from memguard import _caches
from web_client import fetch


class Connection:
    """Nothing to connect to."""

    closed = False

    def close(self) -> None:
        self.closed = True


def serving(w: object) -> None:
    with memguard.serve(port=0) as server:
        fetch(server.address, "GET", "/health")


def registered(w: object) -> None:
    lru: Any = cachetools.LRUCache(50)
    plain = dict.fromkeys(range(50))
    function = functools.lru_cache(lambda number: number)
    for number in range(50):
        lru[number] = function(number)
    with (
        memguard.register_cache(plain, on_evict=lambda key, value: None) as handle,
        memguard.register_cache(function),
    ):
        memguard.register_cache(lru)
        _caches.shrink(0.5)
        handle.get_stats()
        memguard.cache_stats()
        _caches.shrink(1.0)
    with contextlib.suppress(memguard.ConfigTypeError):
        memguard.register_cache(5)


def failing(w: object) -> None:
    def fail(share: float) -> None:
        raise ValueError

    handle = memguard.register_cache(fail)
    _caches.shrink(1.0)
    handle.unregister()


def of_a_manager(w: Any) -> None:
    cache = dict.fromkeys(range(5))
    handle = w.manager.register_cache(cache)
    _caches.shrink(1.0)
    handle.unregister()


def pool_of_anything(w: object) -> None:
    memguard.register_pool(Connection(), lambda share: 0)
    pool = Connection()
    with memguard.register_pool(pool, lambda share: 0) as handle:
        _caches.trim_pools(1.0)
        memguard.pool_stats()
    str(handle.name) + str(handle.is_pool)


def reuse_pool(w: object) -> None:
    pool = memguard.ReusePool(lambda: bytearray(100), lambda item: item.clear())
    with pool.using() as item:
        pool.release(pool.acquire())
        item.append(1)
    pool.get_stats()
    pool.trim(0.5)
    pool.close()


def indicator_cache(w: object) -> None:
    cache = memguard.IndicatorCache(5)
    for number in range(10):
        key = cache.make_key("s", "1m", "ema", {"period": number}, 1)
        cache.get_or_compute(key, lambda: bytearray(100))
        cache.get_or_compute(key, lambda: bytearray(100))
    with contextlib.suppress(memguard.ConfigTypeError):
        cache.make_key([object()], "1m", "ema")
    cache.get_stats()
    cache.clear()


def ring_buffer(w: object) -> None:
    ring = memguard.RingBuffer(5)
    for number in range(20):
        ring.append(number, 1, 2, 3, 4, 5)
    with contextlib.suppress(memguard.ConfigTypeError):
        ring.append("x", 1, 2, 3, 4, 5)  # type: ignore[arg-type]
    ring.column(ring.columns[0], ring.max_candles)
    ring.latest(2)
    ring.clear()


def connection_pool(w: object) -> None:
    with memguard.ManagedConnectionPool(Connection, 2) as pool:
        expected = contextlib.suppress(TimeoutError)
        with pool.connection(), pool.connection(), expected:
            pool.acquire(0)
        pool.release(pool.acquire(), discard=True)
        pool.prune()
        pool.trim(0.5)
        pool.get_stats()
    assert pool.closed
    pool.close()


async def use_asyncio() -> None:
    async with memguard.AsyncManagedConnectionPool(Connection, 2) as pool:
        async with pool.connection(), pool.connection():
            task = asyncio.create_task(pool.acquire())
            await asyncio.sleep(0)
            task.cancel()
        pool.release(await pool.acquire())
        pool.prune()
        pool.trim(0.5)
        pool.get_stats()
    assert pool.closed
    await pool.close()


def names(kind: str, *methods: str) -> list[str]:
    return [kind, *(f"{kind}.{method}" for method in methods)]


POOL = (
    "acquire",
    "release",
    "connection",
    "prune",
    "trim",
    "get_stats",
    "close",
    "closed",
)

CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "caches": (
        registered,
        [
            "register_cache",
            "cache_stats",
            *names("Registration", "get_stats", "unregister"),
        ],
    ),
    "failing cache": (failing, []),
    "cache of a manager": (of_a_manager, ["ResourceManager.register_cache"]),
    "any pool": (
        pool_of_anything,
        ["register_pool", "pool_stats", "Registration.name", "Registration.is_pool"],
    ),
    "ReusePool": (
        reuse_pool,
        names("ReusePool", "acquire", "release", "using", "trim", "get_stats", "close"),
    ),
    "IndicatorCache": (
        indicator_cache,
        names("IndicatorCache", "make_key", "get_or_compute", "get_stats", "clear"),
    ),
    "RingBuffer": (
        ring_buffer,
        names(
            "RingBuffer",
            "append",
            "column",
            "columns",
            "latest",
            "max_candles",
            "clear",
        ),
    ),
    "ManagedConnectionPool": (connection_pool, names("ManagedConnectionPool", *POOL)),
    "AsyncManagedConnectionPool": (
        lambda w: w.loop.run_until_complete(use_asyncio()),
        names("AsyncManagedConnectionPool", *POOL),
    ),
}

SLOW_CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "serve": (serving, ["serve"]),
}
