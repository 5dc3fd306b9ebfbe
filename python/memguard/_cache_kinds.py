"""How one kind of cache or pool gives up entries: the adapters of _caches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import MutableMapping, MutableSet
from contextlib import suppress
from itertools import islice

from memguard._core import ConfigTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Adapter(Protocol):
        """How one kind of cache is shrunk."""

        can_name: bool
        """Whether drop() tells keys and values."""

        def size(self, cache: Any) -> int | None: ...

        def drop(self, cache: Any, amount: int, share: float) -> list[Any] | int: ...

        def rest(self) -> None: ...


CLEAR_SHARE = 0.5
"""From this share on, what can only be cleared is."""

_BATCH = 128
_LISTED = 1 << 17
_GONE = object()


class Kind:
    """What most kinds have in common: a drop() names what it took out, and there
    is nothing to forget when a call of shrink() ends."""

    can_name = True

    def rest(self) -> None:
        pass


class Dict(Kind):
    """Oldest insertion first. Keys are listed many at a time, because each look
    for the first one passes over all that were taken out before."""

    def __init__(self) -> None:
        self._keys: list[Any] = []

    def size(self, cache: dict[Any, Any]) -> int:
        return len(cache)

    def drop(self, cache: dict[Any, Any], amount: int, share: float) -> list[Any]:
        taken: list[Any] = []
        keys = self._keys or self._list(cache)
        while keys and len(taken) < min(amount, _BATCH):
            key = keys.pop()
            try:
                value = cache.pop(key, _GONE)
            except Exception:
                if taken:
                    break
                raise
            if value is not _GONE:
                taken.append((key, value))
        if taken and not cache:
            cache.clear()  # frees the table, which dict keeps otherwise
        return taken

    def _list(self, cache: dict[Any, Any]) -> list[Any]:
        with suppress(RuntimeError):  # changed meanwhile: another time
            self._keys = list(islice(cache, _LISTED))
            self._keys.reverse()
        return self._keys

    def rest(self) -> None:
        self._keys = []


class Mapping(Kind):
    """By popitem(), the policy of the cache itself."""

    def __init__(self, is_ordered_dict: bool) -> None:
        self._options = {"last": False} if is_ordered_dict else {}

    def size(self, cache: MutableMapping[Any, Any]) -> int:
        return len(cache)

    def drop(
        self, cache: MutableMapping[Any, Any], amount: int, share: float
    ) -> list[Any]:
        taken: list[Any] = []
        while len(taken) < min(amount, _BATCH):
            try:
                taken.append(cache.popitem(**self._options))
            except Exception as error:
                # What was taken out is accounted for; the next batch will tell.
                if taken or (isinstance(error, KeyError) and len(cache) == 0):
                    break
                raise
        return taken


class Set(Kind):
    """In the order of pop(): none in particular."""

    def size(self, cache: MutableSet[Any]) -> int:
        return len(cache)

    def drop(self, cache: MutableSet[Any], amount: int, share: float) -> list[Any]:
        taken: list[Any] = []
        while len(taken) < min(amount, _BATCH):
            try:
                value = cache.pop()
            except KeyError:
                break
            taken.append((value, value))
        return taken


class Function(Kind):
    """A functools.lru_cache function: all or nothing."""

    can_name = False

    def size(self, cache: Any) -> int:
        return int(cache.cache_info().currsize)

    def drop(self, cache: Any, amount: int, share: float) -> int:
        if share < CLEAR_SHARE:
            return 0
        entries = self.size(cache)
        cache.cache_clear()
        return entries


class Own(Kind):
    """An object with shrink(share), or a callable that is it."""

    can_name = False

    def __init__(self, is_call: bool, size_of: Callable[[Any], int] | None) -> None:
        self.is_call = is_call
        self._method = "__call__" if is_call else "shrink"
        self._size_of = size_of

    def size(self, cache: Any) -> int | None:
        if self._size_of is not None:
            return int(self._size_of(cache))
        return len(cache) if hasattr(type(cache), "__len__") else None

    def drop(self, cache: Any, amount: int, share: float) -> int:
        before = self.size(cache)
        result = getattr(cache, self._method)(share)
        return _amount_of(result, before, lambda: self.size(cache))


class Pool(Kind):
    """A pool with a trimming function."""

    can_name = False

    def __init__(self, trim: Callable[..., object] | None, is_method: bool) -> None:
        self._trim = trim
        self._is_method = is_method

    def stats(self, pool: Any) -> dict[str, int | None]:
        read = getattr(pool, "get_stats", None)
        found = read() if callable(read) else {}
        return {name: found.get(name) for name in ("active", "idle")}

    def size(self, pool: Any) -> int | None:
        return self.stats(pool)["idle"]

    def drop(self, pool: Any, amount: int, share: float) -> int:
        before = self.size(pool)
        if self._trim is None:
            result = pool.trim(share)
        elif self._is_method:
            result = self._trim(pool, share)
        else:
            result = self._trim(share)
        return _amount_of(result, before, lambda: self.size(pool))


def _amount_of(
    result: object, before: int | None, size: Callable[[], int | None]
) -> int:
    """What was given up, as told or else as seen."""
    if isinstance(result, int) and not isinstance(result, bool):
        return max(0, result)
    after = size()
    return 0 if before is None or after is None else max(0, before - after)


def adapter_of(cache: Any, size_of: Callable[[Any], int] | None) -> Adapter:
    if not isinstance(cache, type):
        if callable(getattr(cache, "shrink", None)):
            return Own(False, size_of)
        if hasattr(cache, "cache_clear") and hasattr(cache, "cache_info"):
            return Function()
        if isinstance(cache, MutableMapping):
            kind = type(cache)
            if isinstance(cache, OrderedDict):
                return Mapping(kind.popitem is OrderedDict.popitem)
            if isinstance(cache, dict) and kind.popitem is dict.popitem:
                return Dict()
            return Mapping(False)
        if isinstance(cache, MutableSet):
            return Set()
        if callable(cache):
            return Own(True, size_of)
    raise ConfigTypeError(
        f"cache is {cache!r}, allowed: a mutable mapping or set, a function with "
        "functools.lru_cache, an object with shrink(share), a callable"
    )
