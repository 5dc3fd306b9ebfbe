"""Reclaiming memory: what a monitor tells of it, and what the engine of this
interpreter calls in Python.

Each function that the engine calls tells whether it did anything. They may run on
memguard's own thread.
"""

from __future__ import annotations

import sys
from _weakref import ref

from memguard import _core
from memguard._core import ConfigTypeError, RangeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memguard.monitor import MemoryMonitor

ALL = 1 << 30  # samples, minutes or rounds; more than there can be

_shedding: dict[int, ref[MemoryMonitor]] = {}
"""Monitors with a shed callback."""


def has_caches(_: object = None) -> bool:
    """Whether the program may have registered a cache or a pool. Under pressure
    nothing is imported to find out."""
    caches = sys.modules.get("memguard._caches")
    return bool(caches is not None and caches._registered)


def caches(share: float) -> bool:
    """Has registered caches give up `share` of their entries."""
    if not has_caches():
        return False
    sys.modules["memguard._caches"].shrink(share)
    return True


def pools(share: float) -> bool:
    """Has registered pools give up `share` of what is idle in them."""
    if not has_caches():
        return False
    sys.modules["memguard._caches"].trim_pools(share)
    return True


def shed(reason: str) -> bool:
    """Calls the shed callbacks of all monitors."""
    known = [reference() for reference in list(_shedding.values())]
    called = [monitor._shed(reason) for monitor in known if monitor is not None]
    return any(called)


def add(monitor: MemoryMonitor) -> None:
    """Has shed() call it, until its end."""
    key = id(monitor)
    _shedding[key] = ref(monitor, lambda _: _shedding.pop(key, None))


def forget(monitor: MemoryMonitor) -> None:
    """Ends what add() began."""
    _shedding.pop(id(monitor), None)


def check_number(what: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigTypeError(f"{what} is {value!r}, allowed: a number")
    if not least <= value < ALL:
        raise RangeError(f"{what} is {value!r}, allowed: {least} to {ALL}")


class Reclaiming(_core.Monitor):
    """The part of MemoryMonitor that reclaims memory and tells of it."""

    def release_memory(self) -> dict[str, Any]:
        """Collects all garbage and returns free memory to the system, now and
        whatever the budget says; the time is charged to it. Returns the round, as
        get_reclaim_history() does.

        Raises ConflictError inside an action of memguard (a cache that shrinks, a
        finalizer of a collection it began), or if another thread is at it for
        more than 5 s.
        """
        return self._reclaim(("release",), "manual", 0.0)

    def get_reclaim_stats(self) -> dict[str, Any]:
        """What memguard did to reclaim memory in this interpreter, by itself and by
        release_memory(): rounds, useful_rounds (freed 1 % of memory at least),
        actions (how often, by name), failed (actions that could not be done),
        freed_bytes (measured), took_ms, gc_ms (part of it), is_unreclaimable (it
        gave up until usage falls), time_to_limit_ms (None: not growing).

        "allocator": large_bytes (live, of blocks over 512 bytes, and what the C
        allocator had given out when counting began), total_bytes (allocated since
        then), arena_bytes (for small objects); None where they are not counted:
        before a monitor with byte_aware_gc ran, or with another allocator than
        CPython's own.
        """
        return {**self._reclaim_stats(), "allocator": _core._allocator_read()}

    def get_reclaim_history(self, count: int = 64) -> list[dict[str, Any]]:
        """The newest `count` rounds (at most 64 are kept), oldest first.

        A round has number, unix_ms, reason (bytes, water_mark, forecast, forced,
        unreclaimable, manual, idle), level, took_ms, gc_ms, usage_before,
        usage_after, rss_before_bytes, rss_after_bytes, heap_before_bytes,
        heap_after_bytes (arenas and large blocks), freed_bytes, is_unreclaimable
        and steps: action, was_done, took_ms, gc_ms, freed_bytes. Bytes are
        measured, None where not known. Raises RangeError.
        """
        check_number("count", count, 1)
        return self._rounds(int(count))
