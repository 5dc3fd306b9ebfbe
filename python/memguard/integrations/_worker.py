"""A worker process of a service: how busy it is, and when it should make room."""

from __future__ import annotations

import os
from _thread import allocate_lock
from time import monotonic

from memguard import _life, _log
from memguard._core import ClosedError, ConfigTypeError
from memguard.decide import Recycle
from memguard.manager import ResourceManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_MB = 1048576
_MS = 1000.0
_TICK_MS = 500.0

_shared: ResourceManager | None = None


def manager_of(
    manager: ResourceManager | None, config: Mapping[str, Any] | None
) -> ResourceManager:
    """`manager`; else the one that all integrations of this process share, made by
    the first call. It watches until the interpreter ends."""
    global _shared
    if manager is None and _shared is None:
        from memguard import start

        # `memguard run` has begun one already.
        _shared = start._manager or ResourceManager(config)
    made = manager or _shared
    assert made is not None
    if config is not None:
        made.update_config(config)
    return made


def shared_manager() -> ResourceManager:
    """The manager that all integrations of this process share: that of `memguard run`,
    or one made by the first that asks. Any thread."""
    return manager_of(None, None)


class Limits:
    """When a worker is replaced; the rule stands in include/memguard/recycle.h.

    `max_rss_mb`: resident set, in MB (None: never). It has to be over that in every
    reading (one each half second) of the last `sustain` seconds, and of a random part
    of `jitter` seconds more, so that workers that fill alike do not end together; and
    it is at least `min_age` seconds old. Times are 0 to one day.

    Raises ConfigTypeError, RangeError.
    """

    __slots__ = ("jitter", "max_rss_mb", "min_age", "sustain")

    def __init__(
        self,
        max_rss_mb: float | None = None,
        *,
        sustain: float = 30.0,
        jitter: float = 30.0,
        min_age: float = 60.0,
    ) -> None:
        for name, value in (
            ("max_rss_mb", 1.0 if max_rss_mb is None else max_rss_mb),
            ("sustain", sustain),
            ("jitter", jitter),
            ("min_age", min_age),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigTypeError(f"{name} is {value!r}, allowed: a number")
        self.max_rss_mb = max_rss_mb
        self.sustain = sustain
        self.jitter = jitter
        self.min_age = min_age
        self._begin()  # raises now, not in a worker

    def _begin(self) -> Recycle | None:
        """For a new worker."""
        if self.max_rss_mb is None:
            return None
        return Recycle(
            int(max(self.max_rss_mb, 0) * _MB),
            sustain_ms=self.sustain * _MS,
            jitter_ms=self.jitter * _MS,
            min_age_ms=self.min_age * _MS,
            spread=int.from_bytes(os.urandom(4), "little") / 0xFFFFFFFF,
            now_ms=monotonic() * _MS,
        )


class Worker:
    """Counts what a process is at, tells its manager the load, and says when the
    process should make room.

        worker = Worker(manager, slots=8, limits=Limits(400), leave=stop_serving)
        worker.began()  # a request or a task
        ...
        worker.ended()

    `slots`: requests that it takes at a time, for the load; 0: the load is told by
    somebody else. `leave(worker)` is called once it is due, after each request and
    each half second on memguard's own thread, until it returns true. It must not
    block; what it raises is logged. After a fork the child counts anew. Any thread.
    """

    def __init__(
        self,
        manager: ResourceManager,
        *,
        slots: int = 1,
        limits: Limits | None = None,
        leave: Callable[[Worker], bool] | None = None,
    ) -> None:
        self.manager = manager
        self._monitor = manager.memory_monitor
        self._slots = slots
        self._limits = limits or Limits()
        self._leave = self._how_to_leave = leave
        self._complaints = _log.Complaints()
        self._begin()
        self._monitor._add_ticker(self, _TICK_MS)
        _life.add(self)

    def _begin(self) -> None:
        self._lock = allocate_lock()
        self._count = 0
        self._done = 0
        self._busy = 0.0  # seconds, of all slots together, since the last tick
        self._changed = self._ticked = monotonic()
        self._recycle = self._limits._begin()
        self._is_due = False

    def began(self) -> None:
        """A request or a task begins."""
        self._change(1)

    def ended(self) -> None:
        """It is over, its answer is given."""
        self._change(-1)
        self._go()

    def _change(self, by: int) -> None:
        with self._lock:
            now = monotonic()
            self._busy += self._count * (now - self._changed)
            self._changed = now
            self._count = max(0, self._count + by)
            self._done += by < 0

    @property
    def is_due(self) -> bool:
        """Whether it should make room: it should take on nothing more. Once it is
        due, it stays so."""
        return self._is_due

    @property
    def is_idle(self) -> bool:
        """Whether it is at nothing."""
        return self._count == 0

    @property
    def rss_mb(self) -> float | None:
        """Resident set in the latest sample, in MB."""
        rss = self._monitor.latest.rss_bytes
        return None if rss is None else rss / _MB

    def _tick(self) -> None:
        """Called each half second, on memguard's thread."""
        try:
            self._tell_load()
            self._look()
            self._go()
        except ClosedError:
            pass
        except Exception:
            self._complaints.failed("tick", "watching the load of a worker failed")
        else:
            self._complaints.worked("tick")

    def _tell_load(self) -> None:
        self._change(0)
        with self._lock:
            now = self._changed
            passed, busy, done = now - self._ticked, self._busy, self._done
            self._ticked, self._busy, self._done = now, 0.0, 0
        tuner = self._monitor._tuner
        if tuner is not None and self._slots > 0 and passed > 0:
            tuner._note_load(self, min(1.0, busy / passed / self._slots))
            tuner.count_operations(done)

    def _look(self) -> None:
        if self._recycle is None or self._is_due:
            return
        rss = self._monitor.latest.rss_bytes
        if self._recycle.offer(rss, monotonic() * _MS) == "due":
            self._is_due = True
            _log.warning(
                "pid %d: %.0f MB for %g s, allowed: %.0f; makes room for a new worker",
                os.getpid(),
                self.rss_mb or 0.0,
                self._limits.sustain,
                self._limits.max_rss_mb,
            )

    def _go(self) -> None:
        if not self._is_due or self._leave is None:
            return
        try:
            if self._leave(self):
                self._leave = None
        except Exception:
            self._complaints.failed("leave", "a worker that is due could not leave")

    def close(self) -> None:
        """Ends counting; the manager goes on."""
        self._monitor._remove_ticker(self)
        _life.remove(self)

    def _at_exit(self) -> None:
        self._leave = None

    def _after_fork_in_child(self) -> None:
        self._leave = self._how_to_leave
        self._begin()
