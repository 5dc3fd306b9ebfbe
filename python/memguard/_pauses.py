"""Long garbage collections: from when on they are, and telling of them.

An interpreter has one collector and may have many monitors, each with a
memory.long_pause of its own: the shortest of those in use counts.
"""

from __future__ import annotations

from _weakref import ref

from memguard import _core, _log
from memguard._core import ClosedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.monitor import MemoryMonitor

_QUIET_S = 60.0  # between two reports: a slow heap must not fill a log

_long_ms: dict[int, tuple[ref[MemoryMonitor], float]] = {}


def observe(monitor: MemoryMonitor) -> None:
    """Has collections recorded, and long ones told of until forget() or the end
    of `monitor`. Does nothing if another thread closed it meanwhile."""
    try:
        long_ms = monitor._get("memory.long_pause")
    except ClosedError:
        return
    key = id(monitor)
    _long_ms[key] = (ref(monitor, lambda _: _drop(key)), long_ms)
    _renew()
    _core._gc_observe()


def change(monitor: MemoryMonitor, long_ms: float) -> None:
    """Sets another limit, if `monitor` is known."""
    known = _long_ms.get(id(monitor))
    if known is not None:
        _long_ms[id(monitor)] = (known[0], long_ms)
        _renew()


def forget(monitor: MemoryMonitor) -> None:
    """Its limit counts no more; collections are still recorded."""
    _drop(id(monitor))


def _drop(key: int) -> None:
    _long_ms.pop(key, None)
    _renew()


def _renew() -> None:
    limits = [long_ms for _, long_ms in list(_long_ms.values())]
    _core._gc_set_long(min(limits, default=0.0))  # 0: nobody asks


def tell() -> None:
    """Logs the long pauses since the last report: few lines, however many there
    were, and at most once a minute."""
    if (taken := _core._gc_take_long()) is None:
        return
    _core._gc_set_quiet(_QUIET_S)
    pauses, more = taken
    for generation, ms, collected in pauses:
        _log.warning(
            "garbage collection of generation %d took %.1f ms, %s objects collected",
            generation,
            ms,
            collected,
        )
    if more:
        _log.warning("and %d more long garbage collections", more)
