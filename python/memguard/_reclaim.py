"""What the reclaim engine of this interpreter calls in Python.

Each function tells whether it did anything. They may run on memguard's own thread.
"""

from __future__ import annotations

import sys
from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.monitor import MemoryMonitor

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
