"""ManagedConnectionPool and, for asyncio, AsyncManagedConnectionPool.

A pool has no thread of its own. Connections that are closed or were idle for too
long are removed when it is used, at prune() and under memory pressure, when it
also gives up idle ones that are good.

Code of the program (factory, close, is_closed) is never called with the pool's
lock held. The lock is reentrant and what it guards bears an interruption between
any two steps: a finalizer that releases a connection may run inside of it.
"""

from __future__ import annotations

from _thread import RLock, allocate_lock
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from math import ceil
from time import monotonic

from memguard import _core, _life, _log
from memguard._caches import register_pool
from memguard._core import (
    ClosedError,
    ConfigTypeError,
    ConflictError,
    InvalidError,
    NotFoundError,
    RangeError,
    WaitTimeoutError,
)
from memguard.reuse import require_callable, require_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    _Books = dict[int, Any]
else:
    _Books = dict

# What a waiter is given besides a connection.
_PERMIT = object()  # to make one; counted in _moving
_END = object()  # the pool is closed


def _require_seconds(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigTypeError(f"{what} is {value!r}, allowed: seconds")
    if not 0 <= value < float("inf"):
        raise RangeError(f"{what} is {value}, allowed: seconds from 0 on")


def _close(connection: Any) -> Any:
    return connection.close()


def _is_closed(connection: Any) -> bool:
    closed = getattr(connection, "closed", False)
    return not callable(closed) and bool(closed)


class _Waiter:
    """One acquire() under way. `given` is set once, with the pool's lock held."""

    __slots__ = ("future", "given", "lock", "loop")

    def __init__(self) -> None:
        self.given: Any = None
        self.lock: Any = None
        self.future: asyncio.Future[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def give(self, what: Any) -> None:
        self.given = what
        if self.lock is not None:
            self.lock.release()
        if self.future is not None and self.loop is not None:
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        assert self.future is not None
        if not self.future.done():
            self.future.set_result(None)


class _Active(_Books):
    """Connections in use, counted for the metrics of the process. A forked child
    begins its count anew, so clear() does not count."""

    _count = staticmethod(_core._metrics_add_connections)

    def __init__(self) -> None:
        super().__init__()
        self._count(0)  # from now on their number is known

    def __setitem__(self, key: int, connection: Any) -> None:
        self._count(key not in self)
        super().__setitem__(key, connection)

    def pop(self, key: int, default: Any = None) -> Any:
        self._count(-(key in self))
        return super().pop(key, default)

    def __del__(self) -> None:
        self._count(-len(self))


class _Pool:
    """The books of a pool, and what does not wait. Every connection is in one
    place: idle, active, or moving (being made, checked). Together they are at
    most `max_connections`."""

    def __init__(
        self,
        factory: Callable[[], Any],
        max_connections: int = 10,
        *,
        close: Callable[[Any], object] | None = None,
        is_closed: Callable[[Any], object] | None = None,
        idle_timeout: float = 300.0,
        name: str | None = None,
    ) -> None:
        require_callable("factory", factory)
        require_count("max_connections", max_connections, 1)
        for what, function in (("close", close), ("is_closed", is_closed)):
            if function is not None:
                require_callable(what, function)
        _require_seconds("idle_timeout", idle_timeout)
        self._factory = factory
        self._close_one = close or _close
        self._is_closed_one = is_closed or _is_closed
        self._max = max_connections
        self._idle_timeout = idle_timeout
        self._lock = RLock()
        self._idle: deque[tuple[Any, float]] = deque()  # longest idle first
        self._active = _Active()
        self._moving = 0
        self._waiters: deque[_Waiter] = deque()
        self._inherited: dict[int, Any] = {}
        self._closing: set[Any] = set()  # tasks of the asyncio one
        self._closed = False
        self._created = self._ended = self._timed_out = self._failures = 0
        self._complaints = _log.Complaints()
        self._registration = register_pool(self, name=name)
        _life.add(self)

    # ---- books, with the lock held ------------------------------------------

    def _enqueue(self, waiter: _Waiter) -> None:
        if self._closed:
            raise ClosedError(f"{type(self).__name__} used after close()")
        self._waiters.append(waiter)
        self._match()

    def _match(self) -> None:
        """Serves waiters, first come first served, as far as there is room."""
        while self._waiters and (self._idle or self._has_room()):
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                return
            try:
                connection = self._idle.pop()[0]
            except IndexError:
                if not self._has_room():
                    self._waiters.appendleft(waiter)
                    continue
                self._moving += 1
                waiter.give(_PERMIT)
            else:
                self._active[id(connection)] = connection
                waiter.give(connection)

    def _has_room(self) -> bool:
        return len(self._idle) + len(self._active) + self._moving < self._max

    def _withdraw(self, waiter: _Waiter) -> bool:
        """Whether the waiter was still waiting."""
        with self._lock:
            try:
                self._waiters.remove(waiter)
            except ValueError:
                return False
            return True

    def _abandon(self, waiter: _Waiter) -> None:
        """Nobody waits any more: what was given goes to the next."""
        if not self._withdraw(waiter):
            self._give_back(waiter.given)

    def _must_be_served(self, waiter: _Waiter, timeout: float | None) -> None:
        """Raises WaitTimeoutError if the wait ended in vain."""
        if self._withdraw(waiter):
            self._timed_out += 1
            raise WaitTimeoutError(
                f"no connection within {timeout} s: {self._max} are in use"
            )

    def _take_idle(self, amount: int) -> list[tuple[Any, float]]:
        taken = []
        for _ in range(amount):
            try:
                taken.append(self._idle.popleft())
            except IndexError:
                break
        return taken

    def _take_stale(self) -> list[Any]:
        end = monotonic() - self._idle_timeout
        stale = []
        while self._idle and self._idle[0][1] < end:
            stale += self._take_idle(1)
        return [connection for connection, _ in stale]

    # ---- what calls the program, without the lock ---------------------------

    def _is_good(self, connection: Any) -> bool:
        try:
            return not self._is_closed_one(connection)
        except Exception:
            self._failed("is_closed", "is_closed of a connection pool failed")
            return False

    def _failed(self, what: str, message: str) -> None:
        self._failures += 1
        self._complaints.failed(what, message)

    def _close_all(self, connections: list[Any]) -> None:
        raise NotImplementedError

    def _made(self, connection: Any) -> None:
        """Enters what the factory returned in the books."""
        if connection is None:
            raise InvalidError("factory returned None, allowed: a connection")
        with self._lock:
            is_known = id(connection) in self._active
            is_late = self._closed
            self._created += not is_known
            if not (is_known or is_late):
                self._moving -= 1
                self._active[id(connection)] = connection
        if is_known:
            raise ConflictError("factory returned a connection that is in use")
        if is_late:
            self._close_all([connection])
            raise ClosedError(f"{type(self).__name__} was closed meanwhile")

    def _not_made(self) -> None:
        with self._lock:
            self._moving -= 1
            self._failures += not self._closed
            self._match()

    def _use(self, given: Any) -> Any:
        """What to hand out: the connection, or _PERMIT to make one."""
        while given is not _PERMIT:
            if given is _END:
                raise ClosedError(f"{type(self).__name__} was closed meanwhile")
            if self._is_good(given):
                return given
            with self._lock:
                self._active.pop(id(given), None)
                self._ended += 1
                if self._idle:
                    given = self._idle.pop()[0]
                    self._active[id(given)] = given
                else:
                    self._moving += 1
                    given = _PERMIT
        return given

    def _give_back(self, given: Any) -> None:
        """Undoes a give() that came too late for its waiter."""
        if given is _PERMIT:
            with self._lock:
                self._moving -= 1
                self._match()
        elif given is not None and given is not _END:
            self.release(given)

    def release(self, connection: Any, *, discard: bool = False) -> None:
        """Takes a connection back: for whoever waits longest, else it is idle. One
        that is closed, or to be discarded, is removed. May be called anywhere, in
        a finalizer too. Raises ConflictError if it is idle already, NotFoundError
        if it is not of this pool."""
        with self._lock:
            if self._active.pop(id(connection), None) is None:
                self._refuse(connection)
                return
            self._moving += 1
        is_good = not discard and self._is_good(connection)
        ended = []
        with self._lock:
            self._moving -= 1
            if is_good and not self._closed:
                self._idle.append((connection, monotonic()))
                self._match()
                ended = self._take_stale()
            else:
                self._match()
        if not is_good and not discard:
            self._ended += 1  # by itself: nothing to close
        elif not is_good or self._closed:
            ended.append(connection)
        self._close_all(ended)

    def _refuse(self, connection: Any) -> None:
        if id(connection) in self._inherited:
            return
        if any(idle is connection for idle, _ in self._idle):
            raise ConflictError("a connection was released twice")
        raise NotFoundError(f"{connection!r} is not a connection of this pool")

    # ---- public -------------------------------------------------------------

    def prune(self) -> int:
        """Removes idle connections that are closed or were idle for longer than
        `idle_timeout`. Returns how many."""
        with self._lock:
            stale = self._take_stale()
            there = self._take_idle(len(self._idle))
            self._moving += len(there)
        good = [entry for entry in there if self._is_good(entry[0])]
        with self._lock:
            self._moving -= len(there)
            self._ended += len(there) - len(good)
            if self._closed:
                stale += [connection for connection, _ in good]
            else:
                self._idle.extendleft(reversed(good))
            self._match()
        self._close_all(stale)
        return len(stale) + len(there) - len(good)

    def trim(self, share: float = 1.0) -> int:
        """prune(), and closes that share of the other idle connections, 0.0 to
        1.0, longest idle first. Returns how many are gone."""
        pruned = self.prune()
        with self._lock:
            amount = ceil(len(self._idle) * min(max(share, 0.0), 1.0))
            taken = [connection for connection, _ in self._take_idle(amount)]
            self._match()
        self._close_all(taken)
        return pruned + len(taken)

    def get_stats(self) -> dict[str, int]:
        """active (also: being made), idle, waiting, max; so far: created, closed
        (by the pool or found closed), timed_out, failures (of factory, close and
        is_closed)."""
        return {
            "active": len(self._active) + self._moving,
            "idle": len(self._idle),
            "waiting": len(self._waiters),
            "max": self._max,
            "created": self._created,
            "closed": self._ended,
            "timed_out": self._timed_out,
            "failures": self._failures,
        }

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def _end(self) -> None:
        """close(), as far as nothing is waited for."""
        with self._lock:
            self._closed = True
            idle = [connection for connection, _ in self._take_idle(len(self._idle))]
            waiters = list(self._waiters)
            self._waiters.clear()
            for waiter in waiters:
                waiter.give(_END)
        self._registration.unregister()
        _life.remove(self)
        self._close_all(idle)

    def _at_exit(self) -> None:
        self._end()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or not self._idle:
            return
        import warnings

        warnings.warn(
            f"{type(self).__name__} was dropped without close(): closing "
            f"{len(self._idle)} idle connections",
            ResourceWarning,
            stacklevel=1,
            source=self,
        )
        self._end()

    def _after_fork_in_child(self) -> None:
        """What the pool holds is the parent's. It is kept, so that no finalizer
        says good-bye on the parent's sockets, and used no more."""
        self._lock = RLock()
        self._inherited |= self._active
        self._inherited |= {id(connection): connection for connection, _ in self._idle}
        self._idle.clear()
        self._active.clear()
        self._waiters.clear()
        self._moving = 0


class ManagedConnectionPool(_Pool, _life.Closing):
    """At most `max_connections`, made by `factory()` when none is idle.

    `close(connection)`: by default its method close(). `is_closed(connection)`: by
    default whether its attribute `closed` is true; must not block. `idle_timeout`:
    seconds after which an idle connection is closed. Under memory pressure the
    pool closes idle ones. A `close` or `is_closed` that raises is logged, and the
    connection is gone.

    Any thread may use it. After a fork the child begins with an empty pool: what
    it inherited it neither uses nor closes. As a context manager it closes itself.

    Raises ConfigTypeError, RangeError.
    """

    def acquire(self, timeout: float | None = None) -> Any:
        """A connection, the one used last if some are idle. Waits, first come first
        served, for `timeout` seconds; None: for as long as it takes.

        Raises WaitTimeoutError, ClosedError (also if it is closed meanwhile), and
        what `factory` raises; others that wait go on.
        """
        if timeout is not None:
            _require_seconds("timeout", timeout)
        waiter = _Waiter()
        with self._lock:
            stale = self._take_stale()
            self._enqueue(waiter)
            if waiter.given is None:
                waiter.lock = allocate_lock()
                waiter.lock.acquire()
        self._close_all(stale)
        if waiter.lock is not None:
            self._wait(waiter, timeout)
        given = self._use(waiter.given)
        return self._make() if given is _PERMIT else given

    def _wait(self, waiter: _Waiter, timeout: float | None) -> None:
        try:
            if waiter.lock.acquire(True, -1 if timeout is None else timeout):
                return
        except BaseException:  # KeyboardInterrupt
            self._abandon(waiter)
            raise
        self._must_be_served(waiter, timeout)

    def _make(self) -> Any:
        try:
            connection = self._factory()
            self._made(connection)
        except BaseException:
            self._not_made()
            raise
        return connection

    def _close_all(self, connections: list[Any]) -> None:
        for connection in connections:
            self._ended += 1
            try:
                self._close_one(connection)
            except Exception:
                self._failed("close", "close of a connection pool failed")

    @contextmanager
    def connection(self, timeout: float | None = None) -> Iterator[Any]:
        """For `with`: acquire(), and release() at the end of the block."""
        connection = self.acquire(timeout)
        try:
            yield connection
        finally:
            self.release(connection)

    def close(self) -> None:
        """Closes idle connections, ends all waiting with ClosedError; those in use
        are closed when they come back. Idempotent."""
        if not self._closed:
            self._end()


class AsyncManagedConnectionPool(_Pool, _life.AsyncClosing):
    """ManagedConnectionPool for one asyncio event loop.

    `factory` and `close` may be coroutine functions. release(), prune() and trim()
    do not wait: what they close is closed by tasks, which close() waits for. Under
    memory pressure any thread may trim; all else belongs to the loop's thread.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    async def acquire(self, timeout: float | None = None) -> Any:
        """As ManagedConnectionPool.acquire(). If it is cancelled, whoever waits next
        is served."""
        import asyncio

        if timeout is not None:
            _require_seconds("timeout", timeout)
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise ConflictError("an AsyncManagedConnectionPool serves one event loop")
        self._loop = loop
        waiter = _Waiter()
        with self._lock:
            stale = self._take_stale()
            self._enqueue(waiter)
            if waiter.given is None:
                waiter.loop = loop
                waiter.future = loop.create_future()
        self._close_all(stale)
        if waiter.future is not None:
            await self._wait(waiter, waiter.future, timeout)
        given = self._use(waiter.given)
        return await self._make() if given is _PERMIT else given

    async def _wait(
        self, waiter: _Waiter, future: asyncio.Future[None], timeout: float | None
    ) -> None:
        import asyncio

        try:
            await asyncio.wait({future}, timeout=timeout)
        except BaseException:  # CancelledError
            self._abandon(waiter)
            raise
        self._must_be_served(waiter, timeout)

    async def _make(self) -> Any:
        try:
            connection = self._factory()
            if hasattr(connection, "__await__"):
                connection = await connection
            self._made(connection)
        except BaseException:
            self._not_made()
            raise
        return connection

    def _close_all(self, connections: list[Any]) -> None:
        if not connections:
            return
        self._ended += len(connections)
        loop = self._loop
        try:
            if loop is None:
                raise RuntimeError("no event loop has used the pool yet")
            loop.call_soon_threadsafe(self._begin_closing, connections)
        except RuntimeError:  # the loop has ended, and its connections with it
            self._failed("close", "close of a connection pool failed")

    def _begin_closing(self, connections: list[Any]) -> None:
        import asyncio

        for connection in connections:
            task = asyncio.ensure_future(self._close_safely(connection))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_safely(self, connection: Any) -> None:
        try:
            result = self._close_one(connection)
            if hasattr(result, "__await__"):
                await result
        except Exception:
            self._failed("close", "close of a connection pool failed")

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Any]:
        """For `async with`: acquire(), and release() at the end of the block."""
        connection = await self.acquire(timeout)
        try:
            yield connection
        finally:
            self.release(connection)

    async def close(self) -> None:
        """As ManagedConnectionPool.close(); waits until what is being closed is."""
        import asyncio

        if not self._closed:
            self._end()
        await asyncio.sleep(0)
        if self._closing:
            await asyncio.wait(set(self._closing))
