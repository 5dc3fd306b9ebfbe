"""MemoryPool: what is rented is the holder's, what is returned is nobody's, and no
mistake goes unnoticed."""

import gc
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import memguard
import numpy as np
import pytest
from memguard import MemoryPool, PooledBuffer
from pools import kinds, on_thread

MIB = 1 << 20
Logged = Callable[[], list[str]]
Run = Callable[..., str]


@pytest.fixture
def pool() -> Iterator[MemoryPool]:
    """One that keeps the stack of each rental."""
    with MemoryPool({"leak_check": "paranoid"}, environment=False) as made:
        yield made


# ---- renting ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "capacity", "tier"),
    [
        (1, 64, "small"),
        (64, 64, "small"),
        (65, 128, "small"),
        (4096, 4096, "small"),
        (4097, 4608, "medium"),
        (65536, 65536, "medium"),
        (65537, 131072, "large"),
        (MIB, MIB, "large"),
        (5 * MIB, 5 * MIB, "huge"),
    ],
)
def test_sizes_and_tiers(pool: MemoryPool, n: int, capacity: int, tier: str) -> None:
    buffer = pool.rent(n)
    assert (len(buffer), buffer.capacity, buffer.returned) == (n, capacity, False)
    memory = buffer.memory
    assert (memory.nbytes, memory.format, memory.readonly) == (n, "B", False)
    memory[0] = memory[n - 1] = 7
    assert bytes(memory[n - 1 :]) == b"\7"
    assert pool.stats()["tiers"][tier]["current_bytes"] == capacity
    memory.release()
    buffer.return_()
    assert buffer.returned
    assert pool.stats()["tiers"][tier]["current"] == 0


def test_memory_is_used_again() -> None:
    with MemoryPool({"leak_check": "disabled"}, environment=False) as pool:
        for _ in range(10_000):
            pool.rent(5000).return_()
        stats = pool.stats()
    assert (stats["rented"], stats["returned"], stats["current"]) == (10_000, 10_000, 0)
    assert stats["cache_hits"] > 9_000
    assert stats["os_maps"] == 1


def test_other_ways_to_rent(pool: MemoryPool) -> None:
    with pool.rent_memory(10) as owner:
        assert len(owner) == 10
    assert owner.returned
    many = pool.rent_many(40, 1000)
    assert [len(one) for one in many] == [1000] * 40
    assert len({one.memory[0:0].obj for one in many}) == 40
    assert pool.stats()["current"] == 40
    for one in many:
        one.release()
    assert pool.rent_many(0, 5) == []
    assert pool.stats()["current"] == 0


def test_a_block_may_return_it_itself(pool: MemoryPool) -> None:
    with pool.rent(10) as buffer:
        buffer.return_()
    with pytest.raises(ZeroDivisionError), pool.rent(10) as buffer:
        raise ZeroDivisionError
    assert buffer.returned
    assert pool.findings() == []


BAD = [
    (0, memguard.RangeError, "n is 0, allowed: 1 to 1099511627776"),
    (-1, memguard.RangeError, "n is -1, allowed: 1 to"),
    (-(1 << 70), memguard.RangeError, "n is -1180591620717411303424, allowed"),
    ((1 << 40) + 1, memguard.RangeError, "n is 1099511627777, allowed: 1 to"),
    (1 << 70, memguard.RangeError, "n is 1180591620717411303424, allowed"),
    (1.0, memguard.ConfigTypeError, "n is 1.0, allowed: a whole number"),
    (math.nan, memguard.ConfigTypeError, "n is nan, allowed: a whole number"),
    ("5", memguard.ConfigTypeError, "n is '5', allowed: a whole number"),
    (None, memguard.ConfigTypeError, "n is None, allowed: a whole number"),
    (True, memguard.ConfigTypeError, "n is True, allowed: a whole number"),
    ([], memguard.ConfigTypeError, "n is [], allowed: a whole number"),
]


