"""PooledBufferWriter: a binary file in rented memory."""

import gc
import io
import json
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import memguard
import numpy as np
import pytest
from memguard import MemoryPool


@pytest.fixture
def pool() -> Iterator[MemoryPool]:
    with MemoryPool({"leak_check": "paranoid"}, environment=False) as made:
        yield made
        assert made.stats()["current"] == 0
        assert made.stats()["lost"] == 0


def test_writing(pool: MemoryPool) -> None:
    with pool.rent_writer() as writer:
        assert (writer.written_count, writer.capacity) == (0, 256)
        assert bytes(writer.written) == b""
        assert writer.write(b"abc") == 3
        assert writer.write(bytearray(b"de")) == 2
        assert writer.write(memoryview(b"xfgx")[1:3]) == 2
        assert writer.write(np.frombuffer(b"hi", dtype="u1")) == 2  # type: ignore[arg-type]
        assert writer.write(b"") == 0
        assert (writer.tell(), writer.written_count) == (9, 9)
        assert bytes(writer.written) == b"abcdefghi"
        writer.clear()
        assert (writer.written_count, writer.capacity) == (0, 256)
        writer.write(b"z")
        assert bytes(writer.written) == b"z"
    assert writer.closed


def test_growing(pool: MemoryPool) -> None:
    expected = b""
    with pool.rent_writer(1) as writer:
        assert writer.capacity == 64
        for n in range(1, 300):
            writer.write(bytes([n % 251]) * n)
            expected += bytes([n % 251]) * n
        assert writer.written_count == 44850
        assert bytes(writer.written) == expected
        assert writer.capacity == 65536
        assert pool.stats()["current"] == 1


def test_spans(pool: MemoryPool) -> None:
    with pool.rent_writer(100) as writer:
        span = writer.get_span()
        assert (len(span), span.readonly) == (128, False)
        span[:3] = b"abc"
        writer.advance(3)
        assert len(writer.get_span(125)) == 125
        span = writer.get_span(1000)
        assert len(span) >= 1000
        span[:1000] = b"x" * 1000
        writer.advance(1000)
        writer.advance(0)
        assert bytes(writer.written) == b"abc" + b"x" * 1000
        with pytest.raises(memguard.RangeError, match=r"count is 5000, allowed: 0 to"):
            writer.advance(5000)
        with pytest.raises(memguard.RangeError, match="count is -1, allowed"):
            writer.advance(-1)
        with pytest.raises(memguard.ConfigTypeError, match=r"count is 1\.0"):
            writer.advance(1.0)  # type: ignore[arg-type]
        assert writer.written_count == 1003
        span.release()


def test_a_span_left_behind_harms_nobody(pool: MemoryPool) -> None:
    writer = pool.rent_writer(64)
    span = writer.get_span()
    writer.write(b"x" * 1000)
    others = pool.rent_many(20, 64)
    for other in others:
        other.memory[:] = b"o" * 64
    span[:] = b"s" * len(span)
    assert all(bytes(other.memory) == b"o" * 64 for other in others)
    assert bytes(writer.written) == b"x" * 1000
    span.release()
    writer.dispose()
    for other in others:
        other.return_()


def test_writing_its_own_bytes(pool: MemoryPool) -> None:
    with pool.rent_writer(64) as writer:
        writer.write(b"0123456789abcdef" * 4)
        for _ in range(6):
            writer.write(writer.written)
        assert bytes(writer.written) == b"0123456789abcdef" * 256


def test_detaching(pool: MemoryPool) -> None:
    writer = pool.rent_writer()
    writer.write(b"hello")
    view = writer.written
    buffer = writer.detach()
    assert (len(buffer), bytes(buffer.memory)) == (5, b"hello")
    assert view.obj is buffer  # nothing was copied
    view.release()
    assert writer.closed
    with pytest.raises(memguard.ClosedError):
        writer.write(b"x")
    with pytest.raises(memguard.ClosedError):
        writer.detach()
    writer.dispose()
    buffer.return_()
    with pytest.raises(memguard.ReturnedError):
        buffer.return_()
    with pool.rent_writer() as empty:
        nothing = empty.detach()
    assert len(nothing) == 0
    assert bytes(nothing.memory) == b""
    nothing.return_()


