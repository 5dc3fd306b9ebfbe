"""The decisions behind memguard as pure functions: no clock, no reading, no state
but what is passed in.

They are the core's own code, the same that the monitor runs, here for programs
that want to know beforehand what memguard would do, and for tests.
"""

from __future__ import annotations

from memguard import _core, _optimize
from memguard._optimize import freed_bytes, strategy_for, strategy_plan
from memguard.config import apply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal, Self

__all__ = [
    "LevelTracker",
    "Optimizer",
    "Recycle",
    "alert_replay",
    "buffer_flush_at",
    "buffer_size_next",
    "census_difference",
    "freed_bytes",
    "leak_replay",
    "resolve_config",
    "sample_due_ms",
    "strategy_for",
    "strategy_plan",
    "trend",
    "usage",
    "v8_advice",
]


ACTIONS = ("caches", "pools", "trim", "young", "full", "release", "shed")
"""Names of all actions, in the order in which they are tried at first."""


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


class Policy(_core.Policy):
    """Which reclaim action now, if any: rounds, budget, back-off and forecast.

    Ask with next(), do the action, tell with done(), and ask again until the
    action is "none"; then at the next sample. Times are in ms from any monotonic
    origin. is_unreclaimable and time_to_limit_ms can be read, spent() and
    may_collect() account for collections of one's own.
    """

    def __new__(cls, config: Mapping[str, Any] | None = None) -> Self:
        """A policy that has seen nothing, under the settings of `config`."""
        return super().__new__(cls, _settings(config or {}))

    def next(self, view: Mapping[str, Any]) -> dict[str, Any]:
        """What to do now: action ("caches", "pools", "trim", "young", "full",
        "release", "shed" or "none"), reason, level, share (of caches and pools to
        give up), begins_round, ended_round.

        `view`: now_ms, usage (a ratio), level, and what is known of limit_bytes,
        grown_bytes (large blocks, since the last full collection) and available
        (names of the actions that can be done; all if missing).
        """
        action, reason, level, share, begins, ended = self._next(
            view["now_ms"],
            view["usage"],
            view["level"],
            view.get("limit_bytes"),
            view.get("grown_bytes"),
            view.get("available", ACTIONS),
        )
        return {
            "action": action,
            "reason": reason,
            "level": level,
            "share": share,
            "begins_round": begins,
            "ended_round": ended,
        }

    def done(self, action: str, outcome: Mapping[str, Any], now_ms: float) -> None:
        """Tells how the action went that ended at `now_ms`. `outcome`: was_done
        (True if missing), took_ms, gc_ms (part of it), freed_bytes, used_bytes
        (in use before, in the same measure), usage_after; all measured, a missing
        one is not known."""
        self._done(
            action,
            outcome.get("was_done", True),
            outcome.get("took_ms", 0.0),
            outcome.get("gc_ms", 0.0),
            outcome.get("freed_bytes"),
            outcome.get("used_bytes"),
            outcome.get("usage_after", float("nan")),
            now_ms,
        )


def budget_bytes(limit_bytes: int | None, usage: float) -> int | None:
    """Growth of large blocks that makes a collection due; None without a limit."""
    return _core.budget_bytes(limit_bytes, usage)


def v8_advice(
    limit_bytes: int | None, node_major: int, headroom: float = 0.25, share: float = 1
) -> dict[str, int | bool | None]:
    """How large V8's spaces should be in a process of Node under a limit:
    old_space_mb (None: leave it to V8, the limit is unknown), semi_space_mb,
    young_mb (three semi spaces), is_capped, is_tight, takes_semi_option.

    `headroom`, 0 to 0.9, is the part for what is not V8's heap; `share`, above 0,
    that of one isolate in the rest. RangeError if out of range.
    """
    return _core.v8_advice(limit_bytes, node_major, headroom, share)


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


LEAK_LIMITS = (
    "memory_bytes",
    "memory_used_bytes",
    "heap_bytes",
    "fds",
    "threads",
    "mappings",
)
"""What a leak can use up; leak_replay() takes these names."""

_LEAK_CHANGE = (
    "now_ms",
    "name",
    "tier",
    "previous",
    "is_critical",
    "severity",
    "growth",
    "growth_per_minute",
    "base",
    "latest",
    "since_ms",
    "to_limit_ms",
    "window_ms",
    "octaves",
)