@pytest.mark.parametrize(("n", "error", "text"), BAD)
def test_bad_sizes(pool: MemoryPool, n: Any, error: type[Exception], text: str) -> None:
    calls: list[Callable[[Any], object]] = [
        pool.rent,
        pool.rent_memory,
        lambda n: pool.rent_many(2, n),
    ]
    for call in calls:
        with pytest.raises(error) as raised:
            call(n)
        assert text in str(raised.value)
    assert pool.stats()["rented"] == 0


def test_other_bad_arguments(pool: MemoryPool) -> None:
    with pytest.raises(memguard.RangeError, match="count is -1, allowed: 0 to 1048576"):
        pool.rent_many(-1, 5)
    with pytest.raises(memguard.RangeError, match="count is 1048577"):
        pool.rent_many(1048577, 5)
    with pytest.raises(memguard.ConfigTypeError, match=r"count is 1\.5"):
        pool.rent_many(1.5, 5)  # type: ignore[arg-type]
    with pytest.raises(memguard.RangeError, match=r"share is 1\.5, allowed: 0\.0"):
        pool.trim(1.5)
    with pytest.raises(memguard.RangeError, match="share is nan"):
        pool.trim(math.nan)
    with pytest.raises(memguard.ConfigTypeError, match="share is 'all'"):
        pool.trim("all")  # type: ignore[arg-type]
    with pytest.raises(memguard.ConfigTypeError, match="5 is returned, allowed"):
        pool.return_(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        PooledBuffer()  # type: ignore[abstract]
    with pytest.raises(memguard.ConfigKeyError, match="max_pool_mb"):
        MemoryPool({"max_poll_mb": 5})
    with pytest.raises(memguard.RangeError):
        pool.update_config({"max_pool_mb": -5})
    assert pool.config["max_pool_mb"] == 1024


def test_no_memory_is_an_error_and_no_rental() -> None:
    with MemoryPool({"max_pool_mb": 1}, environment=False) as pool:
        with pytest.raises(memguard.NoMemoryError):
            pool.rent_many(600, 1 << 40)
        with pytest.raises(memguard.NoMemoryError):
            pool.rent_writer(1 << 40)
        assert pool.stats()["current"] == 0


def test_a_size_may_be_any_whole_number(pool: MemoryPool) -> None:
    with pool.rent(np.int32(100)) as buffer:
        assert len(buffer) == 100


# ---- returned twice ---------------------------------------------------------

FIRST: dict[str, Callable[[MemoryPool, PooledBuffer], object]] = {
    "return_": lambda pool, buffer: buffer.return_(),
    "release": lambda pool, buffer: buffer.release(),
    "pool.return_": lambda pool, buffer: pool.return_(buffer),
    "with": lambda pool, buffer: buffer.__exit__(None, None, None),
}
SECOND = {name: call for name, call in FIRST.items() if name != "with"}
WHERE: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "here": lambda call: call(),
    "elsewhere": on_thread,
}


@pytest.mark.parametrize(
    ("first", "second", "where"), list(itertools.product(FIRST, SECOND, WHERE))
)
def test_returned_twice(pool: MemoryPool, first: str, second: str, where: str) -> None:
    buffer = pool.rent(100)
    FIRST[first](pool, buffer)
    with pytest.raises(memguard.ReturnedError, match="returned before") as raised:
        WHERE[where](lambda: SECOND[second](pool, buffer))
    assert raised.value.code == "ERR_MEMGUARD_RETURNED"
    assert isinstance(raised.value, ValueError)
    assert pool.stats()["double_returns"] == 1
    assert kinds(pool) == {"double_return": 1}
    # The memory is another's by now, who does not notice.
    other = pool.rent(100)
    with pytest.raises(memguard.ReturnedError):
        buffer.return_()
    assert not other.returned
    other.return_()
    assert pool.stats()["current"] == 0


