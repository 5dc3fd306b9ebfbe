"""LeakDetector: watches a program that runs, and says what leaks and who it is.

What decides is the core's (leak.h, detector.h). Here is what only Python can do when
the core asks for it, on suspicion: a full collection, a count of objects by type, who
refers to them, a short trace of allocations.
"""

from __future__ import annotations

import gc
from _thread import allocate_lock, get_ident
from _weakref import ref
from time import monotonic, perf_counter

from memguard import _core, _gc_settings, _leak_threads, _leak_trace, _life
from memguard._core import ClosedError, InvalidError
from memguard._emitter import Emitter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from memguard._core import Settings
    from memguard._leak_finding import LeakFinding
    from memguard.census import Census
    from memguard.monitor import MemoryMonitor

EVENTS = (
    "leak:suspected",
    "leak:warning",
    "leak:critical",
    "leak:withdrawn",
    "fd:warning",
)

_ANSWERS = ("collect", "census_base", "census", "trace_start", "trace_stop")
_BLOCKS_OF_WINDOW = 16  # as in leak.h
_TICK_LONGEST_MS = 1000.0
_TICK_SHORTEST_MS = 20.0
_SAMPLE_SHORTEST_MS = 10.0
_GRACE_S = 1.0  # that the main thread gets to collect
_WAIT_S = 0.1  # for it, at a time
_COMPARED = 16  # types that grew
_OBJECTS = 0.4  # of the growth, or fewer: strings that leak come with their list
_TYPES = 5  # that are told,
_SITES = 3  # with as many places
_REFERRERS = 20  # objects looked at
_HOLDERS_KEPT = 32  # types whose holders are remembered
_ROUNDS = 8  # of requests that check() answers at most


_open: list[ref[LeakDetector]] = []  # of this interpreter, the oldest first


