"""MemoryPool: buffers that are rented and returned instead of allocated; and
ObjectPool, the same for objects of any kind.

    pool = memguard.shared_pool()
    with pool.rent(65536) as buffer:
        count = socket.recv_into(buffer)
        handle(memoryview(buffer)[:count])

Memory is kept in size classes from 64 bytes to 1 MiB, by thread, and given back
when it is idle; larger buffers are kept in a cache capped by bytes. Under memory
pressure pools shrink by themselves, at the critical level they allocate plainly,
and both ends with it. A monitor that runs (a ResourceManager has one) sees to
that, and to idle memory going back as time passes; without one trim() does it.
"""

from __future__ import annotations

from _weakref import ref
from contextlib import contextmanager

from memguard import _core, _life, _log
from memguard._core import ClosedError, ForeignError, RangeError, ReturnedError
from memguard.config import apply, nested, resolve
from memguard.reuse import ReusePool, require_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Self

    from memguard.config import Path

ARRAY_MOST = 1 << 30  # items


class PooledArray(_life.Returning, list[object]):
    """A list for a batch of objects, rented from a MemoryPool: to be appended to,
    and emptied by return_(), which lets go of the objects there and then, whoever
    still holds the list. Also a context manager.

    Python keeps spare lists by itself, and frees the room of one that is emptied:
    each rental is a list of its own, so that a stale reference to one that was
    returned never leads to another's.
    """

    __slots__ = ("_is_returned",)

    def __init__(self) -> None:
        self._is_returned = False

    @property
    def returned(self) -> bool:
        """Whether it was returned."""
        return self._is_returned

    def return_(self) -> None:
        """Empties it and ends the rental. Raises ReturnedError the second time."""
        if self._is_returned:
            raise ReturnedError("a PooledArray was returned before")
        self._is_returned = True
        self.clear()


class MemoryPool(_core.Pool, _life.Closing):
    """A pool of memory.

    `config`: the settings of the section pool, flat or nested (pool_enabled,
    max_pool_mb, thread_cache_mb, huge_cache_mb, leak_check, suspect_after); see
    ResourceManager for the other arguments and the errors. With `pool_enabled`
    false, and above max_pool_mb, each buffer is allocated plainly, with the same
    checks and statistics.

    What is returned twice, or to another pool, is refused with an exception; what
    is forgotten is reclaimed when its object goes, counted as lost and logged once
    for each place it was rented at. findings() tells of both.

    Any thread may rent, and any other return. Buffers may outlive the pool. After
    a fork both processes have all rentals, each its own copy.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        profile: str | None = None,
        file: Path | None = None,
        environment: bool | Mapping[str, str] = True,
    ) -> None:
        settings = resolve(config, profile=profile, file=file, environment=environment)
        self._set_up(settings, settings)

    @classmethod
    def _of(cls, settings: _core.Settings | None) -> Self:
        """One with these settings; None: the one that the process shares."""
        self = cls.__new__(cls)
        self._set_up(settings, settings or _core.Settings())
        return self

    def _set_up(self, source: _core.Settings | None, settings: _core.Settings) -> None:
        self._open(source)
        self._settings = settings
        _life.add(self)

    # ---- settings ----------------------------------------------------------

    @property
    def config(self) -> dict[str, bool | int | float]:
        """The settings in force, by name; durations in seconds."""
        return nested(self._settings)["pool"]

    @property
    def enabled(self) -> bool:
        """Whether it pools; else it allocates plainly."""
        return bool(self._settings.get("pool.pool_enabled"))

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Changes settings while running, all or none. Raises as the constructor,
        and ClosedError; then nothing has changed."""
        settings = self._settings.copy()
        apply(settings, config)
        settings.check()
        self._change(settings)

    def _change(self, settings: _core.Settings) -> None:
        self._configure(settings)
        self._settings = settings

    # ---- renting -----------------------------------------------------------

    def rent_array(self, capacity: int = 0) -> PooledArray:
        """An empty PooledArray. `capacity`: how many items are expected; a list
        takes the room as it grows. Raises ConfigTypeError, RangeError,
        ClosedError."""
        require_count("capacity", capacity, 0)
        if capacity > ARRAY_MOST:
            raise RangeError(f"capacity is {capacity}, allowed: 0 to {ARRAY_MOST}")
        if self.closed:
            raise ClosedError("MemoryPool is closed")
        return PooledArray()

    # ---- looking -----------------------------------------------------------

    def suspects(self) -> list[dict[str, Any]]:
        """Rentals older than `suspect_after`, 64 at most, as dicts like those of
        findings() with kind "suspected" and age_ms. One that is returned after all
        is suspected no more. Raises ClosedError. Any thread."""
        return self._suspects()

    def _tell_lost(self) -> None:
        """Called by C when there is something to tell."""
        for capacity, site in self._take_lost():
            where = " < ".join(site) if site else "a place that was not noted"
            _log.warning(
                "a rented buffer (capacity %d bytes) was dropped without being "
                "returned; it was rented at %s (told once for this place)",
                capacity,
                where,
            )

    # ---- the end -----------------------------------------------------------

    def close(self) -> None:
        """Gives all idle memory back. Rentals stay valid and may be returned;
        other use raises ClosedError. Idempotent. The pool of shared_pool() ends
        for its holder only: the next call of shared_pool() opens it anew."""
        if self.closed:
            return
        _life.remove(self)
        self._tell_lost()
        self._close()

    def _at_exit(self) -> None:
        self._tell_lost()

    def _after_fork_in_child(self) -> None:
        self._after_fork()


