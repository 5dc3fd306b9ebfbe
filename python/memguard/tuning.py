"""Tuning of CPython's collector: profiles, freezing, and a tuner that measures.

    manager = memguard.ResourceManager({"auto_tune": True})
    ...
    print(manager.gc_tuner.report())

By hand: apply_gc_profile(), temporary_gc_settings(), freeze() after start,
freeze_before_fork() in servers that fork.

The collector belongs to the interpreter, so there is one running tuner in each.
"""

from __future__ import annotations

import gc
import sys
from _thread import RLock, get_ident
from _weakref import ref
from threading import main_thread
from time import monotonic, thread_time

from memguard import _core, _gc_settings, _life, _log
from memguard._core import ConfigTypeError, ConflictError, InvalidError, RangeError
from memguard._gc_settings import (
    GC_PROFILES,
    apply_gc_profile,
    freeze,
    freeze_before_fork,
    temporary_gc_settings,
    thresholds_of,
    unfreeze,
)
from memguard._trial import REFERENCE, ROLLING, Trial, row_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable
    from typing import Any

    from memguard._load import LoopWatch
    from memguard.monitor import MemoryMonitor

__all__ = [
    "GC_PROFILES",
    "GCTuner",
    "apply_gc_profile",
    "freeze",
    "freeze_before_fork",
    "temporary_gc_settings",
    "unfreeze",
]

_AUTO_PROFILES = (ROLLING, "steady", "throughput")
_AUTO_SECONDS = 3.0
_TICK_MS = 500.0
_LEAST_MS = 200.0  # between two steps, whoever asks
_GRACE_MS = 1000.0  # that the main thread gets to do what is due
_LOAD_FRESH_S = 5.0
_YOUNG_LEAST = 200  # objects that are worth an idle collection

_running: ref[GCTuner] | None = None