class LeakDetector(_core.Detector, _life.Closing, Emitter):
    """Finds what grows without end: memory of Python's heap and beside it, blocks,
    descriptors, threads, mappings, rentals, object counters.

        with memguard.LeakDetector() as detector:
            detector.on("leak:warning", lambda event: print(event["finding"]))
            serve()
        print(detector.report())

    A finding is a suspect first (no alarm), likely when twice the time shows the
    same growth (leak:warning), confirmed when four times do, or a type, a descriptor
    or a mapping explains half of it; critical when the limit is near. When the growth
    stops it is withdrawn. At default settings a leak of 1 % of the limit a minute is
    likely within 5 minutes. Caches that still fill look like leaks until they stop.

    While memory rises, garbage may be collected (leak_collect_ms). On suspicion,
    never periodically, objects are counted by type, twice, and looked at for who
    refers to them (leak_census), in slices of a few ms on memguard's own thread; with
    leak_trace allocations are traced for a short while, which slows the program. Of
    several detectors at the same pace the oldest does all that for all of them.

    `monitor`: a running MemoryMonitor to join, which may have one detector; its
    listeners get the events, too. None: one of its own, which tells events on
    memguard's thread. `config`, `settings`: settings of the monitor, those of section
    "leak" above all (leak_window, time_scale, fd_warning_count, ...).

    Starts at once. Any thread. Raises as MemoryMonitor; ExistsError if `monitor` has
    a detector.

    Events: leak:suspected, leak:warning, leak:critical, leak:withdrawn with `signal`,
    `finding` (as LeakFinding.as_dict() tells it), `growth_per_minute` and `stats`;
    fd:warning with `count`, `threshold`, `growth_per_minute` (None: not known yet)
    and `stats`.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        monitor: MemoryMonitor | None = None,
        **settings: Any,
    ) -> None:
        Emitter.__init__(self, EVENTS)
        self._renew_locks()
        self._own: MemoryMonitor | None = None
        self._is_joined = False
        self._errors = 0
        self._block_ms = 0.0
        self._clear()
        if monitor is None:
            monitor = self._own = _make_monitor(config, settings)
        else:
            for given in (config, settings):
                if given:
                    monitor.update_config(given)
        self._monitor = ref(monitor)
        try:
            self._open(monitor, _ANSWERS)
        except BaseException:
            if self._own is not None:
                self._own.close()
            raise
        self._is_joined = True
        _core._allocator_install()
        monitor._attach_detector(self)
        self._configure(monitor._read_settings())
        _open.append(ref(self, _open.remove))

    def _renew_locks(self) -> None:
        self._turn = allocate_lock()

    def _clear(self) -> None:
        self._base: Census | None = None
        self._collection: _Collection | None = None  # that goes before them:
        self._requests: tuple[list[str], str] = ([], "")
        self._next = 0.0
        self._trace = _leak_trace.Trace()
        self._holders: dict[str, tuple[str, ...]] = {}
        self._untracked = 0
        self._threads = _leak_threads.thread_names()

    # ---- start and stop ----------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether it watches: started, leak_detection is on and samples are taken."""
        monitor = self._monitor()
        return self._active and monitor is not None and monitor.is_monitoring

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used."""
        return self._closed

    def start(self) -> None:
        """Watches again after stop(), from the beginning. Raises ClosedError."""
        if self.closed:
            raise ClosedError("LeakDetector is closed")
        if not self._active:
            self._set_active(True)
        if self._own is not None:
            self._own.start_monitoring()

    def stop(self) -> None:
        """Watches no more; what was found can still be read. Idempotent."""
        if self.closed:
            return
        self._set_active(False)
        self._trace.stop()
        if self._own is not None:
            self._own.stop_monitoring()

    def close(self) -> None:
        """Ends it, and a monitor of its own. Idempotent."""
        monitor = self._monitor()
        self._trace.stop()
        try:  # noqa: SIM105 - contextlib is slow to import
            _open.remove(ref(self))
        except ValueError:
            pass
        self._close()
        if self._is_joined and monitor is not None:
            self._is_joined = False
            monitor._attach_detector(None)
        if self._own is not None:
            self._own.close()

    def _at_exit(self) -> None:
        self._trace.stop()

    def _after_fork_in_child(self) -> None:
        self._renew_locks()
        self._trace.stop()
        self._clear()

    def _configure(self, settings: Settings) -> None:
        """Looks for requests some times in each block of the smallest window."""
        monitor = self._monitor()
        if monitor is None or self.closed:
            return
        block_ms = self._block_ms = _block_ms(settings)
        self._grace_s = min(_GRACE_S, max(block_ms / 2000, 0.05))
        monitor._want_tick(
            "detector", min(max(block_ms / 4, _TICK_SHORTEST_MS), _TICK_LONGEST_MS)
        )

    # ---- what was found ----------------------------------------------------

    @property
    def findings(self) -> list[LeakFinding]:
        """What leaks now, the worst first: critical, confirmed, likely, suspect.
        Raises ClosedError."""
        from memguard._leak_finding import rank_of

        return sorted(map(self._made, self._findings()), key=rank_of)

    def _made(self, row: dict[str, Any]) -> LeakFinding:
        from memguard import _leak_who
        from memguard._leak_finding import culprits_of, finding_of

        known = self._first()
        culprits = culprits_of(row, known._holders)
        if known is not self and not any(one.kind == "type" for one in culprits):
            for theirs in known._findings():
                if theirs["signal"] == row["signal"]:
                    culprits = culprits_of(theirs, known._holders)
        if row["signal"] == "threads":
            culprits = _leak_who.grown(
                "thread", self._threads, _leak_threads.thread_names()
            )
        else:
            culprits = _leak_who.in_order(
                row["signal"], culprits, int(row["growth"]), known._untracked
            )
        return finding_of(row, culprits)

    def report(self) -> str:
        """The findings as text: type, place or descriptor, the growth, and the next
        command to run. "no leak found" if there are none."""
        from memguard._leak_finding import text_of

        return text_of(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `leak_detection`, a row per finding with type, severity,
        growth_rate (per minute) and more; `running`; `errors`."""
        return {
            "leak_detection": [finding.as_dict() for finding in self.findings],
            "running": self.is_running,
            "errors": self._errors,
        }

    def stats(self) -> dict[str, Any]:
        """samples, collections, wide (readings), findings, withdrawn, alarms: counts
        so far; private_bytes, native_bytes, sockets, pipes, files, others, mappings:
        of the last wide reading, None if not known; wide_ms: what it took."""
        return self._stats()

    @property
    def errors(self) -> int:
        """Failures inside that were survived; the first of a kind is logged."""
        return self._errors

    def check(self) -> list[LeakFinding]:
        """Reads, judges and does what is asked for now, in this thread: some ms, more
        if a census is due. Tells events. Returns the findings. Raises ClosedError."""
        self._check()
        if self._turn.acquire(False):
            try:
                for _ in range(_ROUNDS):
                    if not self._has_request:
                        break
                    self._answer(here=True)
            finally:
                self._turn.release()
        monitor = self._monitor()
        if monitor is not None:
            monitor._deliver()
        return self.findings

    def tell(self, signal: str, value: int | None) -> None:
        """Tells a number that only the program knows: "connections" or "handles"
        that are open. Counts until told anew; None: not known. Raises InvalidError."""
        if signal not in ("connections", "handles"):
            raise InvalidError(
                f'signal is {signal!r}, allowed: "connections", "handles"'
            )
        self._tell(signal, value)

    def _hears(self, event: dict[str, Any]) -> bool:
        """Whether listeners of its own are to be told an event of the monitor."""
        name = event["event"]
        is_mine = name == "fd:warning" or (name in EVENTS and event["finding"] != 0)
        return is_mine and bool(self._listeners.get(name))

    def _fill_in(self, event: dict[str, Any], payload: dict[str, Any]) -> None:
        """Fills in what an event tells; called by the monitor."""
        number = event["finding"]
        row = self._finding(number) if number and not self.closed else None
        if row is None:
            return
        finding = self._made(row)
        payload["signal"] = finding.signal
        payload["finding"] = finding.as_dict()

    # ---- doing what is asked for -------------------------------------------

    def _first(self) -> LeakDetector:
        """The one of all that are asked the same at the same pace which does it: who
        watches a program twice would collect and count twice. Itself, if alone. All
        are told of all collections; who was found can be read from the first."""
        for reference in tuple(_open):
            one = reference()
            if one is self:
                break
            if one and one._block_ms == self._block_ms and one.is_running:
                return one
        return self

    def _tick(self) -> None:
        """Called on memguard's thread."""
        now = monotonic()
        if now < self._next or not self._turn.acquire(False):
            return
        try:
            if not self.closed and self._active:
                self._answer(here=False)
        except ClosedError:
            pass  # meanwhile, by another thread
        except Exception:
            self._errors += 1
            self._complaints.failed("answer", "looking for leaks failed")
        else:
            self._complaints.worked("answer")
        finally:
            self._turn.release()

    def _answer(self, *, here: bool) -> None:
        """`here`: this thread is the program's and may collect. One request that
        fails leaves the others."""
        self._trace.follow()
        if not here and self._first() is not self:
            self._request()  # the other one is asked the same
            return
        if not self._requests[0]:
            self._requests = self._request()
        if not self._requests[0] and self._trace.is_due:
            self._requests = (["trace_stop"], self._trace.signal)
        names, signal = self._requests
        if not names or not self._is_tidy(names, here):
            return
        self._requests = ([], "")
        for name in names:
            try:
                self._do(name, signal)
            except ClosedError:
                return  # meanwhile, by another thread
            except Exception:
                self._errors += 1
                self._complaints.failed(name, "looking for who leaks (%s) failed", name)
            else:
                self._complaints.worked(name)

    def _do(self, name: str, signal: str) -> None:
        if name == "census_base":
            self._base = _census()
        elif name == "census":
            self._compare(signal)
        elif name == "trace_start":
            self._trace.start()
        elif name == "trace_stop":
            self._tell_sites(signal)

    def _is_tidy(self, names: list[str], here: bool) -> bool:
        """Collects before anything is counted: what is garbage already is not named.
        Finalizers may belong to the main thread, so it is asked first, and waited
        for: False means to come again."""
        if not gc.isenabled() or _gc_settings.blocks_active():
            self._collection = None
            return True  # the program wants none now
        from threading import main_thread  # slow to import

        wanted = self._collection or _Collection(2 if "collect" in names else 1)
        is_theirs = not here and get_ident() != main_thread().ident
        if is_theirs and self._waits_for(wanted):
            return False
        self._collection = None
        wanted.run()
        monitor = self._monitor()
        if monitor is not None and not monitor.closed:
            monitor._spent(wanted.took_ms)
        return True

    def _waits_for(self, wanted: _Collection) -> bool:
        """Whether the main thread may still do it."""
        if self._collection is None:
            if not _core._call_in_main(wanted.run):
                return False
            self._collection = wanted
        return not wanted.is_done(_WAIT_S) and wanted.age_s < self._grace_s

    def _compare(self, signal: str) -> None:
        before = self._base  # kept: it is asked for again, when more has grown
        if before is None:  # another detector had one, which is closed
            self._base = _census()
            return
        from memguard._leak_who import attributed, explaining
        from memguard.census import UNTRACKED, census_difference

        found = census_difference(before, _census(), limit=_COMPARED)
        # That blocks grow which are no objects says how, not who: it explains
        # nothing to the core.
        self._untracked = sum(one.growth for one in found if one.name == UNTRACKED)
        rows = [
            (one.kind, one.name, one.growth, one.growth_bytes, one.count, one.share)
            for one in found
            if one.growth > 1 and one.name != UNTRACKED and not _is_ours(one.name)
        ]
        objects = sum(row[5] for row in rows)  # the rest is not tracked
        culprits = explaining(attributed(rows), of=max(objects, _OBJECTS))[:_TYPES]
        for one in {signal, "blocks"}:  # which are those of the heap, too
            self._culprits(one, culprits)
        if culprits:
            self._look_for_holders(culprits[0][1])

    def _look_for_holders(self, name: str) -> None:
        from memguard.census import referrers

        try:
            holders = referrers(name, _REFERRERS)
        except _core.AbsentError:
            return  # not on this Python
        if len(self._holders) >= _HOLDERS_KEPT:
            self._holders.clear()
        self._holders[name] = tuple(holder.path for holder in holders)

    def _tell_sites(self, signal: str) -> None:
        if not self._trace.is_on:
            return
        from memguard._leak_who import explaining

        rates = {
            row["signal"]: (row["growth_per_minute"], row["unit"])
            for row in self._findings()
        }
        found = self._trace.sites(signal, *rates.get(signal, (0.0, "count")))
        rows = [
            (one.kind, one.name, one.growth, one.growth_bytes, one.count, one.share)
            for one in found
        ]
        if rows:
            self._culprits(signal, explaining(rows)[:_SITES])


