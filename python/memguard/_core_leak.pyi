"""The leak detector of memguard._core; this file only divides its stubs."""

from collections.abc import Iterable, Sequence
from typing import Any

from memguard._core import Monitor

class Detector:
    """Base of memguard.LeakDetector: watches the process of one monitor.

    It is fed by the samples of the monitor, also by those of _pass(). What it finds
    comes as events of the monitor: leak:suspected, leak:warning, leak:critical and
    leak:withdrawn have `finding` (a number for _finding(); 0: an object counter
    passed its threshold) and `growth_per_minute`; fd:warning has `count`,
    `threshold` and `growth_per_minute` (NaN if not known yet).

    Full collections of this interpreter are told by its collector's callback.
    Any thread; methods with an underscore are for python/memguard only. All but
    _open() and _close() raise ClosedError once closed. After a fork the child
    starts anew by itself."""

    def __init__(self) -> None: ...
    def _open(self, monitor: Monitor, answers: Sequence[str], /) -> None:
        """Joins `monitor`. `answers`: requests that will be answered, of "collect",
        "census_base", "census", "trace_start", "trace_stop"; others are never made.
        Raises ExistsError if the monitor has a detector, ClosedError."""

    def _close(self) -> None:
        """Leaves the monitor, which may then get another one. Idempotent."""

    @property
    def _closed(self) -> bool: ...
    @property
    def _active(self) -> bool:
        """Whether samples are taken in: not paused, not closed, leak_detection and
        enabled are on."""

    def _set_active(self, active: bool, /) -> None:
        """Pauses; or goes on, and starts anew."""

    def _check(self) -> None:
        """A wide reading and a judgement now, in this thread (some ms)."""

    def _tell(self, signal: str, value: int | None, /) -> None:
        """A number that only the program knows, of "connections" or "handles";
        counts until it is told anew. None: not known any more."""

    def _collected(
        self,
        live_bytes: int | None,
        live_blocks: int | None,
        duration_ms: float,
        /,
    ) -> None:
        """A full collection that the interpreter's callback did not see."""

    @property
    def _has_request(self) -> bool:
        """Whether _request() would answer; reads nothing."""

    def _request(self) -> tuple[list[str], str]:
        """Takes what to do now, and the signal that culprits are to be told for:
          collect      gc.collect() (told by the callback)
          census_base  count objects by type, keep it
          census       count again, tell what grew since the base by _culprits()
          trace_start  begin to trace allocations
          trace_stop   end it, tell the sites by _culprits()
        Call it about once a second, also without a request: after a full collection
        it tells allocated blocks too."""

    def _culprits(
        self, signal: str, culprits: Iterable[tuple[str, str, int, int, int, float]], /
    ) -> bool:
        """What grew, largest first: (kind, name, growth, growth in bytes or 0, count
        now, share of all growth 0 to 1). Kinds: "type", "site", "fd", "mapping",
        "rental", "counter". They take the place of those of the same kinds; 8 are
        kept. Returns False if the signal is not suspected any more. Descriptors and
        mappings are found without this."""

    def _findings(self) -> list[dict[str, Any]]:
        """Those that are not over, oldest first: number, signal ("heap", "blocks",
        "native", "rss", "fds", "fd_sockets", "fd_pipes", "fd_files", "fd_others",
        "threads", "mappings", "connections", "rentals", "handles", "code",
        "counter:KEY"), unit ("bytes", "count"), tier ("none", "suspect", "likely",
        "confirmed"), previous (tier), is_critical, severity ("low", "medium",
        "high"), growth (since the base), growth_per_minute, base, latest,
        to_limit_ms (inf: none), octaves, window_ms, since_unix_ms, update_unix_ms,
        culprits (dicts of kind, name, growth, growth_bytes, count, share), advice
        (commands, best first)."""

    def _finding(self, number: int, /) -> dict[str, Any] | None:
        """One, also when it is over (tier "none"); None if not remembered: the last
        32 are."""

    def _stats(self) -> dict[str, Any]:
        """samples, collections (full ones), wide (readings), findings, withdrawn,
        alarms (all counts); private_bytes, native_bytes, sockets, pipes, files,
        others, mappings (None: not known); wide_ms (what the last one took),
        wide_every_ms, fd_growth_per_minute (NaN: not known yet)."""