class GCTuner:
    """Finds, keeps and watches the collector settings that suit the live load.

    Once started it lets the program warm up under its own settings, freezes what
    then is alive (gc.freeze), and has the old objects that come later collected in
    parts of some ten milliseconds instead of all at once (in the main interpreter,
    but for CPython 3.14.0 to 3.14.4). What parts cannot find, as garbage in very
    large cycles, a full collection does once a third more is alive. When a heap
    grows although parts find nothing, what was frozen is looked at in parts, too.

    It tries profiles on the live load for a few seconds each and keeps the best by
    pauses (P95 over seconds of the longest in each), share of time in the collector
    and frequency; what halves them is kept without trying others. One that costs
    over 10 % more resident set is out. When the gain fades the program's own
    settings come back and, after a while, a new round begins.

    While the reported load is below `idle_load` it collects in the idle moments.

    It never works against the program: while gc is disabled or temporary settings
    are in force it waits; once the program sets thresholds by itself it steps
    back. What is decided runs in the main thread, between two of its bytecodes,
    or on memguard's own thread if that is busy elsewhere for a second. In a
    sub-interpreter before Python 3.14 it acts in calls of poll() only.

    `monitor`: the running MemoryMonitor, which must live as long. Any thread.
    """

    def __init__(self, monitor: MemoryMonitor) -> None:
        self._monitor = ref(monitor)
        self._lock = RLock()
        self._is_busy = False
        self._is_running = False
        self._operations = 0
        self._loads: dict[int, tuple[float, float]] = {}
        self._watches: list[LoopWatch] = []
        self._complaints = _log.Complaints()
        self._why_off = "not started"
        self._clear()

    def _clear(self) -> None:
        self._core: _core.Tuner | None = None
        self._original = self._applied = gc.get_threshold()
        self._host_froze = False
        self._has_frozen = False
        self._waits_for = ""
        self._job = ""
        self._asked_ms = self._last_ms = float("-inf")
        self._trial: Trial | None = None
        self._expected_ms = 0.0
        self._full_seen = (0, 0.0)
        self._counts = dict.fromkeys(
            ("pass", "young", "sweep", "thaw", "roll", "idle"), 0
        )
        self._profile = REFERENCE
        self._tick_ms = _TICK_MS
        self._part = 0
        self._spent_ms = 0.0

    # ---- start and stop ----------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether it tunes; also while it waits."""
        return self._is_running

    def start(self) -> None:
        """Begins to tune. Does nothing if it does already.

        Raises ConflictError while another tuner runs in this interpreter,
        ClosedError if the monitor is closed.
        """
        with self._lock:
            if not self._is_running:
                self._start(_AUTO_PROFILES, _AUTO_SECONDS)

    def _start(self, profiles: Iterable[str], seconds: float) -> None:
        global _running
        other = None if _running is None else _running()
        if other is not None and other is not self and other._is_running:
            raise ConflictError("another GCTuner runs in this interpreter")
        monitor = self._monitor()
        if monitor is None:
            raise InvalidError("the monitor of the GCTuner is gone")
        settings = monitor._read_settings()
        self._clear()
        # Slow only where much is frozen, that is: by the program.
        self._host_froze = _gc_settings.is_frozen()
        possible = self._possible(profiles)
        self._core = _core.Tuner(settings, possible, REFERENCE)
        # The parts begin with the first freeze, or what is frozen piles up.
        is_hasty = profiles == _AUTO_PROFILES and ROLLING in possible
        self._trial = Trial(self._core, seconds, is_hasty=is_hasty)
        _core._gc_observe()
        monitor._attach_tuner(self)
        monitor._want_tick("tuner", _TICK_MS)
        _running = ref(self)
        self._is_running = True

    def stop(self) -> None:
        """Ends it: the settings are again those before start(), unless the program
        changed them meanwhile; what it froze is unfrozen; loops are no longer
        watched. Idempotent."""
        with self._lock:
            for watch in self._watches:
                watch.stop()
            self._watches.clear()
            self._loads.clear()
            if self._is_running:
                self._end("stopped", restore=True)

    def _end(self, why: str, *, restore: bool) -> None:
        self._is_running = False
        self._why_off = why
        self._job = ""
        monitor = self._monitor()
        if monitor is not None and not monitor.closed:
            monitor._want_tick("tuner", 0.0)
        if not restore or _life.is_exiting():
            return
        if gc.get_threshold() == self._applied:
            gc.set_threshold(*self._original)
        if self._has_frozen and not self._host_froze:
            gc.unfreeze()

    def __del__(self) -> None:
        if self.__dict__.get("_is_running"):
            self.stop()

    def _after_fork_in_child(self) -> None:
        """The loops of the parent do not run here, nor does what held the lock."""
        self._lock = RLock()
        self._is_busy = False
        self._job = ""
        self._break_off()
        self._watches.clear()
        self._loads.clear()

    # ---- load --------------------------------------------------------------

    def report_load(self, load: float) -> None:
        """Tells how busy the program is: 0.0 (idle) to 1.0. Counts for five
        seconds; of several sources the busiest counts. Raises RangeError,
        ConfigTypeError."""
        if isinstance(load, bool) or not isinstance(load, int | float):
            raise ConfigTypeError(f"load is {load!r}, allowed: a number")
        if not 0 <= load <= 1:
            raise RangeError(f"load is {load!r}, allowed: 0.0 to 1.0")
        self._note_load(self, float(load))

    def _note_load(self, source: object, load: float) -> None:
        self._loads[id(source)] = (load, monotonic())

    def watch_loop(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Takes the load from an asyncio loop (None: the running one): the share
        of CPU time of its thread and how late its timers are. Ends with stop() or
        with the loop, of which it keeps nothing alive. Any thread."""
        import asyncio

        from memguard._load import LoopWatch

        if loop is None:
            loop = asyncio.get_running_loop()
        if not any(watch.is_of(loop) for watch in self._watches):
            self._watches.append(LoopWatch(self, loop))

    @property
    def load(self) -> float | None:
        """The load as last told, 0.0 to 1.0; None if nobody did for 5 s."""
        since = monotonic() - _LOAD_FRESH_S
        told = list(self._loads.values())
        return max((load for load, at in told if at >= since), default=None)

    def count_operations(self, n: int = 1) -> None:
        """Counts operations of the program (requests, orders): profiles are then
        compared by operations per second and collector time per operation, too."""
        self._operations += n

    # ---- trying profiles ---------------------------------------------------

    def benchmark(
        self, seconds_per_profile: float = 5.0, profiles: Iterable[str] | None = None
    ) -> None:
        """Begins a round now, in the background, on the live load: each of
        `profiles` (names of GC_PROFILES; None: all) is in force for
        `seconds_per_profile` (1 to 3600), the program's own settings first;
        "rolling" where it is possible. See report(). Starts the tuner if it does
        not run.

        Raises InvalidError for an unknown name, RangeError, ConfigTypeError, and
        as start().
        """
        names = tuple(GC_PROFILES if profiles is None else profiles)
        for name in names:
            thresholds_of(name)
        if isinstance(seconds_per_profile, bool) or not isinstance(
            seconds_per_profile, int | float
        ):
            raise ConfigTypeError(
                f"seconds_per_profile is {seconds_per_profile!r}, allowed: a number"
            )
        if not 1 <= seconds_per_profile <= 3600:
            raise RangeError(
                f"seconds_per_profile is {seconds_per_profile!r}, allowed: 1 to 3600"
            )
        with self._lock:
            if not self._is_running:
                self._start(names, float(seconds_per_profile))
                if self._core is not None:
                    self._core._try_all()
                return
            monitor = self._monitor()
            if monitor is not None:
                self._core = _core.Tuner(
                    monitor._read_settings(), self._possible(names), REFERENCE
                )
                self._core._try_all()
                if self._trial is not None:
                    self._trial.renew(self._core, float(seconds_per_profile))
                self._apply(REFERENCE)

    def _possible(self, profiles: Iterable[str]) -> tuple[str, ...]:
        """Without what this interpreter cannot do; parts would draw in what the
        program froze."""
        can_roll = not self._host_froze and _core._gc_can_roll()
        return tuple(name for name in profiles if name != ROLLING or can_roll)

    def _apply(self, profile: str) -> None:
        wanted = self._original if profile == REFERENCE else GC_PROFILES[profile]
        gc.set_threshold(*wanted)
        self._applied = wanted
        self._profile = profile

    def _break_off(self) -> None:
        if self._trial is not None:
            self._trial.break_off()

    # ---- one step ----------------------------------------------------------

    def poll(self) -> None:
        """Does what is due now, in this thread. Needed only where memguard's own
        thread cannot act; cheap when nothing is due."""
        self._tick()

    def _tick(self) -> None:
        if not self._lock.acquire(False):
            return
        try:
            if self._is_running and not self._is_busy:
                self._is_busy = True
                try:
                    self._step(monotonic() * 1000)
                finally:
                    self._is_busy = False
        except Exception:
            self._complaints.failed("step", "tuning the garbage collector failed")
        else:
            self._complaints.worked("step")
        finally:
            self._lock.release()

    def _why_wait(self) -> str:
        if _gc_settings.blocks_active():
            return "temporary settings are in force"
        if not gc.isenabled():
            return "the program disabled the collector"
        if not _core._gc_is_observed():
            return "collections are not recorded: gc.callbacks was emptied"
        return ""

    def _step(self, now_ms: float) -> None:
        monitor = self._monitor()
        core = self._core
        is_rolling = self._profile == ROLLING
        is_early = now_ms - self._last_ms < _LEAST_MS
        if (is_early and not is_rolling) or monitor is None or core is None:
            return
        why = self._why_wait()
        if why != self._waits_for:
            self._waits_for = why
            self._break_off()
            self._follow_wait(why)
        if why or monitor.closed:
            self._set_tick(monitor, _TICK_MS)
            return
        if gc.get_threshold() != self._applied:
            self._step_back()
            return
        if self._job:
            if now_ms - self._asked_ms >= _GRACE_MS:
                self._run_job()
            else:  # it came by while this thread was at it
                _core._call_in_main(self._do_job)
            return
        live = sys.getallocatedblocks()
        if not is_early:
            self._last_ms = now_ms
            self._judge(monitor, core, now_ms, live)
        if self._profile == ROLLING and not self._job:
            self._part = core._roll(now_ms, live)
            if self._part:
                self._ask("roll", now_ms)
            self._set_tick(monitor, core._roll_wait_ms())
        else:
            self._set_tick(monitor, _TICK_MS)

    def _set_tick(self, monitor: MemoryMonitor, every_ms: float) -> None:
        if every_ms != self._tick_ms:
            self._tick_ms = every_ms
            monitor._want_tick("tuner", every_ms)

    def _judge(
        self, monitor: MemoryMonitor, core: _core.Tuner, now_ms: float, live: int
    ) -> None:
        sample = monitor.latest
        self._decide(core, now_ms, live, sample.level)
        if self._is_running and self._trial is not None:
            rss = sample.rss_bytes or 0
            following = self._trial.advance(now_ms, live, rss, self._operations)
            if following is not None:
                self._apply(following)

    def _follow_wait(self, why: str) -> None:
        """While nobody collects in parts, the collector must do it all."""
        if _gc_settings.blocks_active() or gc.get_threshold() != self._applied:
            return
        profile = self._profile
        self._apply(REFERENCE if why else profile)
        self._profile = profile

    def _step_back(self) -> None:
        now = gc.get_threshold()
        self._end(f"stepped back: the program set the thresholds {now}", restore=False)
        _log.warning(
            "the program set the collector's thresholds to %s: no longer tuned", now
        )

    def _decide(self, core: _core.Tuner, now_ms: float, live: int, level: str) -> None:
        full, full_ms, collected = _core._gc_window(1)[2:5]
        was, was_ms = self._full_seen
        if full > was:
            self._expected_ms = (full_ms - was_ms) / (full - was)
        self._full_seen = (full, full_ms)
        load = self.load
        step = core._freeze(
            now_ms, live, full_ms, collected, level, core.is_idle, self._laps()
        )
        young, *older = gc.get_count()
        is_worth = young >= _YOUNG_LEAST or any(older)
        is_idle = core._idle(now_ms, load, self._expected_ms, is_worth)
        if step in ("pass", "young") and self._trial is not None:
            following = self._trial.end_warm_up(now_ms, self._operations)
            if following is not None:
                self._apply(following)
        if step != "none":
            self._ask(step, now_ms)
        elif is_idle:
            self._ask("idle", now_ms)

    # ---- collecting and freezing -------------------------------------------

    def _ask(self, job: str, now_ms: float) -> None:
        """Finalizers may belong to the main thread, so it is asked first."""
        self._job = job
        self._asked_ms = now_ms
        in_main = get_ident() == main_thread().ident
        if in_main or not _core._call_in_main(self._do_job):
            self._run_job()

    def _do_job(self) -> None:
        """Called in the main thread, between any two of its bytecodes."""
        if not self._job or not self._lock.acquire(False):
            return
        try:
            if not self._is_busy:
                self._is_busy = True
                try:
                    self._run_job()
                finally:
                    self._is_busy = False
        except Exception:
            self._complaints.failed("job", "tuning the garbage collector failed")
        finally:
            self._lock.release()

    def _run_job(self) -> None:
        job, self._job = self._job, ""
        if not job or not self._is_running or self._why_wait():
            return
        began = monotonic()
        if job == "roll":
            self._roll()
            return
        if job in ("idle", "sweep"):
            gc.collect()
        elif job == "thaw":
            if not _gc_settings.freezes_before_fork():  # pages are shared
                gc.unfreeze()
            if self._core is not None:
                self._core._roll_owe()
        elif job == "young":
            gc.collect(1)
            gc.freeze()
        else:
            if not self._host_froze:
                gc.unfreeze()
            gc.collect()
            gc.freeze()
        if job in ("pass", "young"):
            # The collector weighs the young against the old it counted last.
            gc.collect()
            _core._gc_roll_mark()
            self._break_off()  # our pause is none of the profile's
        took_ms = (monotonic() - began) * 1000
        self._counts[job] += 1
        self._spent_ms += took_ms
        if job != "idle":
            self._tell_frozen(job, took_ms)
        elif self._has_frozen:
            self._tell_frozen("sweep", took_ms)

    def _roll(self) -> None:
        """Has the oldest go through a collection of the young."""
        core = self._core
        if core is None:
            return
        began = thread_time()  # what others take of this CPU is no cost of ours
        taken, collected, is_lap = _core._gc_roll(self._part)
        took_ms = (thread_time() - began) * 1000
        now = monotonic()
        laps = core._laps[0]
        live = sys.getallocatedblocks()
        core._rolled(now * 1000, took_ms, live, taken, collected, is_lap)
        if core._laps[0] != laps:
            _core._gc_roll_mark()
        self._counts["roll"] += 1
        self._spent_ms += took_ms

    def _laps(self) -> tuple[int, int | None, float, float] | None:
        core = self._core
        return core._laps if core is not None and self._profile == ROLLING else None

    def _tell_frozen(self, step: str, took_ms: float) -> None:
        full_ms, collected = _core._gc_window(1)[3:5]
        self._has_frozen = self._has_frozen or step in ("pass", "young")
        live = sys.getallocatedblocks()
        if self._core is not None:
            self._core._frozen(
                step,
                monotonic() * 1000,
                live,
                full_ms,
                collected,
                took_ms,
                self._laps(),
            )

    def _note_frozen(self, frozen: bool, took_ms: float) -> None:
        _core._gc_roll_mark()
        if frozen:
            self._tell_frozen("pass", took_ms)
        elif self._core is not None:
            self._core._forget_frozen()
            self._has_frozen = self._host_froze = False

    # ---- settings and report -----------------------------------------------

    def _configure(self, settings: _core.Settings) -> None:
        if self._core is not None:
            self._core._configure(settings)

    def report(self) -> dict[str, Any]:
        """What it does and found.

        state ("off", "warming", "trying", "kept", "resting", "waiting"), why (it is
        off or waits; None otherwise), profile in force, thresholds, original
        (thresholds before start()), rounds (completed), frozen (whether it froze),
        passes (over the whole heap), young_freezes, sweeps (over what is not frozen),
        thaws, parts (of the old collected), idle_collections, own_ms (all of these
        took), load, and rows: one for each profile of this round, the program's own
        settings as "default", with profile, thresholds, verdict ("best" is kept;
        "reference", "no gain", "too much memory", "another one is better", "untried")
        and, once measured, score (below 1.0 is better than the program's own),
        seconds, collections_per_second, pause_p95_ms, gc_percent, peak_rss_mb,
        operations_per_second; None where unknown.
        """
        core = self._core
        current, phase, rounds, rows = (
            (REFERENCE, "", 0, []) if core is None else core._trial_state()
        )
        is_warming = self._trial is not None and self._trial.is_warming
        state = "warming" if is_warming else phase
        why = self._waits_for
        if why:
            state = "waiting"
        if not self._is_running:
            state, why = "off", self._why_off
        return {
            "state": state,
            "why": why or None,
            "profile": current if self._is_running else REFERENCE,
            "thresholds": gc.get_threshold(),
            "original": self._original,
            "rounds": rounds,
            "frozen": self._has_frozen and self._is_running,
            "passes": self._counts["pass"],
            "young_freezes": self._counts["young"],
            "sweeps": self._counts["sweep"],
            "thaws": self._counts["thaw"],
            "parts": self._counts["roll"],
            "idle_collections": self._counts["idle"],
            "own_ms": self._spent_ms,
            "load": self.load,
            "rows": [row_of(self._original, *row) for row in rows],
        }


def _note_frozen(frozen: bool, took_ms: float) -> None:
    """The program called freeze() or unfreeze()."""
    tuner = None if _running is None else _running()
    if tuner is not None and tuner._is_running:
        tuner._note_frozen(frozen, took_ms)


_gc_settings._listeners.append(_note_frozen)