class _Collection:
    """Of garbage, once, by whoever comes first."""

    def __init__(self, generation: int) -> None:
        self.took_ms = 0.0
        self._generation = generation
        self._asked_at = monotonic()
        self._turn = allocate_lock()
        self._end = allocate_lock()
        self._end.acquire()

    @property
    def age_s(self) -> float:
        return monotonic() - self._asked_at

    def run(self) -> None:
        if self._turn.acquire(False):
            began = perf_counter()
            gc.collect(self._generation)
            self.took_ms = (perf_counter() - began) * 1000
            self._end.release()

    def is_done(self, wait_s: float) -> bool:
        return self._end.acquire(timeout=wait_s)


def _is_ours(name: str) -> bool:
    return name.startswith("memguard.")


def _census() -> Census:
    from memguard.census import census

    return census()


def _block_ms(settings: Settings) -> float:
    """How long a block of the smallest window takes."""
    window_ms = settings.get("leak.leak_window")
    return window_ms / settings.get("leak.time_scale") / _BLOCKS_OF_WINDOW


def _make_monitor(
    config: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> MemoryMonitor:
    """One that samples often enough for the time scale, and tells by itself."""
    from memguard.monitor import MemoryMonitor

    monitor = MemoryMonitor(config)
    try:
        monitor.update_config({"background_callbacks": True, **settings})
        current = monitor._read_settings()
        every_ms = max(_SAMPLE_SHORTEST_MS, _block_ms(current) / 4)
        if every_ms < current.get("memory.sample_interval"):
            monitor.update_config({"memory": {"sample_interval_ms": every_ms}})
    except BaseException:
        monitor.close()
        raise
    return monitor
