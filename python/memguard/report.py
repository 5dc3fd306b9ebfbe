"""What hosts are told: samples and events of the core as plain dicts.

Everything is about memory; nothing of the program's data gets in here.
"""

from __future__ import annotations

from math import isnan

from memguard._core import Sample, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Stats = dict[str, float | int | None]

MB = 1048576


def stats_of(sample: Sample, settings: Settings) -> Stats:
    """The numbers of a sample under the names hosts use; absent ones are None.

    heap_used_percentage is of the heap's own limit or of max_heap_mb: CPython has
    no limit of its own.
    """
    used, total = sample.heap_used_bytes, sample.heap_total_bytes
    limit = sample.heap_limit_bytes or settings.get("memory.max_heap_mb") * MB
    percentage = None if used is None or not limit else used / limit * 100
    return {
        "heap_used": used,
        "heap_total": total,
        "external": sample.external_bytes,
        "rss": sample.rss_bytes,
        "array_buffers": sample.array_buffer_bytes,
        "timestamp": sample.unix_ms / 1000,
        "heap_used_percentage": percentage,
        "heap_used_mb": in_mb(used),
        "heap_total_mb": in_mb(total),
        "rss_mb": in_mb(sample.rss_bytes),
    }


def in_mb(count: int | None) -> float | None:
    """Bytes as MB."""
    return None if count is None else count / MB


# What an issue compares: a number of the stats, and the setting it passed.
_COMPARED = {
    "heap_warning": ("heap_used_percentage", "thresholds.heap_used_warning"),
    "heap_critical": ("heap_used_percentage", "thresholds.heap_used_critical"),
    "rss_warning": ("rss_mb", "thresholds.rss_warning"),
    "rss_critical": ("rss_mb", "thresholds.rss_critical"),
    "usage_high": ("usage", "memory.alert_threshold"),
    "usage_critical": ("usage", "memory.force_gc_threshold"),
}


def alerts_of(
    issues: list[tuple[str, str]], sample: Sample, settings: Settings
) -> list[dict[str, Any]]:
    """Issues as alerts: type, level (warning, critical), message and, where one
    number passed another, value and threshold (percent or MB)."""
    values = {**stats_of(sample, settings), "usage": sample.usage * 100}
    alerts = []
    for kind, text in issues:
        level = "critical" if kind.endswith("critical") else "warning"
        alert: dict[str, Any] = {"type": kind, "level": level, "message": text}
        if kind in _COMPARED:
            value, threshold = _COMPARED[kind]
            alert["value"] = values[value]
            alert["threshold"] = settings.get(threshold)
        alerts.append(alert)
    return alerts


def payload_of(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What listeners of an event are given."""
    return _PAYLOADS[event["event"]](event, settings)


def _started(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {"interval_ms": settings.get("memory.monitor_interval")}


def _stopped(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {}


def _stats(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return stats_of(event["sample"], settings)


def _threshold(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "level": event["severity"],
        "alerts": alerts_of(event["issues"], event["sample"], settings),
        "stats": stats_of(event["sample"], settings),
    }


def _growth(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "type": event["series"],
        "mb_per_minute": event["mb_per_minute"],
        "stats": stats_of(event["sample"], settings),
    }


def _leak(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "key": event["counter"],
        "count": event["count"],
        "threshold": event["threshold"],
        "stats": stats_of(event["sample"], settings),
    }


def _finding(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "finding": event["finding"],
        "growth_per_minute": event["growth_per_minute"],
        "stats": stats_of(event["sample"], settings),
    }


def _leak_or_finding(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    leak = _leak(event, settings)
    return {**leak, **_finding(event, settings)} if event["finding"] else leak


def _descriptors(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    growth = event["growth_per_minute"]
    return {
        "count": event["count"],
        "threshold": event["threshold"],
        "growth_per_minute": None if isnan(growth) else growth,
        "stats": stats_of(event["sample"], settings),
    }


def _level(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "level": event["sample"].level,
        "previous": event["previous"],
        "usage": event["sample"].usage,
        "domain": event["sample"].domain,
        "stats": stats_of(event["sample"], settings),
    }


def _pressure(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "pressure": event["sample"].pressure,
        "domain": event["sample"].domain,
        "stats": stats_of(event["sample"], settings),
    }


def _round(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return event["round"] or {}


def _unreclaimable(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "level": event["sample"].level,
        "usage": event["sample"].usage,
        "domain": event["sample"].domain,
        "round": event["round"],
        "stats": stats_of(event["sample"], settings),
    }


_PAYLOADS: dict[str, Callable[[dict[str, Any], Settings], dict[str, Any]]] = {
    "monitoring:started": _started,
    "monitoring:stopped": _stopped,
    "stats:collected": _stats,
    "threshold:exceeded": _threshold,
    "trend:rapid-growth": _growth,
    "leak:suspected": _finding,
    "leak:warning": _leak_or_finding,
    "leak:critical": _leak_or_finding,
    "leak:withdrawn": _finding,
    "fd:warning": _descriptors,
    "level:changed": _level,
    "pressure": _pressure,
    "optimization:automatic": _round,
    "memory:unreclaimable": _unreclaimable,
}
