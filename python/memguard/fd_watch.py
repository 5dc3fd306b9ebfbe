"""FdWatch: warns of too many open descriptors before the process runs out of them."""

from __future__ import annotations

from memguard import _core, _life
from memguard._core import ConfigTypeError
from memguard._leak_detector import LeakDetector
from memguard._log import Complaints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from memguard.monitor import MemoryMonitor

_TARGETS = 8  # told with a warning


class FdWatch(_life.Closing):
    """Warns, and has the program clean up, when `threshold` descriptors are open or
    more than `growth_per_minute` come in a minute; again only after that was over.

        with memguard.FdWatch(800, 50, cleanup=lambda report: pool.trim()):
            serve()

    `cleanup(report)`: the emergency hook, called on memguard's own thread, or where
    the given `monitor` tells its events. `report`: count, threshold,
    growth_per_minute (None: not known yet), targets (dict: what most descriptors are
    open on, and how many). One that raises is logged and counted.

    `monitor`: a running MemoryMonitor, whose settings fd_warning_count and
    fd_growth_per_minute are set; None: one of its own.

    Starts at once. Any thread. Raises RangeError, ConfigTypeError.
    """

    def __init__(
        self,
        threshold: int = 800,
        growth_per_minute: int = 50,
        cleanup: Callable[[dict[str, Any]], object] | None = None,
        *,
        monitor: MemoryMonitor | None = None,
    ) -> None:
        if cleanup is not None and not callable(cleanup):
            raise ConfigTypeError(f"cleanup is {cleanup!r}, allowed: a callable")
        settings = {
            "fd_warning_count": threshold,
            "fd_growth_per_minute": growth_per_minute,
        }
        self._cleanup = cleanup
        self._complaints = Complaints()
        self._warnings = 0
        self._failures = 0
        self._is_closed = False
        self._owns = monitor is None
        if monitor is None:
            self._detector = LeakDetector(settings)
        else:
            monitor.update_config(settings)
            self._detector = monitor.leak_detector
        self._detector.on("fd:warning", self._warn)

    @property
    def count(self) -> int | None:
        """Descriptors that are open now; None without /proc."""
        return sum(self.targets().values()) or None

    @property
    def warnings(self) -> int:
        """Warnings so far."""
        return self._warnings

    @property
    def failures(self) -> int:
        """Times that `cleanup` raised."""
        return self._failures

    @property
    def growth_per_minute(self) -> float | None:
        """New descriptors a minute, as of late; None: not known yet."""
        if self._is_closed:
            return None
        growth: float = self._detector.stats()["fd_growth_per_minute"]
        return None if growth != growth else growth

    def targets(self) -> dict[str, int]:
        """What descriptors are open on ("socket tcp 127.0.0.1:6379", "pipe", "file
        /tmp/x#"), and how many, most first. Empty without /proc."""
        table = _core.Census()
        try:
            table.read_fds()
        except (_core.AbsentError, _core.SystemCallError):
            return {}
        rows = sorted(table.rows(0, len(table)), key=lambda row: (-row[1], row[0]))
        return {name: count for name, count, _ in rows}

    def _warn(self, event: dict[str, Any]) -> None:
        self._warnings += 1
        if self._cleanup is None:
            return
        targets = list(self.targets().items())[:_TARGETS]
        report = {
            "count": event["count"],
            "threshold": event["threshold"],
            "growth_per_minute": event["growth_per_minute"],
            "targets": dict(targets),
        }
        try:
            self._cleanup(report)
        except Exception:
            self._failures += 1
            self._complaints.failed("cleanup", "clean-up %r failed", self._cleanup)
        else:
            self._complaints.worked("cleanup")

    def close(self) -> None:
        """Ends it; a given monitor goes on. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._detector.off("fd:warning", self._warn)
        if self._owns:
            self._detector.close()
