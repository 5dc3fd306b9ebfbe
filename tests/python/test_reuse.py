"""ReusePool, IndicatorCache and RingBuffer."""

import datetime
import decimal
import enum
import gc
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memguard
import numpy as np
import pytest
from memguard import _caches

pytestmark = pytest.mark.usefixtures("unhurried")

VECTORS = Path(__file__).parent.parent / "vectors"


def rows(name: str) -> pytest.MarkDecorator:
    found = json.loads((VECTORS / name).read_text())["rows"]
    assert found
    return pytest.mark.parametrize("row", found, ids=[row["name"] for row in found])


# ---- ReusePool --------------------------------------------------------------


def test_objects_come_back_clean() -> None:
    pool = memguard.ReusePool(lambda: bytearray(8), lambda item: item.clear())
    first, second = pool.acquire(), pool.acquire()
    assert first is not second
    pool.release(first)
    pool.release(second)
    assert pool.acquire() is second
    assert second == b""
    with pool.using() as item:
        assert item is first
    assert pool.get_stats() == {
        "active": 1,
        "idle": 1,
        "max": 64,
        "created": 2,
        "acquired": 4,
        "released": 3,
        "dropped": 0,
    }
    pool.close()


def test_no_more_than_max_size_are_kept() -> None:
    pool = memguard.ReusePool(list, max_size=2)
    items = [pool.acquire() for _ in range(5)]
    for item in items:
        pool.release(item)
    stats = pool.get_stats()
    assert (stats["idle"], stats["dropped"], stats["active"]) == (2, 3, 0)
    assert pool.trim(0.5) == 1
    assert pool.acquire() is items[1]
    pool.close()


def test_released_twice() -> None:
    pool = memguard.ReusePool(list)
    item = pool.acquire()
    pool.release(item)
    with pytest.raises(memguard.ConflictError, match="a list was released twice"):
        pool.release(item)
    assert pool.get_stats()["idle"] == 1
    pool.close()


def test_a_reset_that_raises_lets_the_object_go(
    logged: Callable[[], list[str]],
) -> None:
    pool = memguard.ReusePool(dict, lambda item: item["missing"])
    for _ in range(3):
        pool.release(pool.acquire())
    assert pool.get_stats()["idle"] == 0
    assert pool.get_stats()["dropped"] == 3
    assert logged() == ["reset of a ReusePool failed (told once until it works again)"]
    pool.close()


def test_an_object_comes_back_from_a_block_that_raises() -> None:
    pool = memguard.ReusePool(list)
    with pytest.raises(OSError, match="in the block"), pool.using():
        raise OSError("in the block")
    assert pool.get_stats()["idle"] == 1
    pool.close()


def test_pressure_trims_a_reuse_pool_until_it_is_gone() -> None:
    pool = memguard.ReusePool(lambda: np.zeros(4), name="frames")
    items = [pool.acquire() for _ in range(8)]
    for item in items:
        pool.release(item)
    assert _caches.trim_pools(0.25) == 2
    assert pool.acquire() is items[7]
    assert memguard.pool_stats()[-1]["name"] == "frames"
    assert memguard.pool_stats()[-1]["idle"] == 5
    del pool
    gc.collect()
    assert "frames" not in [row["name"] for row in memguard.pool_stats()]


def test_a_closed_reuse_pool_lets_go() -> None:
    pool = memguard.ReusePool(list)
    item, other = pool.acquire(), pool.acquire()
    pool.release(item)
    pool.close()
    pool.close()
    pool.release(other)
    assert pool.get_stats()["idle"] == 0
    with pytest.raises(memguard.ClosedError):
        pool.acquire()


