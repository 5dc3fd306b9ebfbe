"""Does what the memguard tool asks of this process, on memguard's own thread.

Imported by the first request.
"""

from __future__ import annotations

import json

from memguard import _life
from memguard._core import (
    AbsentError,
    ConfigTypeError,
    InvalidError,
    MemguardError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from memguard.monitor import MemoryMonitor

    Arguments = dict[str, Any]

_KINDS = ("young", "full", "release")
_TOP = 10
_TOP_MOST = 10_000


def run(command: str, text: str) -> tuple[str, str]:
    """Returns the code of an error, or "OK", and what to tell the asking process:
    JSON, or the reason."""
    try:
        answer = _COMMANDS[command](_monitor(), _arguments(text))
        return "OK", json.dumps(answer, default=str)
    except MemguardError as error:
        return error.code, str(error)
    except Exception as error:
        return "ERR_MEMGUARD_HOST", f"{type(error).__name__}: {error}"


def _arguments(text: str) -> Arguments:
    try:
        arguments = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise InvalidError(f"arguments are no JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise ConfigTypeError(f"arguments are {text[:40]!r}, allowed: an object")
    return arguments


def _monitor() -> MemoryMonitor:
    """The oldest that runs."""
    from memguard.manager import ResourceManager
    from memguard.monitor import MemoryMonitor

    for mortal in reversed(_life._living()):
        monitor = (
            mortal.memory_monitor if isinstance(mortal, ResourceManager) else mortal
        )
        if isinstance(monitor, MemoryMonitor) and monitor.is_monitoring:
            return monitor
    raise AbsentError("no monitor runs")


def _collect(monitor: MemoryMonitor, arguments: Arguments) -> object:
    kind = arguments.get("kind", "full")
    if kind not in _KINDS:
        raise InvalidError(f"kind is {kind!r}, allowed: {', '.join(_KINDS)}")
    return monitor._reclaim((kind,), "manual", 0.0)


def _optimize(monitor: MemoryMonitor, arguments: Arguments) -> object:
    return monitor.optimize_memory("aggressive")


def _snapshot(monitor: MemoryMonitor, arguments: Arguments) -> object:
    return {
        "memory_stats": monitor.collect_memory_stats(),
        "gc": monitor.get_gc_stats(),
        "reclaim": monitor.get_reclaim_stats(),
        "trends": monitor.get_memory_trends(),
        "counters": monitor.object_counters,
        "leak_detection": _leaks(monitor),
    }


def _leaks(monitor: MemoryMonitor) -> list[dict[str, Any]]:
    """What its detector has found, if it has one."""
    detector = monitor._detector
    if detector is None or detector.closed:
        return []
    return [finding.as_dict() for finding in detector.findings]


def _census(monitor: MemoryMonitor, arguments: Arguments) -> object:
    """The types that take the most bytes."""
    top = arguments.get("top", _TOP)
    if not isinstance(top, int) or isinstance(top, bool) or not 0 < top <= _TOP_MOST:
        raise InvalidError(f"top is {top!r}, allowed: 1 to {_TOP_MOST}")
    from heapq import nlargest

    from memguard.census import census

    rows = census().types.items()
    return [
        {"type": name, "count": count, "bytes": size}
        for name, (count, size) in nlargest(top, rows, key=lambda row: row[1][1])
    ]


def _read_config(monitor: MemoryMonitor, arguments: Arguments) -> object:
    return monitor.settings


def _update_config(monitor: MemoryMonitor, arguments: Arguments) -> object:
    monitor.update_config(arguments)
    return monitor.settings


_COMMANDS: dict[str, Callable[[MemoryMonitor, Arguments], object]] = {
    "collect": _collect,
    "optimize": _optimize,
    "snapshot": _snapshot,
    "census": _census,
    "read_config": _read_config,
    "update_config": _update_config,
}