_shared: MemoryPool | None = None


def shared_pool() -> MemoryPool:
    """The pool that the whole process shares, with default settings."""
    global _shared
    pool = _shared
    if pool is None or pool.closed:
        pool = _shared = MemoryPool._of(None)
    return pool


# ---- objects ----------------------------------------------------------------


class _Rented(ref):  # type: ignore[type-arg]
    """A weak reference to a rented object that knows its key."""

    __slots__ = ("key",)

    key: int


class ObjectPool(ReusePool):
    """Objects that are costly to make, rented and returned.

    What ReusePool is (`factory`, `reset`, `max_size`, giving up idle ones under
    memory pressure), with returns checked: what is idle already is ReturnedError,
    what is not rented from this pool ForeignError. An object whose `reset` raises
    is dropped, and the exception logged. One that is forgotten ends as any object
    does; it counts as lost if its type has weak references.

    Raises ConfigTypeError, RangeError (`max_size`). Any thread.
    """

    def __init__(
        self,
        factory: Callable[[], Any],
        reset: Callable[[Any], object] | None = None,
        max_size: int = 64,
        *,
        name: str | None = None,
    ) -> None:
        # By id. None: of a type without weak references.
        self._out: dict[int, _Rented | None] = {}
        self._lost = 0
        super().__init__(factory, reset, max_size, name=name)

    def acquire(self) -> Any:
        """The same as rent()."""
        return self.rent()

    def release(self, item: Any) -> None:
        """The same as return_()."""
        self.return_(item)

    def rent(self) -> Any:
        """An idle object, or a new one. Raises ClosedError, and what `factory`
        raises."""
        item = super().acquire()
        try:
            rented = _Rented(item, self._forget)
            rented.key = id(item)
        except TypeError:
            self._out[id(item)] = None
        else:
            self._out[id(item)] = rented
        return item

    def _forget(self, rented: _Rented) -> None:
        if self._out.pop(rented.key, None) is not None:
            self._lost += 1

    def return_(self, item: Any) -> None:
        """Takes an object back. Raises ReturnedError, ForeignError."""
        try:
            del self._out[id(item)]
        except KeyError:
            kind = type(item).__name__
            if id(item) in self._idle:
                raise ReturnedError(f"a {kind} was returned before") from None
            raise ForeignError(f"a {kind} is not rented from this pool") from None
        super().release(item)

    @contextmanager
    def borrow(self) -> Iterator[Any]:
        """For `with`: an object, returned at the end of the block unless that was
        done inside it."""
        item = self.rent()
        try:
            yield item
        finally:
            if id(item) in self._out:
                self.return_(item)

    def stats(self) -> dict[str, int]:
        """rented, returned, lost, current (out now), idle, max, created, dropped."""
        stats = self.get_stats()
        return {
            "rented": stats["acquired"],
            "returned": stats["released"],
            "lost": self._lost,
            "current": len(self._out),
            "idle": stats["idle"],
            "max": stats["max"],
            "created": stats["created"],
            "dropped": stats["dropped"],
        }