def test_many_threads_share_a_reuse_pool() -> None:
    pool = memguard.ReusePool(list, max_size=8)
    shared: list[int] = []

    def work() -> None:
        for _ in range(2500):
            with pool.using() as item:
                item.append(1)
                if len(item) != 1:
                    shared.append(len(item))
                item.clear()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    stats = pool.get_stats()
    assert shared == []
    assert (stats["acquired"], stats["released"], stats["active"]) == (10000, 10000, 0)
    pool.close()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((5,), memguard.ConfigTypeError, "factory is 5, allowed: a callable"),
        ((list, 5), memguard.ConfigTypeError, "reset is 5"),
        ((list, None, -1), memguard.RangeError, "max_size is -1, allowed: at least 0"),
        ((list, None, "2"), memguard.ConfigTypeError, "max_size is '2'"),
    ],
)
def test_bad_reuse_pools(arguments: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        memguard.ReusePool(*arguments)


# ---- IndicatorCache ---------------------------------------------------------


def test_a_value_is_computed_once() -> None:
    cache = memguard.IndicatorCache()
    computed: list[int] = []

    def compute() -> str:
        computed.append(1)
        return "value"

    for period in ({"fast": 12, "slow": 26}, {"slow": 26, "fast": 12}):
        key = cache.make_key("BTC", "1m", "macd", period, 1700000000)
        assert cache.get_or_compute(key, compute) == "value"
    assert computed == [1]
    assert key in cache
    assert cache.get_stats() == {
        "entries": 1,
        "max_entries": 1000,
        "hits": 1,
        "misses": 1,
        "hit_ratio": 0.5,
        "evicted": 0,
        "dropped": 0,
    }


def test_the_least_recently_used_goes_first() -> None:
    cache = memguard.IndicatorCache(max_entries=3)
    for key in ("a", "b", "c", "a", "d"):
        cache.get_or_compute(key, lambda: None)
    assert [key for key in "abcd" if key in cache] == ["a", "c", "d"]
    cache.get_or_compute("a", lambda: None)
    assert _caches.shrink(0.5) == 2
    assert [key for key in "abcd" if key in cache] == ["a"]
    stats = cache.get_stats()
    assert (stats["evicted"], stats["dropped"], len(cache)) == (1, 2, 1)
    cache.clear()
    assert len(cache) == 0


def test_a_computation_that_raises_leaves_no_entry() -> None:
    cache = memguard.IndicatorCache()
    with pytest.raises(ZeroDivisionError):
        cache.get_or_compute("a", lambda: 1 / 0)
    assert cache.get_or_compute("a", lambda: 2) == 2


@rows("keys.json")
def test_keys(row: dict[str, Any]) -> None:
    make_key = memguard.IndicatorCache.make_key
    first, second = make_key(*row["one"]), make_key(*row["other"])
    assert (first == second) is row["same"]
    assert ({first: 1}.get(second) == 1) is row["same"]


class Color(enum.Enum):
    """A value."""

    RED = 1


@pytest.mark.parametrize(
    "value",
    [
        "text",
        5,
        0.5,
        None,
        b"bytes",
        decimal.Decimal("1.5"),
        datetime.datetime(2024, 1, 2),
        np.int64(5),
        np.datetime64("2024-01-02"),
        Color.RED,
        ("a", 1),
    ],
)
def test_parts_that_are_metadata(value: object) -> None:
    make_key = memguard.IndicatorCache.make_key
    assert make_key("s", "1m", "ema", [value]) == make_key("s", "1m", "ema", [value])


class Frame:
    """Compares by identity."""


@pytest.mark.parametrize(
    ("parts", "error", "text"),
    [
        (
            ("s", "1m", "ema", {"prices": np.zeros(3)}),
            "type",
            "params.prices is a num",
        ),
        ((np.zeros(3),), "type", "symbol is a numpy.ndarray, allowed in a key: text"),
        (("s", "1m", "ema", [1, Frame()]), "type", "params[1] is a test_reuse.Frame"),
        (("s", "1m", "ema", list(range(65))), "type", "params is a builtins.list"),
        (("s", {1, 2}), "type", "timeframe is a builtins.set"),
        (("s", "1m", bytearray(2)), "type", "indicator is a builtins.bytearray"),
        (("s", "1m", "ema", {"p": float("nan")}), "value", "params.p is nan, which is"),
        (("s", "1m", "ema", None, np.float32("nan")), "value", "candle_time is "),
    ],
)
def test_parts_that_are_data(parts: Any, error: str, text: str) -> None:
    wanted = {"type": memguard.ConfigTypeError, "value": memguard.InvalidError}[error]
    make_key: Any = memguard.IndicatorCache.make_key
    with pytest.raises(wanted) as caught:
        make_key(*(parts + ("x",) * (3 - len(parts))))
    assert text in str(caught.value)


def test_keys_made_by_hand_are_checked_too() -> None:
    cache = memguard.IndicatorCache()
    for key, text in [
        ([1, 2], "key"),
        (("s", np.zeros(2)), "key[1] is a numpy.ndarray"),
        (("s", Frame()), "key[1] is a test_reuse.Frame"),
        (np.zeros(2), "key is a numpy.ndarray"),
    ]:
        with pytest.raises((memguard.ConfigTypeError, TypeError)) as caught:
            cache.get_or_compute(key, lambda: 1)
        assert text in str(caught.value) or isinstance(key, list)
    assert len(cache) == 0


def test_bad_indicator_caches() -> None:
    with pytest.raises(memguard.RangeError, match="max_entries is 0"):
        memguard.IndicatorCache(0)


# ---- RingBuffer -------------------------------------------------------------


@rows("ring.json")
def test_rings(row: dict[str, Any]) -> None:
    ring = memguard.RingBuffer(row["max_candles"], ("a", "b"))
    for number in range(row["appends"]):
        ring.append(number, -number)
    assert list(ring.column("a", row["n"])) == row["expect"]
    assert [-value for value in ring.latest(row["n"])["b"]] == row["expect"]
    assert len(ring) == row["length"]


def test_a_ring_of_candles() -> None:
    ring = memguard.RingBuffer()
    assert ring.max_candles == 200
    assert ring.columns == ("time", "open", "high", "low", "close", "volume")
    for number in range(500):
        ring.append(number, 1, 2, 0.5, 1.5, 100)
    latest = ring.latest(2)
    assert {name: list(view) for name, view in latest.items()} == {
        "time": [498.0, 499.0],
        "open": [1.0, 1.0],
        "high": [2.0, 2.0],
        "low": [0.5, 0.5],
        "close": [1.5, 1.5],
        "volume": [100.0, 100.0],
    }
    ring.clear()
    assert len(ring) == 0


def test_views_are_the_memory_itself_also_for_numpy() -> None:
    ring = memguard.RingBuffer(4, ["price"])
    for number in range(6):
        ring.append(number)
    view = ring.column("price")
    array = np.asarray(view)
    assert array.dtype == np.float64
    assert np.shares_memory(array, np.asarray(ring.column("price", 2)))
    assert array.mean() == 3.5
    ring.append(6)
    assert list(view) == [2, 3, 4, 5]  # the next row is written beside
    ring.append(7)
    assert list(view) == [6, 3, 4, 5] or list(view) == [7, 3, 4, 5]
    with pytest.raises(TypeError):
        view[0] = 5.0
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5.0


def test_a_row_that_is_refused_changes_nothing() -> None:
    ring = memguard.RingBuffer(2, ("a", "b"))
    ring.append(1, 2)
    ring.append(3, 4)
    with pytest.raises(memguard.ConfigTypeError, match="b is 'x', allowed: a number"):
        ring.append(5, "x")  # type: ignore[arg-type]
    with pytest.raises(memguard.InvalidError, match="1 values, allowed: a, b"):
        ring.append(5)
    assert list(ring.column("a")) == [1, 3]
    assert list(ring.column("b")) == [2, 4]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: memguard.RingBuffer(0), memguard.RangeError, "max_candles is 0"),
        (lambda: memguard.RingBuffer(1, ()), memguard.InvalidError, "columns is"),
        (lambda: memguard.RingBuffer(1, "ab"), memguard.ConfigTypeError, "columns is"),
        (lambda: memguard.RingBuffer(1, ("a", "a")), memguard.InvalidError, "columns"),
        (
            lambda: memguard.RingBuffer(1).column("x"),
            memguard.InvalidError,
            "column is 'x', allowed: time, open",
        ),
        (lambda: memguard.RingBuffer(1).latest(-1), memguard.RangeError, "n is -1"),
    ],
)
def test_bad_rings(call: Callable[[], object], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