def test_returned_by_many_threads_at_once(pool: MemoryPool) -> None:
    done, refused = [], []
    for _ in range(200):
        buffer = pool.rent(100)
        gate = threading.Barrier(4)

        def end(buffer: PooledBuffer = buffer, gate: Any = gate) -> None:
            gate.wait(30)
            try:
                buffer.return_()
            except memguard.ReturnedError:
                refused.append(1)
            else:
                done.append(1)

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert (len(done), len(refused)) == (200, 600)
    stats = pool.stats()
    assert (stats["returned"], stats["double_returns"]) == (200, 600)


def test_returned_to_another_pool(pool: MemoryPool) -> None:
    buffer = pool.rent(100)
    with MemoryPool(environment=False) as other:
        with pytest.raises(memguard.ForeignError, match="it is not of") as raised:
            other.return_(buffer)
        assert raised.value.code == "ERR_MEMGUARD_FOREIGN"
        assert kinds(other) == {"foreign_return": 1}
        assert other.stats()["foreign_returns"] == 1
    assert not buffer.returned
    pool.return_(buffer)
    assert pool.findings() == []


# ---- used after the return --------------------------------------------------


def test_used_after_the_return(pool: MemoryPool) -> None:
    buffer = pool.rent(100)
    buffer.return_()
    for use in (
        lambda: buffer.memory,
        lambda: memoryview(buffer),
        lambda: np.frombuffer(buffer, dtype="u1"),
        lambda: b"".join([memoryview(buffer)]),
    ):
        with pytest.raises(memguard.ReturnedError, match="used after its return"):
            use()
    assert (len(buffer), buffer.capacity) == (100, 128)


def test_views_keep_the_memory(pool: MemoryPool) -> None:
    buffer = pool.rent(800)
    array = np.frombuffer(buffer, dtype="f8")
    view = buffer.memory
    array[:] = 1.5
    buffer.return_()
    assert buffer.returned
    stats = pool.stats()
    assert (stats["deferred"], stats["deferred_now"], stats["current"]) == (1, 1, 1)
    with pytest.raises(memguard.ReturnedError):
        buffer.return_()
    assert kinds(pool) == {"double_return": 1}
    others = pool.rent_many(50, 800)
    for other in others:
        other.memory[:] = bytes(800)
    assert array.sum() == 150.0
    view.release()
    assert pool.stats()["deferred_now"] == 1
    del array
    assert pool.stats()["deferred_now"] == 0
    for other in others:
        other.return_()
    assert pool.stats()["current"] == 0


def test_a_view_outlives_all_else() -> None:
    pool = MemoryPool(environment=False)
    view = pool.rent(100).memory
    view[:3] = b"abc"
    pool.close()
    del pool
    gc.collect()
    assert bytes(view[:3]) == b"abc"


def test_written_after_the_return() -> None:
    """By code that kept the address: the memory is checked before it serves
    again."""
    with MemoryPool({"leak_check": "paranoid"}, environment=False) as pool:
        buffer = pool.rent(100)
        address = np.frombuffer(buffer, dtype="u1").ctypes.data
        buffer.return_()
        import ctypes

        ctypes.memset(address, 5, 1)
        pool._tick(1e6)
        found = [f for f in pool.findings() if f["kind"] == "write_after_return"]
    assert len(found) == 1
    assert "test_written_after_the_return" in found[0]["site"][0]


# ---- arrays of objects ------------------------------------------------------


def test_arrays(pool: MemoryPool) -> None:
    array = pool.rent_array(100)
    assert array == []
    array.extend(range(1000))
    array.return_()
    assert array == []
    assert array.returned
    with pytest.raises(memguard.ReturnedError, match="PooledArray"):
        array.return_()
    with pool.rent_array() as batch:
        batch.append("x")
        assert batch is not array
    assert (list(batch), batch.returned) == ([], True)
    with pytest.raises(memguard.RangeError, match="capacity is -1"):
        pool.rent_array(-1)
    with pytest.raises(memguard.ConfigTypeError, match=r"capacity is 1\.5"):
        pool.rent_array(1.5)  # type: ignore[arg-type]
    with pytest.raises(memguard.RangeError, match="capacity is"):
        pool.rent_array(1 << 40)