def test_after_the_end(pool: MemoryPool) -> None:
    for end in ("dispose", "return_", "close"):
        writer = pool.rent_writer()
        for _ in range(3):
            getattr(writer, end)()
        calls: list[Callable[[], Any]] = [
            lambda w=writer: w.write(b"x"),  # type: ignore[misc]
            lambda w=writer: w.advance(0),  # type: ignore[misc]
            writer.get_span,
            writer.clear,
            writer.detach,
            writer.flush,
            writer.tell,
            writer.__enter__,
            lambda w=writer: w.written,  # type: ignore[misc]
            lambda w=writer: w.written_count,  # type: ignore[misc]
            lambda w=writer: w.capacity,  # type: ignore[misc]
        ]
        for call in calls:
            with pytest.raises(memguard.ClosedError, match="after dispose"):
                call()
    assert pool.stats()["double_returns"] == 0


def test_its_limit(pool: MemoryPool) -> None:
    with pool.rent_writer(10, max_bytes=100) as writer:
        writer.write(b"x" * 90)
        for call in (
            lambda: writer.write(b"y" * 11),
            lambda: writer.get_span(11),
            lambda: writer.get_span(1 << 40),
        ):
            with pytest.raises(memguard.RangeError, match="allowed: 100 in all"):
                call()
        assert bytes(writer.written) == b"x" * 90
        assert len(writer.get_span()) == 10
        writer.write(b"y" * 10)
        assert len(writer.get_span()) == 0
        with pytest.raises(memguard.RangeError):
            writer.write(b"z")
        assert writer.capacity == 100
        assert bytes(writer.written) == b"x" * 90 + b"y" * 10


def test_bad_arguments(pool: MemoryPool) -> None:
    for hint, error in (
        (-1, memguard.RangeError),
        (1 << 41, memguard.RangeError),
        (math.nan, memguard.ConfigTypeError),
        ("5", memguard.ConfigTypeError),
    ):
        with pytest.raises(error, match="size_hint is"):
            pool.rent_writer(hint)  # type: ignore[arg-type]
    for most, error in ((0, memguard.RangeError), (1.5, memguard.ConfigTypeError)):
        with pytest.raises(error, match="max_bytes is"):
            pool.rent_writer(max_bytes=most)  # type: ignore[arg-type]
    with pool.rent_writer(0) as writer:
        with pytest.raises(memguard.ConfigTypeError, match=r"write\(\) of str"):
            writer.write("text")  # type: ignore[arg-type]
        with pytest.raises(memguard.ConfigTypeError, match="write\\(\\) of int"):
            writer.write(5)  # type: ignore[arg-type]
        with pytest.raises(BufferError):
            writer.write(memoryview(b"abcdef")[::2])
        with pytest.raises(memguard.RangeError, match="size_hint is -1"):
            writer.get_span(-1)
        with pytest.raises(memguard.ConfigTypeError, match="size_hint is None"):
            writer.get_span(None)  # type: ignore[arg-type]
        assert writer.written_count == 0


def test_as_a_file(pool: MemoryPool) -> None:
    value = {"a": [1, 2.5, None], "b": "ü"}
    with pool.rent_writer(1) as writer:
        assert (writer.writable(), writer.readable(), writer.seekable()) == (
            True,
            False,
            False,
        )
        pickle.dump(value, writer)
        writer.flush()
        assert pickle.loads(writer.written) == value
        writer.clear()
        text = io.TextIOWrapper(writer, "utf-8", write_through=True)  # type: ignore[type-var]
        json.dump(value, text, ensure_ascii=False)
        text.flush()
        assert json.loads(bytes(writer.written)) == value
        text.detach()
        writer.clear()
        print("line", file=io.TextIOWrapper(writer, "ascii"))  # type: ignore[type-var]
    assert writer.closed


def test_its_memory_returned_behind_its_back(pool: MemoryPool) -> None:
    writer = pool.rent_writer()
    view = writer.written
    view.obj.return_()  # type: ignore[attr-defined]
    with pytest.raises(memguard.ReturnedError):
        writer.write(b"x")
    view.release()
    with pytest.raises(memguard.ReturnedError):
        writer.dispose()
    writer.dispose()


def test_its_pool_is_closed() -> None:
    pool = MemoryPool(environment=False)
    writer = pool.rent_writer(64)
    pool.close()
    writer.write(b"x" * 64)
    with pytest.raises(memguard.ClosedError, match="its pool is closed"):
        writer.write(b"y")
    assert bytes(writer.written) == b"x" * 64
    writer.dispose()


def test_a_forgotten_one_is_reported() -> None:
    with MemoryPool({"leak_check": "paranoid"}, environment=False) as pool:
        pool.rent_writer().write(b"x" * 1000)
        gc.collect()
        (found,) = pool.findings()
    assert (found["kind"], found["capacity"]) == ("lost", 1024)
    assert "test_a_forgotten_one_is_reported" in found["site"][0]
