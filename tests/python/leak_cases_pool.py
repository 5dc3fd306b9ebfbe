"""Calls for test_leaks.py: pools. Each public name stands in the case that calls
it."""

import contextlib
from collections.abc import Callable
from typing import Any

import memguard

PARANOID = {"leak_check": "paranoid"}


def renting(w: Any) -> None:
    pool = memguard.shared_pool()
    with pool.rent(100) as buffer, pool.rent_memory(5000) as other:
        buffer.memory[0] = 1
        assert len(buffer) + buffer.capacity + len(other) > 0
    for one in pool.rent_many(5, 100):
        one.release()
    buffer = pool.rent(100)
    view = buffer.memory
    pool.return_(buffer)
    with contextlib.suppress(memguard.ReturnedError):
        buffer.return_()
    with contextlib.suppress(memguard.ReturnedError):
        memoryview(buffer)
    assert buffer.returned
    view.release()
    for wrong in (0, 1.5, "x", 1 << 70):
        with contextlib.suppress(memguard.RangeError, memguard.ConfigTypeError):
            pool.rent(wrong)
    with contextlib.suppress(memguard.ConfigTypeError):
        pool.return_(wrong)  # type: ignore[arg-type]


def looking(w: Any) -> None:
    pool = memguard.shared_pool()
    pool.stats()
    pool.findings()
    pool.suspects()
    pool.trim(0.5)
    assert pool.config
    assert pool.enabled
    assert not pool.closed


def life(w: Any) -> None:
    with memguard.MemoryPool(PARANOID, environment=False) as pool:
        pool.update_config({"suspect_after": "1s"})
        kept = pool.rent(1000)
        pool.rent(1000)
        pool.rent(70_000).return_()
        pool._tick(1e6)
        pool._tick(9e6)
        pool._suspects(9e6)
        pool.findings()
    kept.return_()
    pool.close()
    assert w.manager.pool is w.manager.pool


def writing(w: Any) -> None:
    pool = memguard.shared_pool()
    with pool.rent_writer(10, max_bytes=1000) as writer:
        writer.write(b"x" * 100)
        writer.get_span(200)[0] = 1
        writer.advance(1)
        with contextlib.suppress(memguard.RangeError):
            writer.write(b"x" * 1000)
        writer.flush()
        flags = writer.writable(), writer.readable(), writer.seekable(), writer.closed
        assert flags == (True, False, False, False)
        assert writer.tell() == writer.written_count == len(writer.written)
        assert writer.capacity
        writer.clear()
    writer = pool.rent_writer()
    writer.detach().return_()
    for end in (writer.dispose, writer.return_, writer.close):
        end()
    with contextlib.suppress(memguard.ClosedError):
        writer.write(b"")


def arrays(w: Any) -> None:
    with memguard.shared_pool().rent_array(5) as array:
        array.append(object())
    assert array.returned
    memguard.shared_pool().rent_array().return_()


def objects(w: Any) -> None:
    pool = memguard.ObjectPool(set, lambda item: item.clear(), 2)
    with pool.borrow() as item:
        item.add(1)
    pool.return_(pool.rent())
    pool.release(pool.acquire())
    with pool.using():
        pool.rent()
    with contextlib.suppress(memguard.ForeignError):
        pool.return_(set())
    pool.stats()
    pool.get_stats()
    pool.trim()
    pool.close()


def windows(w: Any) -> None:
    with memguard.FrameWindow(5, ("a", "b")) as window:
        for number in range(20):
            window.append(number, 1)
        window.array(2)
        with contextlib.suppress(memguard.AbsentError):
            window.frame()
        window.latest()
        window.column("a", window.max_candles)
        assert window.columns
        window.clear()
    assert window.returned
    memguard.FrameWindow(5).return_()


def names(kind: str, *methods: str) -> list[str]:
    return [kind, *(f"{kind}.{method}" for method in methods)]


BUFFER = ("return_", "release", "memory", "capacity", "returned")
WRITER = (
    "advance",
    "get_span",
    "write",
    "written",
    "written_count",
    "capacity",
    "clear",
    "detach",
    "dispose",
    "return_",
    "close",
    "closed",
    "flush",
    "tell",
    "writable",
    "readable",
    "seekable",
)
OBJECTS = (
    "rent",
    "return_",
    "borrow",
    "acquire",
    "release",
    "using",
    "stats",
    "get_stats",
    "trim",
    "close",
)
WINDOW = (
    "append",
    "array",
    "frame",
    "latest",
    "column",
    "columns",
    "max_candles",
    "clear",
    "return_",
    "returned",
)

CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "rentals": (
        renting,
        [
            "shared_pool",
            *names("PooledBuffer", *BUFFER),
            "MemoryPool.rent",
            "MemoryPool.rent_memory",
            "MemoryPool.rent_many",
            "MemoryPool.return_",
        ],
    ),
    "looking at a pool": (
        looking,
        [
            "MemoryPool.stats",
            "MemoryPool.findings",
            "MemoryPool.suspects",
            "MemoryPool.trim",
            "MemoryPool.config",
            "MemoryPool.enabled",
            "MemoryPool.closed",
        ],
    ),
    "pools": (
        life,
        [*names("MemoryPool", "update_config", "close"), "ResourceManager.pool"],
    ),
    "writers": (
        writing,
        ["MemoryPool.rent_writer", *names("PooledBufferWriter", *WRITER)],
    ),
    "arrays": (
        arrays,
        ["MemoryPool.rent_array", *names("PooledArray", "return_", "returned")],
    ),
    "ObjectPool": (objects, names("ObjectPool", *OBJECTS)),
    "FrameWindow": (windows, names("FrameWindow", *WINDOW)),
}
