"""Caches and pools of the program that give something up under pressure.

memguard does not stand between a program and its cache: an operation on a
registered cache costs what it cost before. Shrinking takes entries out through
the cache's own methods, in batches, for BUDGET_S per call at most; the next call
goes on where one stopped.

Threads: any thread may call anything. The registry has no lock, because entries
leave it inside the garbage collector; who shrinks takes turns without waiting.
While entries are taken out only the lock of the program is held; what they hold
is let go after that.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock
from _weakref import ref
from collections.abc import MutableMapping, MutableSet
from contextlib import suppress
from itertools import count
from math import ceil
from time import monotonic
from types import FunctionType, MethodType

from memguard import _log
from memguard._cache_kinds import Own, Pool, adapter_of
from memguard._core import ConfigTypeError, ExistsError, InvalidError, RangeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType
    from typing import Any, Self

    from memguard._cache_kinds import Adapter


BUDGET_S = 0.05
"""How long one call of shrink() works, apart from what cannot be interrupted."""

LOCK_WAIT_S = 0.02
_CO_COROUTINE = 0x80

_registered: dict[object, Registration] = {}
_turns = count(1)
_busy = allocate_lock()


# ---- the registry -----------------------------------------------------------


class Registration:
    """What register_cache() and register_pool() return. The registration lasts
    without it, too: until unregister(), or until the cache dies. For `with`:
    unregisters at the end of the block."""

    __slots__ = {
        "__weakref__": "",
        "_adapter": "",
        "_codes": "methods in Python of a cache without a lock",
        "_complaints": "",
        "_dropped": "",
        "_failures": "",
        "_key": "in the registry",
        "_left": "entries that the calls so far have still to take out",
        "_lock": "",
        "_min_entries": "",
        "_on_evict": "",
        "_owner": "id of the manager it was registered with, or 0",
        "_share": "that _left was made of",
        "_shrinks": "",
        "_skipped": "",
        "_target": "returns the cache, None if it is gone",
        "_turn": "when it was last served",
        "is_pool": "Whether it came by register_pool().",
        "name": "As given, or the name of the type or function.",
    }

    name: str
    is_pool: bool

    def __init__(self, target: Any, adapter: Adapter, name: str | None) -> None:
        kind = type(target)
        self.name = name or str(getattr(target, "__qualname__", kind.__qualname__))
        self.is_pool = isinstance(adapter, Pool)
        self._adapter = adapter
        self._codes: dict[int, CodeType] = {}
        self._complaints = _log.Complaints()
        self._key = _key_of(target)
        self._left = 0
        self._lock: Any = None
        self._min_entries = 0
        self._on_evict: Callable[[Any, Any], object] | None = None
        self._owner = 0
        self._share = 0.0
        self._turn = 0
        self._shrinks = self._dropped = self._skipped = self._failures = 0
        is_function = isinstance(adapter, Own) and adapter.is_call
        self._target = _reference(target, self._key, is_function)

    def unregister(self) -> None:
        """Ends it, and lets the cache go. Idempotent."""
        if _registered.get(self._key) is self:
            _registered.pop(self._key, None)
        self._target = _nothing
        self._on_evict = self._lock = None

    def get_stats(self) -> dict[str, Any]:
        """name; entries (of a pool: idle and active) now, None if unknown; so far:
        shrinks (calls that took something out), dropped (entries), skipped (calls
        that found it in use), failures."""
        cache, adapter = self._target(), self._adapter
        found: dict[str, Any] = {"name": self.name}
        try:
            if isinstance(adapter, Pool):
                found |= adapter.stats(cache)
            else:
                found["entries"] = None if cache is None else adapter.size(cache)
        except Exception:
            self._failed()
            found["entries"] = None
        return found | {
            "shrinks": self._shrinks,
            "dropped": self._dropped,
            "skipped": self._skipped,
            "failures": self._failures,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unregister()

    # ---- shrinking ----------------------------------------------------------

    def _step(self, share: float, is_first: bool) -> tuple[int, bool]:
        """Takes one batch out. Returns how many, and whether more is to do."""
        cache = self._target()
        if cache is None or _registered.get(self._key) is not self:
            return 0, False
        try:
            taken = self._take(cache, share, is_first)
        except Exception:
            self._failed()
            self._left = 0
            return 0, False
        if taken is None:
            self._skipped += 1
            return 0, False
        self._complaints.worked("shrink")
        return self._account(taken, is_first)

    def _take(self, cache: Any, share: float, is_first: bool) -> list[Any] | int | None:
        """What was taken out; None: the cache is in use."""
        lock = self._lock
        if lock is None:
            if self._codes and _is_running(self._codes):
                return None
        elif _is_owned(lock) or not lock.acquire(True, LOCK_WAIT_S):
            return None
        try:
            if is_first:
                self._plan(cache, share)
            return self._adapter.drop(cache, self._left, share) if self._left else 0
        finally:
            if lock is not None:
                lock.release()

    def _plan(self, cache: Any, share: float) -> None:
        entries = self._adapter.size(cache)
        if entries is None:
            self._left = 1
        elif self._left and share <= self._share:
            self._left = min(self._left, max(0, entries - self._min_entries))
        else:
            self._share = share
            self._left = _amount(entries, share, self._min_entries)

    def _account(self, taken: list[Any] | int, is_first: bool) -> tuple[int, bool]:
        if isinstance(taken, list):
            amount = len(taken)
            self._left = self._left - amount if amount else 0
            if self._on_evict is not None:
                self._tell(self._on_evict, taken)
        else:
            amount = taken
            self._left = 0
        self._dropped += amount
        self._shrinks += is_first and amount > 0
        return amount, self._left > 0

    def _tell(self, on_evict: Callable[[Any, Any], object], taken: list[Any]) -> None:
        for key, value in taken:
            try:
                on_evict(key, value)
            except Exception:
                self._failures += 1
                self._complaints.failed("evict", "on_evict of %r failed", self.name)

    def _failed(self) -> None:
        self._failures += 1
        what = "pool" if self.is_pool else "cache"
        self._complaints.failed("shrink", "%s %r could not be shrunk", what, self.name)


def _key_of(target: Any) -> object:
    if isinstance(target, MethodType):  # a new object each time it is looked up
        return id(target.__self__), id(target.__func__)
    return id(target)


def _reference(target: Any, key: object, is_function: bool) -> Callable[[], Any]:
    """Weak where the target can be referred to weakly and has another owner: a
    lambda, say, would be gone at once."""

    def leave(_: object) -> None:
        _registered.pop(key, None)

    with suppress(TypeError):
        if isinstance(target, MethodType):
            from weakref import WeakMethod

            return WeakMethod(target, leave)
        if not is_function:
            return ref(target, leave)
    return lambda: target


def _nothing() -> None:
    """The target of a registration that has ended."""


def _amount(entries: int, share: float, min_entries: int) -> int:
    return max(0, min(ceil(entries * share), entries - min_entries))


def _codes_of(kind: type) -> dict[int, CodeType]:
    """Code of methods written in Python."""
    functions = [f for base in kind.__mro__ for f in vars(base).values()]
    codes = [f.__code__ for f in functions if isinstance(f, FunctionType)]
    return {id(code): code for code in codes}


def _is_running(codes: dict[int, CodeType]) -> bool:
    """Whether a thread is inside one of them: what it works on is not consistent,
    and this may be its own thread."""
    for frame in sys._current_frames().values():
        caller: Any = frame
        while caller is not None:
            if id(caller.f_code) in codes:
                return True
            caller = caller.f_back
    return False


def _is_owned(lock: Any) -> bool:
    """Whether this thread is at work on the cache: an RLock would let it in."""
    is_owned = getattr(lock, "_is_owned", None)
    return is_owned is not None and bool(is_owned())


def _check_name(name: object) -> None:
    if name is not None and not isinstance(name, str):
        raise ConfigTypeError(f"name is {name!r}, allowed: a str")


def _check_callable(what: str, value: object) -> None:
    if value is not None and not callable(value):
        raise ConfigTypeError(f"{what} is {value!r}, allowed: a callable")


def _check_lock(lock: Any) -> None:
    if lock is None:
        return
    acquire = getattr(lock, "acquire", None)
    flags = getattr(getattr(acquire, "__code__", None), "co_flags", 0)
    can_release = callable(getattr(lock, "release", None))
    if not callable(acquire) or not can_release or flags & _CO_COROUTINE:
        raise ConfigTypeError(f"lock is {lock!r}, allowed: a lock as of threading")


def _add(made: Registration) -> Registration:
    if _registered.setdefault(made._key, made) is not made:
        raise ExistsError(f"{made.name!r} is registered already")
    return made


def register_cache(
    cache: Any,
    *,
    name: str | None = None,
    min_entries: int = 0,
    size_of: Callable[[Any], int] | None = None,
    on_evict: Callable[[Any, Any], object] | None = None,
    lock: Any = None,
) -> Registration:
    """Has a cache give up entries under memory pressure: a quarter of them at
    level elevated, half at high, all at critical, down to `min_entries`.

    `cache` and what goes first:
    - a mutable mapping, as those of cachetools: what its popitem() returns; a
      function decorated with cachetools.cached stands for its cache and lock;
    - a dict: the oldest insertion; an OrderedDict: its front; a set: any;
    - a function with functools.lru_cache: has only cache_clear(), so it is left
      alone at elevated and cleared from level high on;
    - an object with shrink(share), or a callable: called with the share, 0.0 to
      1.0; returns how many entries it dropped, or nothing.
    The last two are left alone while they hold no more than `min_entries`.

    `name`: for statistics and the log. `size_of(cache)`: the entries of an object
    with shrink(share), where len() does not tell. `on_evict(key, value)`: called
    for each entry taken out, without a lock; not for the last two kinds. `lock`:
    what the program holds around its own use of the cache, as `cachetools` asks
    for; if it is not to be had within 20 ms, or this thread has it, the cache is
    left out this time.

    Shrinking may happen in any thread and between any two operations: without a
    lock, `if key in cache: return cache[key]` can fail and get() cannot. A cache
    written in Python that has no lock is left alone while a thread is inside one
    of its methods, which is enough for a program of one thread; give the lock
    where there are more.

    The cache is held weakly and leaves by itself when it dies. A dict, a function
    and what else cannot be referred to weakly is held until unregister(); a method
    is as weak as its object.

    Raises ConfigTypeError, RangeError (`min_entries`), InvalidError (on_evict or
    size_of where it cannot work), ExistsError (registered already).
    """
    return _register_cache(cache, 0, name, min_entries, size_of, on_evict, lock)


def _register_cache(
    cache: Any,
    owner: int,
    name: str | None = None,
    min_entries: int = 0,
    size_of: Callable[[Any], int] | None = None,
    on_evict: Callable[[Any, Any], object] | None = None,
    lock: Any = None,
) -> Registration:
    _check_name(name)
    _check_callable("size_of", size_of)
    _check_callable("on_evict", on_evict)
    _check_lock(lock)
    if isinstance(min_entries, bool) or not isinstance(min_entries, int):
        raise ConfigTypeError(f"min_entries is {min_entries!r}, allowed: an int")
    if min_entries < 0:
        raise RangeError(f"min_entries is {min_entries}, allowed: at least 0")
    if hasattr(cache, "cache_key"):  # cachetools.cached
        name = name or getattr(cache, "__qualname__", None)
        lock = lock or getattr(cache, "cache_condition", None)
        lock = lock or getattr(cache, "cache_lock", None)
        cache = cache.cache
    adapter = adapter_of(cache, size_of)
    if on_evict is not None and not adapter.can_name:
        raise InvalidError("on_evict is of no use: this cache does not name entries")
    if size_of is not None and not isinstance(adapter, Own):
        raise InvalidError("size_of is of no use: len() tells the size of this cache")
    made = Registration(cache, adapter, name)
    made._owner = owner
    made._min_entries = min_entries
    made._on_evict = on_evict
    made._lock = lock
    if isinstance(cache, (MutableMapping, MutableSet)):
        made._codes = _codes_of(type(cache))
    return _add(made)


def register_pool(
    pool: Any,
    trim: Callable[[float], object] | None = None,
    *,
    name: str | None = None,
) -> Registration:
    """Has a pool give up idle members under memory pressure, after the caches.

    `trim(share)`, or else `pool.trim(share)`, gives up that share of what is idle,
    0.0 to 1.0, and returns how many that were, or nothing. If the pool has a
    `get_stats()` that returns a mapping with "active" and "idle", statistics show
    them. ManagedConnectionPool and ReusePool register themselves.

    The pool is held weakly, but a `trim` that is a closure over it holds it.

    Raises ConfigTypeError, ExistsError (registered already).
    """
    _check_name(name)
    _check_callable("trim", trim)
    if isinstance(pool, type) or pool is None:
        raise ConfigTypeError(f"pool is {pool!r}, allowed: a pool")
    if trim is None and not callable(getattr(pool, "trim", None)):
        raise ConfigTypeError(f"pool is {pool!r}, allowed: one with trim(share)")
    is_method = isinstance(trim, MethodType) and trim.__self__ is pool
    function = trim.__func__ if isinstance(trim, MethodType) and is_method else trim
    return _add(Registration(pool, Pool(function, is_method), name))


def unregister_of(owner: int) -> None:
    """Ends the registrations of a manager, by its id."""
    for made in list(_registered.values()):
        if made._owner == owner:
            made.unregister()


def cache_stats() -> list[dict[str, Any]]:
    """Registration.get_stats() of each registered cache, oldest first."""
    return [made.get_stats() for made in list(_registered.values()) if not made.is_pool]


def pool_stats() -> list[dict[str, Any]]:
    """Registration.get_stats() of each registered pool, oldest first."""
    return [made.get_stats() for made in list(_registered.values()) if made.is_pool]


def shrink(share: float) -> int:
    """Shrinks all caches by `share`, 0.0 to 1.0. Returns the entries dropped; 0 if
    another thread, or a caller of this one, is at it."""
    return _shrink(share, False)


def trim_pools(share: float) -> int:
    """Trims all pools; as shrink()."""
    return _shrink(share, True)


def _shrink(share: float, is_pool: bool) -> int:
    turn = _busy
    if not 0 < share <= 1 or not turn.acquire(False):
        return 0
    work = [made for made in list(_registered.values()) if made.is_pool is is_pool]
    try:
        return _rounds(share, work)
    finally:
        for made in work:
            made._adapter.rest()
        turn.release()


def _rounds(share: float, work: list[Registration]) -> int:
    """A batch of each in turn, whoever waited longest first."""
    end = monotonic() + BUDGET_S
    dropped = 0
    is_first = True
    work = sorted(work, key=lambda made: made._turn)
    while work:
        rest = []
        for made in work:
            amount, has_more = made._step(share, is_first)
            made._turn = next(_turns)
            dropped += amount
            if has_more:
                rest.append(made)
            if monotonic() >= end:
                return dropped
        work, is_first = rest, False
    return dropped


def _after_fork_in_child() -> None:
    """A thread that was shrinking is not here to end its turn."""
    global _busy
    _busy = allocate_lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