def leak_replay(
    points: Sequence[tuple[str, float, float]],
    config: Mapping[str, Any] | None = None,
    limits: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """What the leak detector would have said of recorded values: one dict for each
    change of a finding, 64 at most.

    `points` are (name, now_ms, value); names of signals ("heap", "blocks",
    "native", "rss", "fds", "threads", ...) or any other. `limits` by the names of
    LEAK_LIMITS; what is missing is not known. Each dict has now_ms, name, tier
    ("none": withdrawn, "suspect", "likely", "confirmed"), previous, is_critical,
    severity, growth, growth_per_minute, base, latest, since_ms, to_limit_ms (inf:
    no limit in sight), window_ms and octaves.
    """
    known = limits or {}
    memory, used, heap, fds, threads, mappings = (
        float(known.get(name, 0.0)) for name in LEAK_LIMITS
    )
    changes = _core.leak_replay(
        _settings(config or {}),
        tuple(points),
        (memory, used, heap, fds, threads, mappings),
    )
    return [dict(zip(_LEAK_CHANGE, change, strict=True)) for change in changes]


_ALERT_AT_REST = {"level": 0.0, "pause_ms": 0.0, "unreclaimable": 0.0, "fd_warned": 0.0}


def alert_replay(
    steps: Sequence[Mapping[str, Any]], config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What alerts recorded facts would have raised: "changes" and "active" (alerts as
    monitor.alerts has them), "lost" and "stats".

    A step holds now_ms, unix_ms and what was known then: usage (a ratio), level (0 to
    3), gc_ms and cpu_ms (so far), pause_ms (the longest since the step before),
    unreclaimable (1: a round just gave up), rss_growth and heap_growth (MB per minute
    where that is rapid, 0 where it is not), fd_count, fd_warned, previous_oom (usage at
    the end of the run before). Also what a leak detector says: leak (a signal),
    severity (0 to 2), growth (per minute) and over (1: withdrawn). Missing: not known.
    """
    import json

    unknown = float("nan")
    numbers: list[float] = []
    for step in steps:
        numbers += [
            float(step.get(name, _ALERT_AT_REST.get(name, unknown)))
            for name in _core.ALERT_FACTS
        ]
        signal = step.get("leak")
        numbers.append(unknown if signal is None else _core.LEAK_SIGNALS.index(signal))
        numbers += [float(step.get(name, 0)) for name in ("severity", "growth", "over")]
    told: dict[str, Any] = json.loads(
        _core.alert_replay(_settings(config or {}), tuple(numbers))
    )
    return told


def sample_due_ms(usage: float, rate_per_ms: float, longest_ms: float) -> float:
    """Time until the next sample: sooner while usage grows at `rate_per_ms`."""
    return _core.sample_due_ms(usage, rate_per_ms, longest_ms)


def buffer_size_next(size: int, pressure: float, config: Mapping[str, Any]) -> int:
    """The size of a buffer, in items, after one step at `pressure`."""
    return _core.buffer_size_next(size, pressure, _settings(config))


def buffer_flush_at(size: int, pressure: float, config: Mapping[str, Any]) -> int:
    """The length from which a buffer of `size` should be flushed at `pressure`."""
    return _core.buffer_flush_at(size, pressure, _settings(config))


class Optimizer:
    """When an optimization is due, whether one may run, and the statistics."""

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self._settings = _settings(config or {})
        self._optimizer = _optimize.Optimizer()

    def due(self, **view: Any) -> str:
        """Why one is due ("none": it is not) by now_ms, usage, level and, if they
        are known, is_growing, time_to_limit_ms, engine_acted_ms (how long ago)."""
        return self._optimizer.due(self._settings, **view)

    def may(self, reason: str, is_forced: bool, now_ms: float) -> bool:
        """Whether one that is asked for may run."""
        return self._optimizer.may(reason, is_forced, now_ms)

    def done(
        self,
        reason: str,
        *,
        success: bool,
        now_ms: float,
        freed_bytes: int = 0,
        duration_ms: float = 0,
    ) -> None:
        """Tells how one went; `now_ms` is its end."""
        self._optimizer.done(reason, success, freed_bytes, duration_ms, now_ms)

    @property
    def state(self) -> dict[str, float]:
        """Statistics and mode, as numbers by name."""
        return self._optimizer.state


class Recycle(_core.Recycle):
    """When a worker of a service should make room for a new one: once its resident
    set was over the limit in every reading of the last `sustain_ms` and
    `spread` (0 to 1, each worker's own) of `jitter_ms` more, and it is
    `min_age_ms` old.

    offer(rss_bytes, now_ms) takes in a reading (None: unknown) and returns "keep",
    "over" (not for long enough) or "due". Times are in ms from any monotonic
    origin.
    """

    def __new__(
        cls,
        limit_bytes: int,
        *,
        sustain_ms: float = 30_000,
        jitter_ms: float = 30_000,
        min_age_ms: float = 60_000,
        spread: float = 0,
        now_ms: float = 0,
    ) -> Self:
        """One that begins at `now_ms`. Times are 0 to one day. Raises RangeError."""
        return super().__new__(
            cls, limit_bytes, sustain_ms, jitter_ms, min_age_ms, spread, now_ms
        )


def _laps_of(view: Mapping[str, Any]) -> Any:
    laps = view.get("laps")
    return None if laps is None else tuple(laps)


class Tuner(_core.Tuner):
    """Which GC profile, when to freeze the heap, when to collect at idle; the
    rules stand in include/memguard/tune.h. Three independent decisions; times are
    in ms from any monotonic origin.

    is_frozen and is_idle can be read.
    """

    def __new__(
        cls,
        config: Mapping[str, Any] | None = None,
        *,
        profiles: Sequence[str] = tuple(_core.GC_PROFILES),
        reference: str = "default",
    ) -> Self:
        """A tuner that has seen nothing. `profiles` are tried in the order of the
        table; `reference` is in force first. Raises InvalidError for a name."""
        return super().__new__(cls, _settings(config or {}), profiles, reference)

    def trial(self, window: Mapping[str, Any]) -> str:
        """Takes what was measured with the current profile in force: now_ms,
        seconds, collections, pause_ms (P95 over seconds of the longest), gc_ms,
        and where known peak_rss_bytes and operations. Returns the next profile."""
        return self._trial(
            window["now_ms"],
            window["seconds"],
            window["collections"],
            window["pause_ms"],
            window["gc_ms"],
            window.get("peak_rss_bytes"),
            window.get("operations"),
        )

    def try_all(self) -> None:
        """All profiles are tried, also after one that is good enough."""
        self._try_all()

    @property
    def phase(self) -> str:
        """ "trying", "kept" or "resting"."""
        return self._trial_state()[1]

    @property
    def scores(self) -> dict[str, float]:
        """By profile, of those measured in this round; lower is better."""
        rows = self._trial_state()[3]
        return {name: score for name, _, score, _ in rows if score is not None}

    @property
    def verdicts(self) -> dict[str, str]:
        """By profile: reference, best, no gain, too much memory, another one is
        better, untried."""
        return {name: verdict for name, verdict, _, _ in self._trial_state()[3]}

    def freeze(self, view: Mapping[str, Any]) -> str:
        """ "pass" (unfreeze, collect everything, freeze), "young" (collect the
        young, freeze), "sweep" (collect what is not frozen), "thaw" (unfreeze) or
        "none". `view`: now_ms, live (objects or blocks; None: unknown), full_ms and
        full_collected (of all full collections so far), level ("normal" if
        missing), is_idle, laps (where the old are collected in parts: how many
        laps are completed; of the last one the least that was alive, and its share
        of garbage; and when a part last found some)."""
        return self._freeze(
            view["now_ms"],
            view["live"],
            view["full_ms"],
            view["full_collected"],
            view.get("level", "normal"),
            view.get("is_idle", False),
            _laps_of(view),
        )

    def frozen(self, step: str, view: Mapping[str, Any], took_ms: float) -> None:
        """Tells that `step` was done and took so long; `view` is after it."""
        self._frozen(
            step,
            view["now_ms"],
            view["live"],
            view["full_ms"],
            view["full_collected"],
            took_ms,
            _laps_of(view),
        )

    def roll(self, now_ms: float, live: int | None) -> int:
        """How many of the oldest objects to collect now; 0: none."""
        return self._roll(now_ms, live)

    def rolled(self, part: Mapping[str, Any]) -> None:
        """Tells what became of a part: now_ms, took_ms, live (after it), taken,
        collected (objects), is_lap (whether all had their turn)."""
        self._rolled(
            part["now_ms"],
            part["took_ms"],
            part["live"],
            part["taken"],
            part["collected"],
            part.get("is_lap", False),
        )

    def idle(
        self, now_ms: float, load: float | None, expected_ms: float, is_worth: bool
    ) -> bool:
        """Whether to collect now, at `load` (0 to 1, None: unknown), if that takes
        `expected_ms` and there is something to collect."""
        return self._idle(now_ms, load, expected_ms, is_worth)


def pool_capacity(size: int) -> int:
    """Bytes a pool gives for a request of `size` (at least 1)."""
    return _core.pool_capacity(size)


def pool_tier(capacity: int) -> str:
    """The tier of a buffer: "small", "medium", "large" or "huge"."""
    return _core.pool_tier(capacity)


def pool_trim(low_water: int) -> int:
    """Idle buffers to give up when the fewest since the last tick were `low_water`."""
    return _core.pool_trim(low_water)


def pool_cache_limit(class_bytes: int, cache_bytes: int, level: str) -> int:
    """Buffers of `class_bytes` that one thread may keep at `level` ("normal", …)."""
    return _core.pool_cache_limit(class_bytes, cache_bytes, level)


def pool_cache_next(capacity: int, limit: int, misses: int, low_water: int) -> int:
    """Buffers that one thread may keep from now on, after the demand it saw."""
    return _core.pool_cache_next(capacity, limit, misses, low_water)


def census_difference(
    before: Sequence[tuple[str, int, int]],
    after: Sequence[tuple[str, int, int]],
    *,
    by: Literal["count", "bytes"] = "count",
    limit: int = 8,
    max_names: int = 0,
) -> list[tuple[str, int, int, int, float]]:
    """What grew between two tables of (name, count, bytes), the one that grew most
    first: (name, growth, growth in bytes, count, share of all growth). A table keeps
    `max_names` names, 0 for 100 000; others are "(other)". Raises RangeError."""

    def filled(rows: Sequence[tuple[str, int, int]]) -> _core.Census:
        table = _core.Census(max_names)
        for name, count, size in rows:
            table.add(name, count, size)
        return table

    found = _core.census_difference(
        filled(before), filled(after), "type", by == "bytes", limit
    )
    return [row[1:] for row in found]
