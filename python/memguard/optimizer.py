"""MemoryOptimizationService: gives memory back when asked, and by itself when the
core says that it is time.

The reclaim engine acts natively and needs no service; this adds what only the host
can give up, and tells what was brought. Nothing in a report, a snapshot or a log
is data of the host: names of types and of what was registered, sites, numbers.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from memguard import _core, _life, _log
from memguard._core import (
    ClosedError,
    ConfigTypeError,
    ExistsError,
    InvalidError,
    RangeError,
    SystemCallError,
)
from memguard._emitter import Emitter
from memguard._guest import Guest, name_of
from memguard._optimize import (
    MB,
    REASONS,
    Course,
    Optimizer,
    empty_report,
    now_ms,
    rounds,
    strategy_for,
)
from memguard.monitor import MemoryMonitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from memguard._emitter import Listener
    from memguard.config import Path

    Report = dict[str, Any]

_EVENTS = (
    "service:started",
    "service:stopped",
    "optimization:started",
    "optimization:completed",
    "optimization:failed",
    "alert:memory-threshold",
    "alert:rapid-growth",
    "alert:memory-leak",
)
_TRIMMERS = ("trim", "release_idle", "close_idle", "prune")  # of a connection pool


class _Flight:
    """One optimization under way: who else asks waits for it."""

    def __init__(self, reason: str, aggressive: bool) -> None:
        self.reason = reason
        self.aggressive = aggressive
        self.threads: set[int | None] = {threading.get_ident()}
        self.landed = threading.Event()
        self.report: Report | None = None


class MemoryOptimizationService(Emitter, _life.Closing):
    """Optimizes on request, and by itself between start() and stop().

    `config` and the other arguments are those of MemoryMonitor, besides its names
    also memoryOptimization: {enabled, autoOptimization, threshold, intervalMs,
    maxHeapSizeMB, maxRSSSizeMB}. `monitor`: an existing one, which `config` then
    changes; else the service has one of its own.

    Threads: any thread may call anything. Strategies and clean-ups of the program
    run in a thread of their own; one that does not end within strategy_timeout is
    left behind (Python cannot end a thread) and not begun again before it ends.
    Automatic optimizations begin where events are told (see MemoryMonitor: in calls
    the program makes, unless background_callbacks is set) and run in a thread of
    memguard's.

    Events: service:started, service:stopped, optimization:started,
    optimization:completed and optimization:failed (the report),
    alert:memory-threshold, alert:rapid-growth, alert:memory-leak.

    A failure never reaches the program: the report has it. After three in a row
    automatic optimizations pause, see memguard/optimize.h.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        monitor: MemoryMonitor | None = None,
        profile: str | None = None,
        file: Path | None = None,
        environment: bool | Mapping[str, str] = True,
    ) -> None:
        super().__init__(_EVENTS)
        if monitor is not None and not isinstance(monitor, MemoryMonitor):
            raise ConfigTypeError(f"monitor is {monitor!r}, allowed: a MemoryMonitor")
        self._owns = monitor is None
        self._monitor = monitor or MemoryMonitor(
            config, profile=profile, file=file, environment=environment
        )
        if self._owns:
            self._monitor.stop_monitoring()  # until start()
        elif config is not None:
            self._monitor.update_config(config)
        self._optimizer = Optimizer()
        self._strategies: list[Guest] = []
        self._cleanups: list[Guest] = []
        self._pool: tuple[Callable[[], Any], Guest | None] | None = None
        self._reports: deque[Report] = deque(maxlen=_core.OPTIMIZE_REPORTS)
        self._snapshots: deque[dict[str, Any]] = deque(maxlen=_core.OPTIMIZE_REPORTS)
        self._listening: dict[str, Listener] | None = None
        self._started_monitor = False
        self._engine_acted_ms = -1.0
        self._is_closed = False
        self._renew()
        _life.add(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._running: _Flight | None = None
        self._automatic: threading.Thread | None = None

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError("MemoryOptimizationService used after close()")

    # ---- life --------------------------------------------------------------

    def start(self) -> None:
        """Starts monitoring, if it does not run, and automatic optimizations.
        Raises ClosedError."""
        self._check_open()
        if self._listening is not None:
            return
        self._listening = {
            "stats:collected": self._look,
            "level:changed": self._look,
            "pressure": self._look,
            "threshold:exceeded": self._on_threshold,
            "trend:rapid-growth": self._on_growth,
            "leak:warning": self._on_leak_warning,
            "leak:critical": self._on_leak_critical,
            "optimization:automatic": self._on_engine,
        }
        for event, listener in self._listening.items():
            self._monitor.on(event, listener)
        self._started_monitor = not self._monitor.is_monitoring
        try:
            self._monitor.start_monitoring()
        except SystemCallError:
            _log.failure("no background samples: no thread to be had")
        self._emit("service:started", {"config": self.get_config()})

    def stop(self) -> None:
        """Ends automatic optimizations, and monitoring if start() began it. Waits
        for one under way, unless called from inside it."""
        if self._listening is not None:
            for event, listener in self._listening.items():
                self._monitor.off(event, listener)
            self._listening = None
            if self._started_monitor and not self._monitor.closed:
                self._monitor.stop_monitoring()
            self._emit("service:stopped", {})
        self._settle()

    def _settle(self) -> None:
        flight, automatic = self._running, self._automatic
        me = threading.get_ident()
        if flight is not None and me not in flight.threads:
            flight.landed.wait()
        if automatic is not None and automatic.ident not in (me, None):
            automatic.join()

    def close(self) -> None:
        """stop(), and the end: later use raises ClosedError; a monitor of its own
        is closed. Idempotent."""
        if self._is_closed:
            return
        self.stop()
        self._is_closed = True
        _life.remove(self)
        self._listeners.clear()
        if self._owns:
            self._monitor.close()

    def _at_exit(self) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        self._renew()
        for entry in (*self._strategies, *self._cleanups):
            entry.after_fork()

    # ---- what the host adds ------------------------------------------------

    def register_strategy(
        self, name: str, strategy: Callable[..., object], *, priority: float = 0
    ) -> None:
        """Has `strategy(context)` called in each optimization, before the built-in
        actions if `priority` is above 0, the highest first, else after them.

        `context` has reason, aggressive and cancelled, a function that says whether
        the time is up; a strategy that takes no argument is called without. What
        it raises is reported by the name of its type. Raises ConfigTypeError,
        ExistsError.
        """
        if not isinstance(name, str):
            raise ConfigTypeError(f"name is {name!r}, allowed: a str")
        if isinstance(priority, bool) or not isinstance(priority, int | float):
            raise ConfigTypeError(f"priority is {priority!r}, allowed: a number")
        entry = Guest(name, "strategy", strategy, priority)
        known = [other.name for other in self._strategies]
        if name in known or name in _core.STRATEGIES:
            raise ExistsError(f"there is a strategy {name!r} already")
        self._strategies = sorted(
            [*self._strategies, entry], key=lambda other: -other.priority
        )

    def unregister_strategy(self, name: str) -> bool:
        """Ends that. Returns whether there was one."""
        kept = [entry for entry in self._strategies if entry.name != name]
        was_there = len(kept) < len(self._strategies)
        self._strategies = kept
        return was_there

    def register_cleanup(self, callback: Callable[..., object]) -> None:
        """Has `callback()` called to drop data that the program can do without, by
        standard and aggressive optimizations, before garbage is collected. Same
        rules as for strategies."""
        name = getattr(callback, "__qualname__", type(callback).__qualname__)
        self._cleanups = [*self._cleanups, Guest(name, "cleanup", callback)]

    def unregister_cleanup(self, callback: Callable[..., object]) -> bool:
        """Ends that. Returns whether it was registered."""
        kept = [entry for entry in self._cleanups if entry.function != callback]
        was_there = len(kept) < len(self._cleanups)
        self._cleanups = kept
        return was_there

    def set_connection_pool(self, pool: Any) -> None:
        """A pool whose get_stats() returns numbers by name (active, idle, ...). If
        it has trim(), release_idle(), close_idle() or prune(), the first of them is
        called by standard and aggressive optimizations. None forgets it."""
        if pool is None:
            self._pool = None
            return
        if not callable(getattr(pool, "get_stats", None)):
            raise ConfigTypeError("a connection pool has no get_stats()")
        names = [name for name in _TRIMMERS if callable(getattr(pool, name, None))]
        trim = (
            Guest("connection-pool", "pool", getattr(pool, names[0])) if names else None
        )
        self._pool = (pool.get_stats, trim)

    # ---- by itself ---------------------------------------------------------

    def _look(self, payload: dict[str, Any]) -> None:
        self._consider(False)

    def _on_threshold(self, payload: dict[str, Any]) -> None:
        self._emit("alert:memory-threshold", payload)
        self._consider(False)

    def _on_growth(self, payload: dict[str, Any]) -> None:
        self._emit("alert:rapid-growth", payload)
        self._consider(True)

    def _on_leak_warning(self, payload: dict[str, Any]) -> None:
        self._emit("alert:memory-leak", {"level": "warning", **payload})

    def _on_leak_critical(self, payload: dict[str, Any]) -> None:
        self._emit("alert:memory-leak", {"level": "critical", **payload})

    def _on_engine(self, payload: dict[str, Any]) -> None:
        self._engine_acted_ms = now_ms()

    def _consider(self, is_growing: bool) -> None:
        sample, at_ms = self._monitor.latest, now_ms()
        settings = self._monitor._read_settings()
        with self._lock:
            automatic = self._automatic
            if self._running is not None or self._is_closed:
                return
            if automatic is not None and automatic.is_alive():
                return
            reason = self._optimizer.due(
                settings,
                now_ms=at_ms,
                usage=sample.usage,
                level=sample.level,
                is_growing=is_growing,
                time_to_limit_ms=self._time_to_limit_ms(),
                engine_acted_ms=(
                    -1 if self._engine_acted_ms < 0 else at_ms - self._engine_acted_ms
                ),
            )
            if reason == "none":
                return
            self._automatic = threading.Thread(
                target=self._enter,
                args=(reason, False, False),
                name="memguard-optimization",
                daemon=True,
            )
            thread = self._automatic
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: in this one
            self._automatic = None
            self._enter(reason, False, False)

    def _time_to_limit_ms(self) -> float:
        left_ms = self._monitor._reclaim_stats()["time_to_limit_ms"]
        return -1.0 if left_ms is None else float(left_ms)

    # ---- one at a time -----------------------------------------------------

    def perform_optimization(
        self, reason: str = "manual", *, aggressive: bool = False, force: bool = False
    ) -> Report:
        """Optimizes now: `reason` is manual, scheduled, emergency or preventive.

        Strategy: aggressive if asked for and in an emergency, preventive for that
        reason, else standard. While one runs, another call waits for it and returns
        its report; with `force` it then runs one of its own, also in the degraded
        mode. Never raises for what goes wrong in it.

        Returns timestamp (its end), reason, method (the strategy), success (something
        was done, nothing failed), duration_ms, freed_memory_mb (measured: what
        resident set or heap fell by, the larger), collected (objects), before_stats,
        after_stats, optimizations: a list of what was done, with name, kind (action,
        strategy, cleanup, pool), outcome (done, skipped, failed, timeout),
        duration_ms, freed_memory_mb and perhaps error, a type's name. One that was
        not run has "refused": "degraded", or "busy" if it was asked for from inside
        another. Raises InvalidError, ConfigTypeError, ClosedError.
        """
        self._check_open()
        if reason not in REASONS:
            raise InvalidError(f"reason is {reason!r}, allowed: {', '.join(REASONS)}")
        for name, flag in (("aggressive", aggressive), ("force", force)):
            if not isinstance(flag, bool):
                raise ConfigTypeError(f"{name} is {flag!r}, allowed: a bool")
        return self._enter(reason, aggressive, force)

    async def aperform_optimization(
        self, reason: str = "manual", *, aggressive: bool = False, force: bool = False
    ) -> Report:
        """perform_optimization() in a thread; the event loop goes on meanwhile,
        except while garbage is collected."""
        import asyncio

        return await asyncio.to_thread(
            self.perform_optimization, reason, aggressive=aggressive, force=force
        )

    def _enter(self, reason: str, aggressive: bool, force: bool) -> Report:
        first: _Flight | None = None
        with self._lock:
            may = self._optimizer.may(reason, force, now_ms())
        while may:
            with self._lock:
                running = self._running
                if running is None:
                    flight = self._running = _Flight(reason, aggressive)
            if running is None:
                return self._fly(flight)
            if threading.get_ident() in running.threads:
                return self._refused(reason, aggressive, "busy")
            # However many force one: who asked before it began shares it.
            first = first or running
            is_enough = running is not first and running.aggressive >= aggressive
            running.landed.wait()
            if (not force or is_enough) and running.report is not None:
                return running.report
        return self._refused(reason, aggressive, "degraded")

    def _refused(self, reason: str, aggressive: bool, why: str) -> Report:
        stats = self._monitor.get_current_stats()
        report = empty_report(strategy_for(reason, aggressive), reason, stats)
        report["refused"] = why
        return report

    def _fly(self, flight: _Flight) -> Report:
        method = strategy_for(flight.reason, flight.aggressive)
        began_ms = now_ms()
        started = {"timestamp": time.time(), "reason": flight.reason, "method": method}
        self._emit("optimization:started", started)
        report = empty_report(method, flight.reason, None)
        try:
            report = self._carry_out(flight, method)
        except Exception as error:  # the monitor was closed, or memory is short
            report["error"] = name_of(error)
            report["duration_ms"] = now_ms() - began_ms
        finally:
            self._land(flight, report)
        event = "completed" if report["success"] else "failed"
        self._emit(f"optimization:{event}", report)
        return report

    def _land(self, flight: _Flight, report: Report) -> None:
        freed = int(report["freed_memory_mb"] * MB)
        with self._lock:
            self._optimizer.done(
                flight.reason, report["success"], freed, report["duration_ms"], now_ms()
            )
            self._reports.append(report)
            flight.report = report
            self._running = None
        flight.landed.set()

    # ---- what it does ------------------------------------------------------

    def _carry_out(self, flight: _Flight, method: str) -> Report:
        course = Course(self._monitor)
        strategies = self._strategies
        for guest in strategies:
            if guest.priority > 0:
                self._run(guest, flight, course)
        for plan in rounds(self._monitor, method, flight.reason, course.steps):
            if plan.cleans:
                for guest in self._cleanups:
                    self._run(guest, flight, course)
                if self._pool is not None and self._pool[1] is not None:
                    self._run(self._pool[1], flight, course)
        for guest in strategies:
            if guest.priority <= 0:
                self._run(guest, flight, course)
        return course.report(method, flight.reason)

    def _run(self, guest: Guest, flight: _Flight, course: Course) -> None:
        context = {"reason": flight.reason, "aggressive": flight.aggressive}
        timeout_s = self._monitor._get("memory.strategy_timeout") / 1000
        course.steps.append(guest.run(context, timeout_s, flight.threads))

    # ---- what was seen -----------------------------------------------------

    def create_usage_snapshot(self) -> dict[str, Any]:
        """Memory now: timestamp, stats, usage (of the nearest limit), domain, level,
        gc (count, total_ms, max_ms), counters, connection_pool (numbers, or None).
        The newest 100 are kept. Raises ClosedError."""
        self._check_open()
        stats = self._monitor.collect_memory_stats()
        sample, pauses = self._monitor.latest, _core._gc_pauses(None)
        snapshot = {
            "timestamp": stats["timestamp"],
            "stats": stats,
            "usage": sample.usage,
            "domain": sample.domain,
            "level": sample.level,
            "gc": {name: pauses[name] for name in ("count", "total_ms", "max_ms")},
            "counters": self._monitor.object_counters,
            "connection_pool": self._pool_stats(),
        }
        self._snapshots.append(snapshot)
        return snapshot

    def _pool_stats(self) -> dict[str, float] | None:
        if self._pool is None:
            return None
        try:
            stats = dict(self._pool[0]())
        except Exception:
            return None
        return {
            name: value
            for name, value in stats.items()
            if isinstance(name, str) and isinstance(value, int | float)
        }

    def get_usage_snapshots(self, count: int | None = None) -> list[dict[str, Any]]:
        """The newest `count` snapshots (None: all kept), oldest first. Raises
        ConfigTypeError, RangeError."""
        return _last(self._snapshots, count)

    def get_optimization_history(self, count: int | None = None) -> list[Report]:
        """The newest `count` reports (None: all kept, at most 100), oldest first.
        Raises ConfigTypeError, RangeError."""
        return _last(self._reports, count)

    def get_service_stats(self) -> dict[str, Any]:
        """What it did so far: is_running, is_optimizing, total, succeeded, failed,
        refused, success_rate (0 to 1; None before the first), by_reason,
        freed_memory_mb and average_freed_memory_mb, average_duration_ms,
        max_duration_ms, failures_in_row, degraded, resumes_in_ms (None unless it is),
        last_optimization (timestamp), strategies (names), cleanups and snapshots
        (how many), connection_pool (its numbers)."""
        with self._lock:
            state = self._optimizer.state
            last = self._reports[-1]["timestamp"] if self._reports else None
        total, is_degraded = int(state["total"]), state["is_degraded"] == 1
        resumes_in_ms = max(0.0, state["resume_ms"] - now_ms()) if is_degraded else None
        freed_mb = state["freed_bytes"] / MB
        return {
            "is_running": self._listening is not None,
            "is_optimizing": self._running is not None,
            "total": total,
            "succeeded": int(state["succeeded"]),
            "failed": total - int(state["succeeded"]),
            "refused": int(state["refused"]),
            "success_rate": state["succeeded"] / total if total else None,
            "by_reason": {reason: int(state[reason]) for reason in REASONS},
            "freed_memory_mb": freed_mb,
            "average_freed_memory_mb": freed_mb / total if total else None,
            "average_duration_ms": state["took_ms"] / total if total else None,
            "max_duration_ms": state["longest_ms"],
            "failures_in_row": int(state["failures"]),
            "degraded": is_degraded,
            "resumes_in_ms": resumes_in_ms,
            "last_optimization": last,
            "strategies": [guest.name for guest in self._strategies],
            "cleanups": len(self._cleanups),
            "connection_pool": self._pool_stats(),
            "snapshots": len(self._snapshots),
        }

    def health_check(self) -> dict[str, Any]:
        """The monitor's health_check() and degraded; the mode alone is a warning."""
        health = self._monitor.health_check()
        with self._lock:
            degraded = self._optimizer.state["is_degraded"] == 1
        health["degraded"] = degraded
        if degraded:
            health["healthy"] = False
            if health["status"] == "healthy":
                health["status"] = "warning"
            health["recommendations"] = [*health["recommendations"], _DEGRADED]
        return health

    # ---- settings ----------------------------------------------------------

    def get_memory_monitor(self) -> MemoryMonitor:
        """The monitor it listens to."""
        return self._monitor

    def get_config(self) -> dict[str, Any]:
        """The settings in force: enabled, auto_optimization, threshold (percent),
        interval_ms, max_heap_size_mb, max_rss_size_mb."""
        memory = self._monitor.settings["memory"]
        return {
            "enabled": memory["enabled"],
            "auto_optimization": memory["enable_auto_gc"],
            "threshold": memory["high_water_mark_percent"],
            "interval_ms": memory["monitor_interval"] * 1000,
            "max_heap_size_mb": memory["max_heap_mb"],
            "max_rss_size_mb": memory["max_memory_mb"],
        }

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Changes settings, all or none, by those names, nested in
        memoryOptimization or flat, or by any other. Raises as
        MemoryMonitor.update_config() does, and ClosedError."""
        self._check_open()
        self._monitor.update_config(config)


_DEGRADED = (
    "Optimizations failed repeatedly and are paused: see get_optimization_history() "
    "for which step failed."
)


def _last(kept: deque[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    if count is None:
        return list(kept)
    if isinstance(count, bool) or not isinstance(count, int):
        raise ConfigTypeError(f"count is {count!r}, allowed: an int")
    if count < 0:
        raise RangeError(f"count is {count!r}, allowed: 0 or more")
    return list(kept)[-count:] if count else []
