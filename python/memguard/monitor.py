"""MemoryMonitor: how much memory is in use, which way it goes, what to do."""

from __future__ import annotations

import gc
import time
from _thread import RLock, allocate_lock

from memguard import _alerting, _core, _leak_watch, _life, _log, _pauses, _reclaim
from memguard._core import (
    ConfigTypeError,
    ConflictError,
    InvalidError,
    SystemCallError,
)
from memguard._emitter import Emitter
from memguard.config import apply, nested, resolve
from memguard.report import MB, alerts_of, payload_of, stats_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Self

    from memguard.buffer import BufferManager
    from memguard.config import Path
    from memguard.pool import MemoryPool
    from memguard.report import Stats
    from memguard.tuning import GCTuner

_threads = _log.Complaints()
_FULL_PRESSURE = 0.9
_HAS_STAR_ARGS = 0x04  # inspect.CO_VARARGS; inspect is slow to import


class MemoryMonitor(
    _alerting.Alerting, _leak_watch.Watching, _reclaim.Reclaiming, Emitter
):
    """Watches the process. One background thread serves all monitors of it.

    Samples are taken in the background and when the program asks; what follows
    from them (pressure callbacks, events) runs in calls the program makes, or
    also in memguard's own thread if `background_callbacks` is true (in a
    sub-interpreter from Python 3.14 on).

    `config`: settings, flat or nested; see ResourceManager for the other
    arguments. Usable alone.

    Events: monitoring:started, monitoring:stopped, stats:collected,
    threshold:exceeded, trend:rapid-growth, leak:suspected, leak:warning,
    leak:critical, leak:withdrawn, fd:warning (see LeakDetector), level:changed,
    pressure, optimization:automatic (a round as get_reclaim_history() tells it),
    memory:unreclaimable, alert (each change of an alert, see memguard.alerts).
    """

    pressure_callbacks: list[Callable[..., object]]
    """Called while the pressure is at or above pressure_threshold, in order. A
    plain list: the program may append to it."""

    gc_count: int
    """Collections that trigger_gc() made."""

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        profile: str | None = None,
        file: Path | None = None,
        environment: bool | Mapping[str, str] = True,
    ) -> None:
        self._open(resolve(config, profile=profile, file=file, environment=environment))
        self._set_up(None)
        _life.add(self)
        self._begin()

    @classmethod
    def _of(cls, manager: _core.Manager, buffers: BufferManager) -> Self:
        """The monitor of a manager."""
        self = cls.__new__(cls)
        self._open(manager)
        self._set_up(buffers)
        return self

    def _set_up(self, buffers: BufferManager | None) -> None:
        Emitter.__init__(self, _core.EVENTS)
        self.pressure_callbacks = []
        self._shed_callbacks: list[Callable[..., object]] = []
        self.gc_count = 0
        self._buffers = buffers
        self._relieved = 0  # number of the sample that buffers were flushed for
        self._tuner: GCTuner | None = None
        self._is_tuned = False  # by the setting
        self._set_up_watch()
        self._set_up_alerts()
        self._pool: MemoryPool | None = None  # the manager's
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._delivering = allocate_lock()
        self._settings_lock = RLock()

    # ---- tuning ------------------------------------------------------------

    @property
    def gc_tuner(self) -> GCTuner:
        """Its GCTuner, made when first asked for. With the setting `auto_tune` it
        runs by itself while background samples do; it stops when they stop."""
        if self._tuner is None:
            from memguard.tuning import GCTuner

            self._tuner = GCTuner(self)
        return self._tuner

    def _attach_tuner(self, tuner: GCTuner) -> None:
        """Only the one that was started last is called."""
        self._tuner = tuner

    def _follow_auto_tune(self) -> None:
        settings = self._read_settings()
        wanted = settings.get("memory.auto_tune") != 0 and self.is_monitoring
        if wanted and not self._is_tuned:
            try:
                self.gc_tuner.start()
            except ConflictError:
                return  # another monitor's is at it
        elif not wanted and self._is_tuned:
            self.gc_tuner.stop()
        self._is_tuned = wanted
        if self._tuner is not None:
            self._tuner._configure(settings)

    def _start(self) -> None:
        super()._start()
        self._follow_auto_tune()
        self._follow_leak_detection()

    def _stop(self) -> None:
        super()._stop()
        if self._tuner is not None:
            self._tuner.stop()
            self._is_tuned = False

    def _begin(self) -> None:
        """Starts sampling; without a thread everything else goes on working."""
        if self._get("memory.enabled"):
            _pauses.observe(self)
        try:
            self._start()
        except SystemCallError:
            _threads.failed("thread", "no background samples: no thread to be had")
        else:
            _threads.worked("thread")

    # ---- settings ----------------------------------------------------------

    @property
    def settings(self) -> dict[str, dict[str, bool | int | float]]:
        """The settings in force, by section and name; durations in seconds."""
        return nested(self._read_settings())

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Changes settings, all or none, of the whole manager if it has one.

        Raises ConfigKeyError, ConfigTypeError, RangeError or ConflictError;
        then nothing has changed.
        """
        with self._settings_lock:
            settings = self._read_settings()
            was_enabled = settings.get("memory.enabled")
            apply(settings, config)
            settings.check()
            self._configure(settings)
            enabled = settings.get("memory.enabled")
            _pauses.change(self, settings.get("memory.long_pause"))
            if self._pool is not None and not self._pool.closed:
                self._pool._change(settings)
        if was_enabled and not enabled:
            self._stop()
        elif enabled and not was_enabled:
            self._begin()
        else:
            self._follow_auto_tune()
        self._follow_leak_detection()

    def _get(self, path: str) -> float:
        return self._read_settings().get(path)

    # ---- readings ----------------------------------------------------------

    @property
    def peak_memory(self) -> float:
        """Highest resident set in any sample, in MB; 0.0 before the first."""
        return self.latest.peak_rss_bytes / MB

    @property
    def last_check_time(self) -> float:
        """When the latest sample was taken, seconds since 1970; 0.0: never."""
        return self.latest.unix_ms / 1000

    def trigger_gc(self) -> int:
        """Collects garbage now. Returns the number of unreachable objects.

        The time is charged to gc_budget_percent, so automatic collections wait.
        Inside a collection (a finalizer, a callback of the collector) CPython
        collects nothing and this returns 0.
        """
        began = time.perf_counter()
        collected = gc.collect()
        self._spent((time.perf_counter() - began) * 1000)
        self.gc_count += 1
        self._collected()
        return collected

    @property
    def segment_path(self) -> str | None:
        """Path of the file in which this process, with all its monitors, shows
        itself to the memguard tool; None while none of them runs, or with
        `segment_enabled` false."""
        return _core.segment_path()

    # ---- callbacks and events ----------------------------------------------

    def register_pressure_callback(self, callback: Callable[..., object]) -> None:
        """Has `callback(pressure)` called while the pressure is at or above
        pressure_threshold; one that takes no argument is called without.

        One that raises is logged and the others still run.
        """
        if not callable(callback):
            raise ConfigTypeError(f"callback is {callback!r}, allowed: a callable")
        self.pressure_callbacks.append(callback)

    def register_shed_callback(self, callback: Callable[..., object]) -> None:
        """Has `callback(report)` called when memory is critical and nothing that
        memguard can do gives any back: the program should drop load, or restart.
        Called again every 30 s, or for each further 1 % of the limit, while that
        lasts. One that takes no argument is called without.

        `report`: reason, usage, domain, level and stats. May run on memguard's
        own thread, whatever background_callbacks says: the kill may be near. One
        that raises is logged and the others still run. Raises ConfigTypeError.
        """
        if not callable(callback):
            raise ConfigTypeError(f"callback is {callback!r}, allowed: a callable")
        self._shed_callbacks.append(callback)
        _reclaim.add(self)

    def _shed(self, reason: str) -> bool:
        """Called by the engine. Returns whether there was a callback."""
        if self.closed:
            return False
        sample = self.latest
        report = {
            "reason": reason,
            "usage": sample.usage,
            "domain": sample.domain,
            "level": sample.level,
            "stats": stats_of(sample, self._read_settings()),
        }
        callbacks = tuple(self._shed_callbacks)
        for callback in callbacks:
            self._call(callback, *((report,) if _takes_one(callback) else ()))
        return bool(callbacks)

    def _deliver(self) -> None:
        """Runs what the waiting events ask for, in this thread.

        One thread at a time, and not again from inside a callback: whoever is at
        it takes new events along. An event of a sample taken meanwhile ends it,
        so callbacks that cause events cannot hold the program here.
        """
        delivering = self._delivering
        if self.closed or not delivering.acquire(False):
            return
        try:
            began = self.latest.number
            _pauses.tell()
            self._tell_problem()
            self._relieve()
            while (event := self._next_event()) is not None:
                self._dispatch(event)
                if event["sample"].number > began:
                    break
        finally:
            delivering.release()

    def _relieve(self) -> None:
        """Under full pressure, once per sample, buffers go to their sinks."""
        sample = self.latest
        if sample.pressure > _FULL_PRESSURE and sample.number != self._relieved:
            self._relieved = sample.number
            if self._buffers is not None:
                self._buffers._flush_sinks()

    def _dispatch(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if name == "alert":
            if self._listeners.get(name):
                for change in self._take_alerts():
                    self._emit(name, change)
            return
        if name == "pressure":
            pressure = event["sample"].pressure
            for callback in tuple(self.pressure_callbacks):
                self._call(callback, *((pressure,) if _takes_one(callback) else ()))
        is_heard = self._listeners.get(name) or self._is_for_detector(event)
        if is_heard and not self.closed:
            payload = payload_of(event, self._read_settings())
            self._tell_detector(event, payload)
            self._emit(name, payload)

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        try:
            callback(*args)
        except Exception:
            self._complaints.failed(id(callback), "callback %r failed", callback)
        else:
            self._complaints.worked(id(callback))

    # ---- monitoring --------------------------------------------------------

    def start_monitoring(self, ms: float | None = None) -> None:
        """Starts background samples, recorded every `ms` milliseconds (10 to one
        day; None: as configured). Does nothing if they run already.

        Raises RangeError, SystemCallError if no thread could be started.
        """
        if ms is not None:
            self.update_config({"memory": {"monitor_interval_ms": ms}})
        self._start()
        _pauses.observe(self)
        self._deliver()

    def stop_monitoring(self) -> None:
        """Stops background samples; asking for one still works."""
        self._stop()
        self._deliver()

    def collect_memory_stats(self) -> Stats:
        """Takes and records a sample now, with the heap of this interpreter.

        Some 0.5 ms, more with a large heap. Keys: heap_used, heap_total,
        external, rss, array_buffers (bytes), timestamp (seconds since 1970),
        heap_used_percentage (of max_heap_mb, if that is set), heap_used_mb,
        heap_total_mb, rss_mb. None where CPython or the system does not tell.
        """
        sample = self._collect()
        self._deliver()
        return stats_of(sample, self._read_settings())

    def get_current_stats(self) -> Stats:
        """The latest sample as collect_memory_stats() gives it, without heap
        numbers unless it came from there; a new one if there is none."""
        sample = self.latest
        if sample.number == 0:
            sample = self._pass(False)
        return stats_of(sample, self._read_settings())

    def get_memory_history(self, minutes: float | None = None) -> list[Stats]:
        """Recorded samples of the last `minutes` (None: all kept), oldest first."""
        since_ms = 0
        if minutes is not None:
            _reclaim.check_number("minutes", minutes, 0)
            since_ms = max(0, int((time.time() - minutes * 60) * 1000))
        settings = self._read_settings()
        return [
            stats_of(sample, settings)
            for sample in self._history(since_ms, _reclaim.ALL)
        ]

    def get_memory_trends(self, count: int = 10) -> dict[str, Any]:
        """Where the newest `count` recorded samples (1 or more; 64 are looked at)
        go. "rss" and "heap" have direction (increasing, decreasing, stable),
        mb_per_minute, tau (agreement, -1 to 1) and points used; "trend" and
        "mb_per_minute" are those of the steeper one. Raises RangeError."""
        _reclaim.check_number("count", count, 1)
        rss, heap = self._trends(int(count))
        steeper = max(rss, heap, key=lambda trend: abs(trend["mb_per_minute"]))
        return {
            "trend": steeper["direction"],
            "mb_per_minute": steeper["mb_per_minute"],
            "rss": rss,
            "heap": heap,
        }

    def get_gc_stats(self) -> dict[str, Any]:
        """What the garbage collector did so far, by generation and in total.

        "pauses", also in each of "generations", holds what was recorded since the
        first monitor of this interpreter was started: count, total_ms, cpu_ms (of
        the collecting thread; taken as equal below 0.05 ms), collected (objects),
        p50_ms, p95_ms, p99_ms, max_ms and last_ms; quantiles are at most 6.25 % too
        high.
        longest_per_second_p95_ms is the 95th percentile, over the last 60 whole
        seconds, of the longest pause in each; None for a single generation.
        "source" is "callback" while collections are recorded, else "none": before
        that start, or after the program emptied gc.callbacks.
        """
        generations: list[dict[str, Any]] = [
            {**generation, "pauses": _core._gc_pauses(number)}
            for number, generation in enumerate(gc.get_stats())
        ]
        total = {
            key: sum(generation[key] for generation in generations)
            for key in ("collections", "collected", "uncollectable")
        }
        return {
            **total,
            "triggered": self.gc_count,
            "generations": generations,
            "thresholds": gc.get_threshold(),
            "enabled": gc.isenabled(),
            "source": "callback" if _core._gc_is_observed() else "none",
            "pauses": _core._gc_pauses(None),
        }

    def get_memory_report(self) -> dict[str, Any]:
        """A new sample and all that is known around it. No data of the program."""
        health = self.health_check()
        settings = self.settings
        return {
            "timestamp": time.time(),
            "current": health["stats"],
            "trends": self.get_memory_trends(),
            "gc": self.get_gc_stats(),
            "thresholds": settings["thresholds"],
            "counters": self.object_counters,
            "history": {
                "count": len(self._history(0, _reclaim.ALL)),
                "capacity": settings["memory"]["history_size"],
            },
            "peak_memory_mb": self.peak_memory,
            "events_lost": self.events_lost,
            "health": health,
            "recommendations": health["recommendations"],
        }

    def update_thresholds(self, thresholds: Mapping[str, float]) -> None:
        """Changes thresholds, all or none: heap_used_warning, heap_used_critical
        (percent), rss_warning, rss_critical (MB), leak_warning_count,
        leak_critical_count. Raises as update_config() does."""
        self.update_config({"thresholds": thresholds})

    def health_check(self) -> dict[str, Any]:
        """Takes a sample and says what is wrong: status (healthy, warning,
        critical), healthy, issues (alerts with type, level, message and often
        value and threshold), recommendations (a sentence each), stats, timestamp
        (seconds since 1970)."""
        stats = self.collect_memory_stats()
        status, found = self._health()
        issues = alerts_of(found, self.latest, self._read_settings())
        return {
            "status": status,
            "healthy": status == "healthy",
            "issues": issues,
            "recommendations": [issue["message"] for issue in issues],
            "stats": stats,
            "timestamp": stats["timestamp"],
        }

    def optimize_memory(self, method: str = "gc") -> dict[str, Any]:
        """Gives memory back: "gc" collects garbage; "aggressive" also flushes
        buffers that have a sink, shrinks caches and pools and returns free pages,
        in rounds until one frees less than 1 %.

        Returns the report that MemoryOptimizationService.perform_optimization()
        does, `method` in place of its own. What was freed is measured. Raises
        InvalidError for another method.
        """
        if method not in ("gc", "aggressive"):
            raise InvalidError(f'method is {method!r}, allowed: "gc", "aggressive"')
        from memguard._optimize import optimize_now  # only who asks pays for it

        return optimize_now(self, method)

    # ---- object counters ---------------------------------------------------

    def register_object_counter(self, key: str) -> None:
        """Begins to count objects that the program opens and closes; a value at
        leak_warning_count or leak_critical_count raises an event. A key of 1 to
        63 bytes; at most 256 of them. Raises InvalidError, RangeError."""
        self._counter_register(key)

    def increment_object_counter(self, key: str, delta: int = 1) -> int:
        """Adds `delta`, which may be negative; a counter does not fall below 0.
        Returns its value. Raises NotFoundError."""
        value = self._counter_add(key, delta)
        self._deliver()
        return value

    def reset_object_counter(self, key: str) -> None:
        """Sets a counter to 0. Raises NotFoundError."""
        self._counter_reset(key)

    # ---- end ---------------------------------------------------------------

    def reset(self) -> None:
        """Forgets history, peak, operations, counters' values, waiting events."""
        self._reset()
        self.gc_count = 0

    def shutdown(self) -> None:
        """Stops monitoring and forgets callbacks and listeners. A monitor that
        stands alone is closed: later use raises ClosedError. Idempotent."""
        if self.closed:
            return
        self._stop()
        self._close_alerts()
        self._deliver()
        self.pressure_callbacks.clear()
        self._shed_callbacks.clear()
        self._listeners.clear()
        _pauses.forget(self)
        _reclaim.forget(self)
        if self._buffers is None:
            self._end_detector()
            _life.remove(self)
            self._close()

    close = shutdown
    """The same as shutdown()."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def _at_exit(self) -> None:
        self._close_alerts()
        if self._tuner is not None:
            self._tuner.stop()
        if self._detector is not None:
            self._detector._at_exit()
        self._close()

    def _after_fork_in_child(self) -> None:
        self._renew_locks()
        if self._tuner is not None:
            self._tuner._after_fork_in_child()
        if self._detector is not None:
            self._detector._after_fork_in_child()
        self._after_fork()
        self._renew_alerts()
        while self._next_event() is not None:
            pass  # what waited is the parent's
        _core._gc_take_long()


def _takes_one(callback: Callable[..., object]) -> bool:
    """Whether a callable takes a positional argument; True if that is unclear."""
    function: Any = getattr(callback, "__func__", callback)
    bound = function is not callback
    if not bound and not hasattr(function, "__code__"):
        function, bound = type(callback).__call__, True
    code = getattr(function, "__code__", None)
    if code is None:
        return True
    return code.co_argcount > bound or bool(code.co_flags & _HAS_STAR_ARGS)
