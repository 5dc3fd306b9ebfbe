"""One round of profiles, as it is measured: windows of the live load.

The judgement is the core's (core/tune.c); here is when a window is over and what
happened within.
"""

from __future__ import annotations

from memguard import _core
from memguard._gc_settings import GC_PROFILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memguard._gc_settings import Thresholds

REFERENCE = "default"  # stands for what the program had
ROLLING = "rolling"

_MB = 1048576
_WARM_MS = 5000.0  # longest warm-up of a heap that is not worth freezing
_WARM_MAX_MS = 15000.0
_GROWN = 1.1  # live blocks in a window: it measured a start, not a load
_RESTARTS = 1  # windows given up for that in a row
_STRETCH = 4.0  # a window waits so much longer for a full collection
_MEMORY = 1.1  # of the program's own peak, as in tune.h


class _Window:
    """What is counted from the moment a profile is in force."""

    __slots__ = (
        "began_ms",
        "collections",
        "first",
        "full",
        "full_ms",
        "gc_ms",
        "least",
        "operations",
        "peak",
    )

    def __init__(self, now_ms: float, live: int, rss: int, operations: int) -> None:
        counted = _core._gc_window(1)
        self.began_ms = now_ms
        self.collections, self.gc_ms, self.full, self.full_ms = counted[:4]
        self.first = self.least = max(live, 1)
        self.peak = max(rss, 1)
        self.operations = operations


class Trial:
    """Windows of one profile after the other, while the core asks for them."""

    def __init__(
        self, core: _core.Tuner, seconds: float, *, is_hasty: bool = False
    ) -> None:
        """`is_hasty`: the warm-up may stand for the program's own settings."""
        self.is_warming = True
        self._is_hasty = is_hasty
        self._core = core
        self._seconds = seconds
        self._window: _Window | None = None
        self._restarts = 0
        self._is_rough = False  # the reference is from the warm-up
        self._reference_rss = self._trial_rss = 0
        self._rss_per_live = 1.0

    def renew(self, core: _core.Tuner, seconds: float) -> None:
        """Begins a round of other profiles."""
        self._core = core
        self._seconds = seconds
        self._window = None
        self._is_hasty = self._is_rough = False

    def break_off(self) -> None:
        """What is under way does not count: begins the window anew."""
        self._window = None

    def advance(
        self, now_ms: float, live: int, rss: int, operations: int
    ) -> str | None:
        """Takes what is known now. Returns the profile to be in force when a window
        is over."""
        window = self._window
        if window is None:
            self._window = _Window(now_ms, live, rss, operations)
            return None
        window.peak = max(window.peak, rss)
        window.least = min(window.least, live)
        if self.is_warming:
            self.is_warming = not self._is_warm(now_ms - window.began_ms, live)
            if not self.is_warming or live > _GROWN * window.first:
                self._window = None  # what it did at its start is no measure
            return None
        if not self._is_measured(window, now_ms, live):
            return None
        self._window = None
        return self._judge(window, now_ms, operations)

    def end_warm_up(self, now_ms: float, operations: int) -> str | None:
        """The heap is about to be frozen: how it did until now is how it does
        without. Returns the profile to be in force if that is known."""
        window = self._window
        if not self.is_warming or not self._is_hasty or window is None:
            return None
        full, full_ms = _core._gc_window(1)[2:4]
        if full == window.full:
            return None
        self.is_warming = False
        self._is_rough = True
        self._window = None
        pause_ms = (full_ms - window.full_ms) / (full - window.full)
        return self._judge(window, now_ms, operations, pause_ms)

    def _is_warm(self, gone_ms: float, live: int) -> bool:
        if self._core.is_frozen or gone_ms >= _WARM_MAX_MS:
            return True
        return gone_ms >= _WARM_MS and live < 100_000

    def _is_measured(self, window: _Window, now_ms: float, live: int) -> bool:
        gone = (now_ms - window.began_ms) / 1000
        current, phase, _, _ = self._core._trial_state()
        is_tried = phase == "trying" and current != REFERENCE
        if is_tried and 0 < _MEMORY * self._reference_rss < self._memory(window):
            return True  # it is out; no need to cost more
        if gone < self._seconds:
            return False
        # Its low points rise: it is still being filled.
        if phase == "trying" and live > _GROWN * window.first:
            self._restarts += 1
            if self._restarts <= _RESTARTS:
                self._window = None
                return False
        self._restarts = 0
        # Garbage of all generations must have been waited for once.
        return (
            current in (REFERENCE, ROLLING)
            or gone >= _STRETCH * self._seconds
            or _core._gc_window(1)[2] > window.full
        )

    def _judge(
        self, window: _Window, now_ms: float, operations: int, least_ms: float = 0.0
    ) -> str:
        seconds = (now_ms - window.began_ms) / 1000
        # Whole seconds that began with this profile in force.
        whole = max(1, int(now_ms / 1000) - int(window.began_ms / 1000) - 1)
        collections, gc_ms, _, _, _, pause_ms = _core._gc_window(whole)
        _, phase, _, rows = self._core._trial_state()
        is_reference = phase == "trying" and all(row[3] is None for row in rows)
        if is_reference:
            # What a program has at its start is less than it will have.
            self._reference_rss = 0 if self._is_rough else window.peak
            self._rss_per_live = window.peak / window.least
        memory = self._reference_rss if is_reference else self._memory(window)
        if phase == "trying":
            self._trial_rss = max(self._trial_rss, window.peak)
        elif window.peak <= self._trial_rss:
            memory = 0  # what trying others took does not come back
        operations -= window.operations
        following = self._core._trial(
            now_ms,
            seconds,
            collections - window.collections,
            max(pause_ms, least_ms),
            gc_ms - window.gc_ms,
            memory or None,
            operations or None,
        )
        if not self._is_rough or is_reference:
            return following
        # No gain over a warm-up may be one over the load.
        self._is_rough = False
        kept = self._core._trial_state()[1] == "kept"
        return following if kept else self._core._restart()

    def _memory(self, window: _Window) -> int:
        """Peak resident set, were as much alive as with the program's own settings:
        a heap that grows by itself is no profile's fault."""
        per_live = window.peak / window.least
        return int(self._reference_rss * per_live / self._rss_per_live)


def row_of(
    original: Thresholds,
    name: str,
    verdict: str,
    score: float | None,
    window: tuple[float, int, float, float, int | None, int | None] | None,
) -> dict[str, Any]:
    """A row of GCTuner.report()."""
    row: dict[str, Any] = {
        "profile": name,
        "thresholds": original if name == REFERENCE else GC_PROFILES[name],
        "verdict": verdict,
        "score": score,
    }
    measured: tuple[float | None, ...] = (None,) * 6
    if window is not None:
        seconds, collections, pause_ms, gc_ms, rss, operations = window
        measured = (
            seconds,
            collections / seconds,
            pause_ms,
            gc_ms / seconds / 10,
            None if not rss else rss / _MB,
            None if operations is None else operations / seconds,
        )
    names = (
        "seconds",
        "collections_per_second",
        "pause_p95_ms",
        "gc_percent",
        "peak_rss_mb",
        "operations_per_second",
    )
    return {**row, **dict(zip(names, measured, strict=True))}
