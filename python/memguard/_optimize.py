"""What an optimization is made of: the core's decisions about it, and rounds of
actions that are measured.

MemoryMonitor runs them as they are, a MemoryOptimizationService with what else it
knows around them.
"""

from __future__ import annotations

import gc
import time

from memguard import _core
from memguard._core import ConflictError, InvalidError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NamedTuple

    from memguard._core import Settings
    from memguard.monitor import MemoryMonitor
    from memguard.report import Stats

    Step = dict[str, Any]

    class Plan(NamedTuple):
        """What one round of a strategy does."""

        actions: tuple[str, ...]
        share: float
        cleans: bool
        flushes: bool
else:
    from collections import namedtuple

    Plan = namedtuple("Plan", ("actions", "share", "cleans", "flushes"))

MB = 1048576
REASONS = tuple(name for name in _core.OPTIMIZE_REASONS if name != "none")


def _index(what: str, names: tuple[str, ...], name: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise InvalidError(f"{what} {name!r}, allowed: {', '.join(names)}") from None


def now_ms() -> float:
    """Of a clock that does not jump."""
    return time.monotonic() * 1000


# ---- decisions --------------------------------------------------------------


class Optimizer:
    """The scheduler, the statistics and the degraded mode. Times are ms of any
    clock that does not jump."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = _core._optimizer_init()

    def due(
        self,
        settings: Settings,
        *,
        now_ms: float,
        usage: float,
        level: str,
        is_growing: bool = False,
        time_to_limit_ms: float = -1,
        engine_acted_ms: float = -1,
    ) -> str:
        """Why an optimization is due; "none" if it is not."""
        number = _index("level", _core.LEVELS, level)
        reason = _core._optimizer_due(
            self._bytes,
            settings,
            now_ms,
            usage,
            number,
            is_growing,
            time_to_limit_ms,
            engine_acted_ms,
        )
        return _core.OPTIMIZE_REASONS[reason]

    def may(self, reason: str, is_forced: bool, now_ms: float) -> bool:
        """Whether one that is asked for may run."""
        number = _index("reason", _core.OPTIMIZE_REASONS, reason)
        return _core._optimizer_may(self._bytes, number, is_forced, now_ms)

    def done(
        self,
        reason: str,
        success: bool,
        freed_bytes: int,
        duration_ms: float,
        now_ms: float,
    ) -> None:
        """Tells how one went; `now_ms` is its end."""
        number = _index("reason", _core.OPTIMIZE_REASONS, reason)
        _core._optimizer_done(
            self._bytes, number, success, freed_bytes, duration_ms, now_ms
        )

    @property
    def state(self) -> dict[str, float]:
        """All that is remembered."""
        values = _core._optimizer_read(self._bytes)
        return dict(zip(_core.OPTIMIZER_FIELDS, values, strict=True))


def strategy_for(reason: str, aggressive: bool) -> str:
    """The strategy of an optimization for `reason`."""
    number = _index("reason", _core.OPTIMIZE_REASONS, reason)
    return _core.STRATEGIES[_core._strategy_for(number, aggressive)]


def strategy_plan(
    strategy: str,
    *,
    round: int = 0,
    elapsed_ms: float = 0,
    freed_bytes: int | None = None,
    used_bytes: int | None = None,
) -> Plan:
    """What a round does, `round` of them done; no actions: it is through."""
    number = _index("strategy", _core.STRATEGIES, strategy)
    return Plan(
        *_core._strategy_plan(number, round, elapsed_ms, freed_bytes, used_bytes)
    )


def freed_bytes(
    before: tuple[int | None, int | None], after: tuple[int | None, int | None]
) -> int:
    """What (resident set, heap) fell by, the larger; None: not known."""
    return _core._freed_bytes(*before, *after)


# ---- acting -----------------------------------------------------------------

# What the engine is told.
_ENGINE_REASONS = {
    "manual": "manual",
    "scheduled": "water_mark",
    "emergency": "forced",
    "preventive": "forecast",
}


def step(
    name: str,
    kind: str,
    outcome: str,
    duration_ms: float,
    freed: int | None = None,
    error: str | None = None,
) -> Step:
    """One thing that an optimization did, for its report."""
    made: Step = {
        "name": name,
        "kind": kind,
        "outcome": outcome,
        "duration_ms": duration_ms,
        "freed_memory_mb": None if freed is None else freed / MB,
    }
    if error is not None:
        made["error"] = error
    return made


def act(
    monitor: MemoryMonitor, actions: tuple[str, ...], reason: str, share: float
) -> list[Step]:
    """Does `actions`, the part that can be done now: a step for each."""
    try:
        done = monitor._reclaim(actions, _ENGINE_REASONS[reason], share)
    except ConflictError:
        return [
            step(action, "action", "skipped", 0, error="busy") for action in actions
        ]
    return [
        step(
            taken["action"],
            "action",
            "done" if taken["was_done"] else "skipped",
            taken["took_ms"],
            taken["freed_bytes"],
        )
        for taken in done["steps"]
    ]


def rounds(
    monitor: MemoryMonitor, strategy: str, reason: str, steps: list[Step]
) -> Iterator[Plan]:
    """Runs a strategy, adding to `steps`. Yields in each round, before it acts, the
    plan: the host's part of it is the caller's."""
    began_ms = now_ms()
    plan, done = strategy_plan(strategy), 0
    while plan.actions:
        before = _core._measure()
        if plan.flushes and monitor._buffers is not None:
            flush_ms = now_ms()
            monitor._buffers._flush_sinks()
            steps.append(step("buffers", "action", "done", now_ms() - flush_ms))
        yield plan
        steps += act(monitor, plan.actions, reason, plan.share)
        done += 1
        plan = strategy_plan(
            strategy,
            round=done,
            elapsed_ms=now_ms() - began_ms,
            freed_bytes=freed_bytes(before, _core._measure()),
            used_bytes=before[0],
        )


# ---- reports ----------------------------------------------------------------


class Course:
    """An optimization under way, measured from its first line to report()."""

    def __init__(self, monitor: MemoryMonitor) -> None:
        self.monitor = monitor
        self.steps: list[Step] = []
        self.began_ms = now_ms()
        self._before = monitor.collect_memory_stats()
        self._collected = _collected()

    def report(self, method: str, reason: str) -> dict[str, Any]:
        """What it was and what it brought."""
        collected = _collected() - self._collected
        after = self.monitor.collect_memory_stats()
        before = self._before
        freed = _core._freed_bytes(
            *(_whole(stats[key]) for stats in (before, after) for key in _MEASURES)
        )
        outcomes = {taken["outcome"] for taken in self.steps}
        report = empty_report(method, reason, before)
        report.update(
            success="done" in outcomes and outcomes <= {"done", "skipped"},
            duration_ms=now_ms() - self.began_ms,
            freed_memory_mb=freed / MB,
            collected=collected,
            after_stats=after,
            optimizations=self.steps,
        )
        return report


def empty_report(method: str, reason: str, stats: Stats | None) -> dict[str, Any]:
    """The report of an optimization that did nothing."""
    return {
        "timestamp": time.time(),
        "reason": reason,
        "method": method,
        "success": False,
        "duration_ms": 0.0,
        "freed_memory_mb": 0.0,
        "collected": 0,
        "before_stats": stats,
        "after_stats": stats,
        "optimizations": [],
    }


_MEASURES = ("rss", "heap_used")


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _collected() -> int:
    return sum(generation["collected"] for generation in gc.get_stats())


def optimize_now(monitor: MemoryMonitor, strategy: str) -> dict[str, Any]:
    """An optimization without anything of the host but its sinks."""
    course = Course(monitor)
    for _ in rounds(monitor, strategy, "manual", course.steps):
        pass
    return course.report(strategy, "manual")
