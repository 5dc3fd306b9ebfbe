"""The decisions of memguard._core; this file only divides its stubs."""

from collections.abc import Sequence
from typing import Self

from memguard._core import Settings

class LevelTracker:
    """Base of memguard.decide.LevelTracker."""

    def __new__(cls, settings: Settings) -> Self: ...
    def update(self, usage: float, now_ms: float, /) -> str:
        """The level from now on."""

class Policy:
    """Base of memguard.decide.Policy."""

    def __new__(cls, settings: Settings) -> Self: ...
    def _next(
        self,
        now_ms: float,
        usage: float,
        level: str,
        limit_bytes: int | None,
        grown_bytes: int | None,
        available: Sequence[str],
        /,
    ) -> tuple[str, str, str, float, bool, bool]: ...
    def _done(
        self,
        action: str,
        was_done: bool,
        took_ms: float,
        gc_ms: float,
        freed_bytes: int | None,
        used_bytes: int | None,
        usage_after: float,
        now_ms: float,
        /,
    ) -> None: ...
    def spent(self, gc_ms: float, /) -> None:
        """Counts collection time that was spent without asking."""

    def may_collect(self, level: str, gc_ms: float, now_ms: float, /) -> bool:
        """Whether a collection that takes gc_ms fits into the budget now."""

    @property
    def time_to_limit_ms(self) -> float | None:
        """Time to the limit at the present pace; 0 once it is reached, None if
        usage does not grow or too little is known."""

    @property
    def is_unreclaimable(self) -> bool:
        """Whether it has given up collecting."""

class Recycle:
    """Base of memguard.decide.Recycle."""

    def __new__(
        cls,
        limit_bytes: int,
        sustain_ms: float,
        jitter_ms: float,
        min_age_ms: float,
        spread: float,
        now_ms: float,
    ) -> Self: ...
    def offer(self, rss_bytes: int | None, now_ms: float, /) -> str:
        """Takes in a reading; the verdict."""

class Tuner:
    """Base of memguard.decide.Tuner."""

    def __new__(
        cls, settings: Settings, profiles: Sequence[str], reference: str
    ) -> Self: ...
    def _configure(self, settings: Settings, /) -> None: ...
    def _trial(
        self,
        now_ms: float,
        seconds: float,
        collections: int,
        pause_ms: float,
        gc_ms: float,
        peak_rss_bytes: int | None,
        operations: int | None,
        /,
    ) -> str: ...
    def _try_all(self) -> None: ...
    def _restart(self) -> str: ...
    def _trial_state(
        self,
    ) -> tuple[
        str,
        str,
        int,
        list[
            tuple[
                str,
                str,
                float | None,
                tuple[float, int, float, float, int | None, int | None] | None,
            ]
        ],
    ]: ...
    # now_ms, live, full_ms, full_collected, level, is_idle, laps
    def _freeze(self, *view: object) -> str: ...
    # step, now_ms, live, full_ms, full_collected, took_ms, laps
    def _frozen(self, *view: object) -> None: ...
    def _forget_frozen(self) -> None: ...
    def _roll(self, now_ms: float, live: int | None, /) -> int: ...
    # now_ms, took_ms, live, taken, collected, is_lap
    def _rolled(self, *part: object) -> None: ...
    def _roll_wait_ms(self) -> float: ...
    def _roll_owe(self) -> None: ...
    @property
    def _laps(self) -> tuple[int, int | None, float, float]: ...
    def _idle(
        self, now_ms: float, load: float | None, expected_ms: float, is_worth: bool, /
    ) -> bool: ...
    @property
    def is_idle(self) -> bool:
        """Whether the load was low when it was last told."""

    @property
    def is_frozen(self) -> bool:
        """Whether a step was told as done."""
