"""The pools of memguard._core; this file only divides its stubs."""

from typing import Any, Self, final

from memguard._core import Settings

@final
class PooledBuffer:
    """Bytes rented from a MemoryPool: a writable buffer (memoryview(b),
    numpy.frombuffer(b), file.readinto(b)) of exactly the length asked for, whose
    contents are what an earlier owner left. Give it back with return_(), or use it
    as a context manager. One that is forgotten goes back by itself and is reported
    as a leak."""

    @property
    def memory(self) -> memoryview:
        """A writable memoryview of the bytes. Raises ReturnedError after the
        return."""

    @property
    def capacity(self) -> int:
        """Bytes the pool set aside for it; at least len()."""

    @property
    def returned(self) -> bool:
        """Whether it was returned."""

    def return_(self) -> None:
        """Ends the rental; the memory serves others from now on. While views of it
        live (memoryview, numpy array) the pool gets it when the last one goes.
        Raises ReturnedError the second time. Any thread."""

    def release(self) -> None:
        """The same as return_()."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

@final
class PooledBufferWriter:
    """A binary file, to be written, in memory rented from a MemoryPool. It grows by
    doubling. dispose() or a `with` block gives the memory back, detach() hands it
    on. One thread at a time writes."""

    @property
    def written(self) -> memoryview:
        """A memoryview of what was written. Raises ClosedError."""

    @property
    def written_count(self) -> int:
        """Bytes written. Raises ClosedError."""

    @property
    def capacity(self) -> int:
        """Bytes there is room for without growing. Raises ClosedError."""

    @property
    def closed(self) -> bool:
        """Whether it was disposed of."""

    def advance(self, count: int, /) -> None:
        """Counts the next `count` bytes of the span as written. Raises RangeError
        if there are fewer, ConfigTypeError, ClosedError."""

    def get_span(self, size_hint: int = 0, /) -> memoryview:
        """A writable memoryview of the free space, of `size_hint` bytes at least:
        write there, then advance(). It is the writer's until the next get_span()
        or write(): one that grows leaves it behind. Raises RangeError past
        max_bytes, ConfigTypeError, NoMemoryError, ClosedError."""

    def write(self, data: bytes | bytearray | memoryview | PooledBuffer, /) -> int:
        """Appends bytes, or what has a contiguous buffer. Returns their number.
        Raises RangeError past max_bytes, and then has written nothing;
        ConfigTypeError, BufferError, NoMemoryError, ClosedError."""

    def clear(self) -> None:
        """Forgets what was written; the room stays. Raises ClosedError."""

    def detach(self) -> PooledBuffer:
        """What was written as a PooledBuffer of written_count bytes, which is the
        caller's to return; nothing is copied. The writer is disposed of. Raises
        ClosedError."""

    def dispose(self) -> None:
        """Returns its memory; views of it stay valid. Later use raises ClosedError.
        Idempotent."""

    def return_(self) -> None:
        """The same as dispose()."""

    def close(self) -> None:
        """The same as dispose()."""

    def flush(self) -> None:
        """Does nothing, as a file in memory. Raises ClosedError."""

    def tell(self) -> int:
        """The same as written_count."""

    def writable(self) -> bool:
        """True."""

    def readable(self) -> bool:
        """False."""

    def seekable(self) -> bool:
        """False."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

class Pool:
    """Base of memguard.MemoryPool."""

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used."""

    def rent(self, n: int, /) -> PooledBuffer:
        """A PooledBuffer of `n` bytes, 1 to 2**40, not cleared: give it back with
        return_(). Raises ConfigTypeError (not a whole number), RangeError,
        NoMemoryError and ClosedError. Any thread."""

    def rent_memory(self, n: int, /) -> PooledBuffer:
        """The same as rent()."""

    def rent_many(self, count: int, n: int, /) -> list[PooledBuffer]:
        """A list of `count` (0 to 1048576) PooledBuffers of `n` bytes each; all of
        them, or an exception as rent() raises. Any thread."""

    def rent_writer(
        self, size_hint: int = 256, max_bytes: int | None = None
    ) -> PooledBufferWriter:
        """A PooledBufferWriter with room for `size_hint` bytes, which grows up to
        `max_bytes` (None: 2**40). Raises as rent(). Any thread."""

    def return_(self, buffer: PooledBuffer, /) -> None:
        """buffer.return_(), for a buffer of this pool. Raises ReturnedError (it was
        returned before), ForeignError (it is of another pool), ConfigTypeError.
        Any thread."""

    def trim(self, share: float = 1.0) -> int:
        """Gives that share of the idle memory back to the system, the oldest first.
        Returns the bytes given back. Raises RangeError, ConfigTypeError and
        ClosedError. Any thread."""

    def stats(self) -> dict[str, Any]:
        """Numbers since the pool was opened, by name: rented, returned, lost;
        current (rented - returned - lost), current_bytes; held_bytes (the pool's
        own memory, rented or idle), peak_held_bytes; cache_hits (rentals that took
        no lock), plain (rentals served by the allocator); os_maps, os_bytes,
        given_back_bytes; sites_kept, suspected, withdrawn (suspected, then returned
        after all); double_returns, foreign_returns, writes_after_return,
        findings_lost (not asked for in time); deferred (returned while views
        lived), deferred_now (their views live still); tiers: rented, returned,
        current, current_bytes of small, medium, large and huge. Raises ClosedError.
        Any thread."""

    def findings(self) -> list[dict[str, Any]]:
        """What was found wrong since the last call, oldest first; 64 are kept.

        Each is a dict: kind (lost, double_return, foreign_return,
        write_after_return), count (the same mistake at the same place is one
        finding), capacity (bytes; None: not known), age_ms (lost: since the
        rental), site (where it was rented, "function (file:line)" innermost first;
        None: not kept, see leak_check). Raises ClosedError. Any thread."""

    def _open(self, settings: Settings | None, /) -> None: ...
    def _configure(self, settings: Settings, /) -> None: ...
    def _tick(self, now_ms: float | None = None, /) -> None: ...
    def _suspects(self, now_ms: float | None = None, /) -> list[dict[str, Any]]: ...
    def _take_lost(self) -> list[tuple[int, list[str] | None]]: ...
    def _close(self) -> None: ...
    def _after_fork(self) -> None: ...
