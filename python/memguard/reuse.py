"""Small classes that save allocations: ReusePool, IndicatorCache, RingBuffer.

The first two give up what they hold under memory pressure. Any thread may use
them; a RingBuffer has one thread that appends.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import contextmanager
from math import ceil

from memguard import _log
from memguard._caches import register_cache, register_pool
from memguard._core import (
    ClosedError,
    ConfigTypeError,
    ConflictError,
    InvalidError,
    RangeError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeVar

    V = TypeVar("V")

CANDLE = ("time", "open", "high", "low", "close", "volume")

# A list longer than this in a key is taken for data.
_KEY_ITEMS = 64


def require_callable(what: str, value: object) -> None:
    """Raises ConfigTypeError unless `value` can be called."""
    if not callable(value):
        raise ConfigTypeError(f"{what} is {value!r}, allowed: a callable")


def require_count(what: str, value: object, least: int) -> None:
    """Raises ConfigTypeError or RangeError unless `value` is an int >= `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigTypeError(f"{what} is {value!r}, allowed: an int")
    if value < least:
        raise RangeError(f"{what} is {value}, allowed: at least {least}")


# ---- ReusePool --------------------------------------------------------------


class ReusePool:
    """Objects that are costly to make, used again: DataFrames, bytearrays, ...

    `factory()` makes one; `reset(item)`, if given, is called when one comes back;
    `max_size` of them at most are kept idle, the rest are let go. Gives up idle
    ones under memory pressure, those idle longest first. What acquire() hands out
    is the program's: one that does not come back is no leak of the pool.

    Raises ConfigTypeError, RangeError (`max_size`).
    """

    def __init__(
        self,
        factory: Callable[[], Any],
        reset: Callable[[Any], object] | None = None,
        max_size: int = 64,
        *,
        name: str | None = None,
    ) -> None:
        require_callable("factory", factory)
        if reset is not None:
            require_callable("reset", reset)
        require_count("max_size", max_size, 0)
        self._factory = factory
        self._reset = reset
        self._max_size = max_size
        self._complaints = _log.Complaints()
        # Each of its operations is atomic, so no lock is needed, and an object
        # may come back inside a finalizer. The tuple tells whose insertion won.
        self._idle: dict[int, tuple[Any]] = {}
        self._closed = False
        self._created = self._acquired = self._released = self._dropped = 0
        self._registration = register_pool(self, name=name)

    def acquire(self) -> Any:
        """An idle object, or a new one. Raises ClosedError, and what `factory`
        raises."""
        if self._closed:
            raise ClosedError("ReusePool used after close()")
        try:
            item = self._idle.popitem()[1][0]
        except KeyError:
            item = self._factory()
            self._created += 1
        self._acquired += 1
        return item

    def release(self, item: Any) -> None:
        """Takes an object back. If `reset` raises, that is logged and the object
        let go. Raises ConflictError if it is idle already."""
        if id(item) in self._idle:
            raise ConflictError(f"a {type(item).__name__} was released twice")
        self._released += 1
        if self._closed or len(self._idle) >= self._max_size or not self._renew(item):
            self._dropped += 1
            return
        entry = (item,)
        if self._idle.setdefault(id(item), entry) is not entry:
            raise ConflictError(f"a {type(item).__name__} was released twice")

    def _renew(self, item: Any) -> bool:
        if self._reset is None:
            return True
        try:
            self._reset(item)
        except Exception:
            self._complaints.failed("reset", "reset of a ReusePool failed")
            return False
        self._complaints.worked("reset")
        return True

    @contextmanager
    def using(self) -> Iterator[Any]:
        """For `with`: an object, released at the end of the block."""
        item = self.acquire()
        try:
            yield item
        finally:
            self.release(item)

    def trim(self, share: float = 1.0) -> int:
        """Lets go of that share of the idle objects. Returns how many."""
        amount = ceil(len(self._idle) * min(max(share, 0.0), 1.0))
        taken = []
        for key in list(self._idle)[:amount]:
            if (entry := self._idle.pop(key, None)) is not None:
                taken.append(entry)
        self._dropped += len(taken)
        return len(taken)

    def get_stats(self) -> dict[str, int]:
        """active (out; those that will not come back too), idle, max, created,
        acquired, released, dropped."""
        return {
            "active": max(0, self._acquired - self._released),
            "idle": len(self._idle),
            "max": self._max_size,
            "created": self._created,
            "acquired": self._acquired,
            "released": self._released,
            "dropped": self._dropped,
        }

    def close(self) -> None:
        """Lets go of the idle objects; acquire() raises from now on, release()
        lets go. Idempotent."""
        self._closed = True
        self._registration.unregister()
        self.trim()


# ---- IndicatorCache ---------------------------------------------------------


class IndicatorCache:
    """Computed values by keys of stable metadata, least recently used out first.

    A key says what was computed, never holds the data it was computed from: the
    time of the last candle stands for that. Gives up entries under memory
    pressure. `max_entries` at most are kept.

    Raises ConfigTypeError, RangeError (`max_entries`).
    """

    def __init__(self, max_entries: int = 1000, *, name: str | None = None) -> None:
        require_count("max_entries", max_entries, 1)
        self._max_entries = max_entries
        self._entries: OrderedDict[Any, Any] = OrderedDict()
        self._hits = self._misses = self._evicted = 0
        # Not this object: its dict is what shrinks, oldest use first.
        self._registration = register_cache(
            self._entries, name=name or type(self).__name__
        )

    @staticmethod
    def make_key(
        symbol: object,
        timeframe: object,
        indicator: object,
        params: object = None,
        candle_time: object = None,
    ) -> tuple[Any, ...]:
        """A key. `params`: a mapping by name, in any order, or a list.

        Parts may be text, numbers, dates, None, what else has a value to compare
        by, and short lists and mappings of those. Raises ConfigTypeError for
        anything else, as arrays and DataFrames, InvalidError for NaN, which is
        equal to nothing; both name the part.
        """
        return (
            _key_part(symbol, "symbol"),
            _key_part(timeframe, "timeframe"),
            _key_part(indicator, "indicator"),
            _key_part(params, "params"),
            _key_part(candle_time, "candle_time"),
        )

    def get_or_compute(self, key: Any, compute: Callable[[], V]) -> V:
        """The value of `key`, or else what `compute()` returns, which is kept. Two
        threads that miss at once both compute. Raises what `compute` raises, and
        for a key as make_key() does."""
        entries = self._entries
        try:
            value: V = entries[key]
            entries.move_to_end(key)
        except KeyError:
            return self._compute(key, compute)
        except TypeError:
            _check_key(key)
            raise
        self._hits += 1
        return value

    def _compute(self, key: Any, compute: Callable[[], V]) -> V:
        _check_key(key)
        self._misses += 1
        value = compute()
        self._entries[key] = value
        while len(self._entries) > self._max_entries:
            try:
                self._entries.popitem(last=False)
            except KeyError:
                break
            self._evicted += 1
        return value

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def clear(self) -> None:
        """Forgets all entries."""
        self._entries.clear()

    def get_stats(self) -> dict[str, int | float]:
        """entries, max_entries, hits, misses, hit_ratio (0.0 to 1.0), evicted
        (because it was full), dropped (under pressure)."""
        asked = self._hits + self._misses
        return {
            "entries": len(self._entries),
            "max_entries": self._max_entries,
            "hits": self._hits,
            "misses": self._misses,
            "hit_ratio": self._hits / asked if asked else 0.0,
            "evicted": self._evicted,
            "dropped": self._registration.get_stats()["dropped"],
        }


def _check_key(key: object) -> None:
    if isinstance(key, tuple):
        for index, part in enumerate(key):
            _key_part(part, f"key[{index}]")
    else:
        _key_part(key, "key")


def _key_part(value: Any, where: str) -> Any:
    """A part of a key, fit to be compared by value."""
    kind = type(value)
    if kind is bool:
        return (bool, value)  # True is not the number 1
    if value is None or kind in (str, int, bytes, type):
        return value
    if isinstance(value, Mapping) and len(value) <= _KEY_ITEMS:
        names = sorted(value, key=str)
        return (dict, *((n, _key_part(value[n], f"{where}.{n}")) for n in names))
    if isinstance(value, (list, tuple)) and len(value) <= _KEY_ITEMS:
        return tuple(_key_part(v, f"{where}[{i}]") for i, v in enumerate(value))
    has_items = hasattr(value, "__len__") and not isinstance(value, str)
    if has_items or getattr(kind, "__hash__", None) in (None, object.__hash__):
        raise ConfigTypeError(
            f"{where} is a {kind.__module__}.{kind.__qualname__}, allowed in a key: "
            "text, numbers, dates, None, short lists and mappings of those"
        )
    if value != value:
        raise InvalidError(f"{where} is {value!r}, which is equal to nothing")
    return value


# ---- RingBuffer -------------------------------------------------------------


class RingBuffer:
    """The newest `max_candles` rows of numbers, by column, in memory taken once.

    Each number is written twice, one ring behind the other, so that the newest
    rows of a column lie side by side wherever the ring begins:

        slot   0 1 2 3 | 4 5 6 7
        row    4 5 2 3 | 4 5 2 3     newest three: slots 3 to 5

    There is one slot more than rows. It is the one written to, so readers see no
    half-written row, and a row that is refused leaves the others as they were.

    Raises ConfigTypeError, RangeError (`max_candles`), InvalidError (`columns`).
    """

    def __init__(self, max_candles: int = 200, columns: Sequence[str] = CANDLE) -> None:
        require_count("max_candles", max_candles, 1)
        names = tuple(columns)
        if isinstance(columns, str) or not all(isinstance(n, str) for n in names):
            raise ConfigTypeError(f"columns is {columns!r}, allowed: names")
        if not names or len(set(names)) < len(names):
            raise InvalidError(f"columns is {columns!r}, allowed: different names")
        self._slots = max_candles + 1
        self._data = self._make_room(len(names))
        views = [memoryview(data).toreadonly() for data in self._data]
        self._views = dict(zip(names, views, strict=True))
        self._next = 0
        self._length = 0

    def _make_room(self, columns: int) -> list[Any]:
        """Memory of doubles for each column, two rings long."""
        return [array("d", bytes(16 * self._slots)) for _ in range(columns)]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._views)

    @property
    def max_candles(self) -> int:
        """How many rows it holds at most."""
        return self._slots - 1

    def __len__(self) -> int:
        return self._length

    def append(self, *values: float) -> None:
        """Adds a row, a number for each column; drops the oldest if it is full.
        Allocates nothing. Raises InvalidError (too few, too many), ConfigTypeError
        (not a number); then nothing has changed."""
        data = self._data
        if len(values) != len(data):
            raise InvalidError(
                f"{len(values)} values, allowed: {', '.join(self._views)}"
            )
        slot = self._next
        twin = slot + self._slots
        column = 0
        try:
            for value in values:
                data[column][slot] = data[column][twin] = value
                column += 1
        except TypeError:
            name = self.columns[column]
            raise ConfigTypeError(f"{name} is {value!r}, allowed: a number") from None
        slot += 1
        self._next = slot if slot < self._slots else 0
        if self._length < self._slots - 1:
            self._length += 1

    def column(self, name: str, n: int | None = None) -> memoryview:
        """The newest `n` numbers of a column, oldest of them first; all there are
        if `n` is None or larger.

        A read-only view of doubles without a copy, which numpy.asarray() takes as
        it is. It shows that memory: the next append() leaves it as it is, later
        ones overwrite it from its old end. Raises InvalidError for an unknown
        column, ConfigTypeError, RangeError for `n`.
        """
        if name not in self._views:
            raise InvalidError(f"column is {name!r}, allowed: {', '.join(self._views)}")
        return self._views[name][self._window(n)]

    def latest(self, n: int | None = None) -> dict[str, memoryview]:
        """column() of each column, by name."""
        window = self._window(n)
        return {name: view[window] for name, view in self._views.items()}

    def _window(self, n: int | None) -> slice:
        if n is not None:
            require_count("n", n, 0)
        rows = self._length if n is None else min(n, self._length)
        end = self._next + self._slots
        return slice(end - rows, end)

    def clear(self) -> None:
        """Forgets all rows."""
        self._length = 0
