"""The decisions behind memguard as pure functions: no clock, no reading, no state
but what is passed in.

They are the core's own code, the same that the monitor runs, here for programs
that want to know beforehand what memguard would do, and for tests.
"""

from __future__ import annotations

from memguard import _core
from memguard.config import apply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Self


def _settings(
    config: Mapping[str, Any],
    profile: str = "default",
    environ: Mapping[str, str] | None = None,
) -> _core.Settings:
    settings = _core.Settings(profile)
    settings.set_environment([f"{k}={v}" for k, v in (environ or {}).items()])
    apply(settings, config)
    settings.check()
    return settings


def resolve_config(
    config: Mapping[str, Any],
    *,
    profile: str = "default",
    environ: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """The stored number of every key, by its path ("memory.max_memory_mb"):
    durations in ms, booleans 0 or 1. Raises as ResourceManager does."""
    rows = _settings(config, profile, environ).rows()
    return {f"{section}.{name}": value for section, name, _, value in rows}


def usage(
    reading: Mapping[str, int | None], config: Mapping[str, Any]
) -> tuple[float, str]:
    """The highest ratio of use to limit, and the domain it comes from.

    `reading` has the attributes of a Sample that end in _bytes; a missing one is
    not known.
    """
    return _core.usage(reading, _settings(config))


class LevelTracker(_core.LevelTracker):
    """Turns usage into a level ("normal", "elevated", "high", "critical"), entered
    at once and left late. update(usage, now_ms) feeds one usage (a ratio) taken
    at a time of any monotonic origin, and returns the level from then on."""

    def __new__(cls, config: Mapping[str, Any] | None = None) -> Self:
        """A tracker at "normal", under the settings of `config`."""
        return super().__new__(cls, _settings(config or {}))


def trend(points: Sequence[tuple[float, int | None]]) -> dict[str, Any]:
    """Which way (time_ms, bytes) points in order of time go: direction
    ("increasing", "decreasing", "stable"), mb_per_minute, tau (agreement by
    Kendall, -1 to 1) and points (how many were used)."""
    direction, mb_per_minute, tau, used = _core.trend(points)
    return {
        "direction": direction,
        "mb_per_minute": mb_per_minute,
        "tau": tau,
        "points": used,
    }


def sample_due_ms(usage: float, rate_per_ms: float, longest_ms: float) -> float:
    """Time until the next sample: sooner while usage grows at `rate_per_ms`."""
    return _core.sample_due_ms(usage, rate_per_ms, longest_ms)


def buffer_size_next(size: int, pressure: float, config: Mapping[str, Any]) -> int:
    """The size of a buffer, in items, after one step at `pressure`."""
    return _core.buffer_size_next(size, pressure, _settings(config))


def buffer_flush_at(size: int, pressure: float, config: Mapping[str, Any]) -> int:
    """The length from which a buffer of `size` should be flushed at `pressure`."""
    return _core.buffer_flush_at(size, pressure, _settings(config))
