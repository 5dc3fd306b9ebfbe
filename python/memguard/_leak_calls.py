"""Whether calls of a function leak: growth that goes on in proportion to them.

Batches of calls grow, each twice the one before. After each all garbage is
collected and the blocks of Python, the bytes of malloc, mapped memory, descriptors
and threads are counted. A leak grows in every batch, at a steady rate; what a cache
takes while it fills does not go on. While something still grows, batches go on up to
16 times the calls asked for. Only then it is looked at who it is: one batch between
two counts of objects by type, one under tracemalloc.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
import time
import warnings

from memguard import _core
from memguard._core import AbsentError, ConfigTypeError, InvalidError, RangeError
from memguard._leak_finding import LeakCulprit, LeakFinding
from memguard._leak_threads import thread_names
from memguard._leak_who import grown, is_plain
from memguard.census import (
    UNTRACKED,
    _sites,
    census,
    census_difference,
    census_fds,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from memguard.census import Culprit, Table

SIGNALS = ("blocks", "native", "fds", "threads")
"""What is counted."""

_COUNTED = {
    "blocks": ("blocks",),
    "native": ("malloc", "mapped"),
    "fds": ("fds",),
    "threads": ("threads",),
}

_LARGEST = 16  # times the calls asked for
_STEADY = 0.35  # a leak's rate in a batch, of that in the one before
_PAGE = 4096
_THREADS = 400  # leaked by us at most
_TRACED = 2000  # calls at most, which take up to 12 times as long
_NAMED = 5
_COMPARED = 32  # types that grew
_SITES = 3
_HIDDEN = (__file__, threading.__file__, "<frozen ")
_FEW = {"fds": 3, "threads": 4}  # less is others' doing

Reading = dict[str, int]


class Steps:
    """Batches so far: how many calls, what grew by how much."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.growth: list[Reading] = []

    def add(self, calls: int, before: Reading, after: Reading) -> None:
        self.calls.append(calls)
        self.growth.append(
            {name: after[name] - before[name] for name in after if name in before}
        )

    def growing(self, name: str, *, first: bool = False) -> bool:
        """Whether it grew in both of the last two batches, as steadily.
        `first`: one batch has to do."""
        if len(self.calls) < 2:
            return first and self.grew(name, -1)
        if not (self.grew(name, -1) and self.grew(name, -2)):
            return False
        last, before = (self.growth[i][name] / self.calls[i] for i in (-1, -2))
        return last >= before * _STEADY

    def rate(self, name: str) -> float:
        """Growth a call in the last batch."""
        return self.growth[-1][name] / self.calls[-1]

    def grew(self, name: str, index: int) -> bool:
        """Whether it grew in a batch."""
        grown = self.growth[index].get(name, 0)
        return grown >= least(name, self.calls[index])


def least(name: str, calls: int) -> float:
    """Growth in so many calls that counts; below it is noise."""
    if name == "blocks":
        return max(16, calls * 0.05)
    if name == "malloc":
        return max(512, calls * 4)
    if name == "mapped":
        return max(16 * _PAGE, calls * _PAGE / 2)
    return max(_FEW[name], calls * 0.02)


def read() -> Reading:
    """All counts, after full collections. What is not known is left out."""
    for _ in range(4):  # finalizers may make garbage
        if gc.collect() == 0:
            break
    reading = {"blocks": sys.getallocatedblocks()}
    if (given := _core._malloc_bytes()) is not None:
        reading["malloc"] = given
    try:
        reading["fds"] = len(os.listdir("/proc/self/fd"))
        reading["threads"] = len(os.listdir("/proc/self/task"))
        with open("/proc/self/statm", "rb") as file:
            reading["mapped"] = int(file.read().split()[5]) * _PAGE
    except OSError:
        reading["threads"] = threading.active_count()
    return reading


def check(
    fn: object, iterations: int, warmup: int | None, signals: Iterable[str]
) -> tuple[str, ...]:
    """Refuses what makes no sense. Returns the signals."""
    if not callable(fn):
        raise ConfigTypeError(f"fn is {fn!r}, allowed: a callable")
    for name, value, low in (("iterations", iterations, 4), ("warmup", warmup, 0)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigTypeError(f"{name} is {value!r}, allowed: a whole number")
        if not low <= value <= 10_000_000:
            raise RangeError(f"{name} is {value}, allowed: {low} to 10000000")
    chosen = (signals,) if isinstance(signals, str) else tuple(signals)
    for name in chosen:
        if name not in SIGNALS:
            raise InvalidError(f"signal {name!r}, allowed: {', '.join(SIGNALS)}")
    return chosen


def find(
    call: Callable[[], object],
    iterations: int,
    warmup: int | None,
    chosen: tuple[str, ...],
) -> list[LeakFinding]:
    """Findings of leaks that calls make; none if there is none."""
    watched = [name for signal in chosen for name in _COUNTED[signal]]
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as told:
        batch = Batch(call, told)
        steps = _grow(batch, iterations, warmup, watched)
        if not any(steps.growing(name, first=True) for name in watched):
            return []
        suspects = Suspects(batch)
        calls = _bearable(steps, steps.calls[-1])
        steps.add(calls, suspects.start, suspects.run(calls))
        leaking = [name for name in watched if steps.growing(name)]
        if not leaking:
            return []
        minutes = max(time.monotonic() - began, 1e-6) / 60
        return list(_findings(suspects, steps, leaking, minutes))


def _grow(
    batch: Batch, iterations: int, warmup: int | None, watched: list[str]
) -> Steps:
    """Batches until nothing grows any more, or enough of them."""
    steps, warm = Steps(), Steps()
    calls = max(1, iterations // 4)
    first = calls if warmup is None else warmup
    before = read()
    after = batch.run(first)
    warm.add(max(1, first), before, after)
    while True:
        known = steps if steps.calls else warm
        if _bearable(known, calls) < calls:
            return known
        before, after = after, batch.run(calls)
        steps.add(calls, before, after)
        if calls >= iterations and (
            calls >= iterations * _LARGEST
            or not any(steps.grew(name, -1) for name in watched)
        ):
            return steps
        calls *= 2


def _bearable(steps: Steps, calls: int) -> int:
    """So many calls, or only a few if they use up what the process may have."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for name, folder, most in (
        ("fds", "fd", soft * 0.7),
        ("threads", "task", _THREADS),
    ):
        if steps.growing(name, first=True):
            rate = steps.rate(name)
            now = len(os.listdir(f"/proc/self/{folder}"))
            if now + rate * calls > most:
                return min(calls, 8)
    return calls


class Batch:
    """Calls a function again and again."""

    def __init__(
        self, call: Callable[[], object], told: list[warnings.WarningMessage]
    ) -> None:
        self._call = call
        self._told = told

    def run(self, calls: int) -> Reading:
        """So many calls; what is counted after them."""
        call = self._call
        for _ in range(calls):
            call()
        self._told.clear()  # warnings that the calls gave are not their leak
        return read()


# ---- who it is --------------------------------------------------------------


class Suspects:
    """What there is of each type, thread and descriptor, before and after a batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._threads = thread_names()
        self._fds = _counted(census_fds)
        self._types = _counted(census)
        self.start = read()

    def run(self, calls: int) -> Reading:
        """The batch. Returns what is counted after it."""
        self._calls = calls
        self.end = self._batch.run(calls)
        self.threads = grown("thread", self._threads, thread_names())
        self.fds = [
            LeakCulprit("fd", one.name, one.growth, None, one.share, one.count)
            for one in _difference(self._fds, _counted(census_fds))[:_NAMED]
        ]
        return self.end

    def types(self) -> list[LeakCulprit]:
        """Types of which there are more, classes of the program first: their
        objects come with dicts, cells and locks, which say nothing."""
        found = [
            one
            for one in _difference(self._types, _counted(census))
            if one.growth >= max(2, self._calls * 0.05) and one.name != UNTRACKED
        ]
        top = max((one.growth for one in found), default=0)
        found.sort(
            key=lambda one: (is_plain(one.name) or one.growth < top * 0.1, -one.growth)
        )
        whole = max(1, self.end["blocks"] - self.start["blocks"])
        return [
            LeakCulprit(
                "type",
                one.name,
                one.growth,
                None,
                min(1.0, one.growth / whole),
                one.count,
            )
            for one in found[:_NAMED]
        ]

    def sites(self) -> tuple[list[LeakCulprit], float]:
        """Places in the code whose memory grows, and how many bytes a call that
        is in all."""
        calls = min(self._calls, _TRACED)
        culprits, traced = _grown_sites(self._batch, calls)
        return culprits, traced / calls


def _findings(
    suspects: Suspects, steps: Steps, leaking: list[str], minutes: float
) -> Iterable[LeakFinding]:
    """One for each kind of thing that leaks; blocks and bytes of the same objects
    are one."""

    def made(
        signal: str, name: str, unit: str, culprits: Iterable[LeakCulprit]
    ) -> LeakFinding:
        whole = sum(max(0, growth.get(name, 0)) for growth in steps.growth)
        found = tuple(culprits)
        return LeakFinding(
            signal=signal,
            tier="confirmed",
            severity=_severity(name, steps.rate(name)),
            growth=whole,
            growth_per_minute=whole / minutes,
            unit=unit,
            since=time.time() - minutes * 60,
            culprits=found,
            advice=tuple(_advice(signal, found)),
            calls=sum(steps.calls),
        )

    types = suspects.types()
    if "fds" in leaking:
        yield made("fds", "fds", "count", suspects.fds)
    if "threads" in leaking:
        yield made("threads", "threads", "count", suspects.threads)
    native = next((name for name in ("malloc", "mapped") if name in leaking), None)
    if "blocks" in leaking:
        sites, _ = suspects.sites()
        yield made("blocks", "blocks", "count", [*types, *sites])
    elif native is not None and "threads" not in leaking:  # it is their stacks
        sites, traced = suspects.sites()
        if traced >= steps.rate(native) / 2:
            yield made("heap", native, "bytes", [*types, *sites])
            return
        where = "memory of malloc" if native == "malloc" else "anonymous mappings"
        last = steps.growth[-1][native]
        culprit = LeakCulprit("mapping", where, last, last, 1.0)
        yield made("native", native, "bytes", [culprit])


def _severity(name: str, each: float) -> str:
    if name in ("fds", "threads"):
        return "high"
    if name == "blocks":
        each *= 64  # bytes of a small object
    return "high" if each >= 1 << 16 else "medium" if each >= 1 << 10 else "low"


def _advice(signal: str, culprits: tuple[LeakCulprit, ...]) -> Iterable[str]:
    if signal == "fds":
        yield f"lsof -p {os.getpid()}"
    elif signal == "threads":
        yield f"py-spy dump --pid {os.getpid()}"
    elif signal == "native":
        yield "python -m memray run --native -m pytest"
    else:
        kinds = [c.name for c in culprits if c.kind == "type"]
        if kinds:
            name = kinds[0].rpartition(".")[2]
            yield (
                f"objgraph.show_backrefs(objgraph.by_type({name!r})[-3:], max_depth=5)"
            )
        else:
            yield "python -m memray run -m pytest"


def _counted(count: Callable[[], Table]) -> Table | None:
    """None where that cannot be read."""
    try:
        return count()
    except AbsentError:
        return None


def _difference(before: Table | None, after: Table | None) -> list[Culprit]:
    if before is None or after is None:
        return []
    return census_difference(before, after, limit=_COMPARED)


def _grown_sites(batch: Batch, calls: int) -> tuple[list[LeakCulprit], int]:
    """Places in the code whose memory grew in so many calls, and by how many bytes
    all of it did."""
    import tracemalloc

    if not _core.census_is_alone():
        return [], 0  # tracemalloc may end the process then
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start(1)
    try:
        before = _sites()
        batch.run(calls)
        after = _sites()
    finally:
        if not was_tracing:
            tracemalloc.stop()
    rows = [
        (size - before.get(site, (0, 0))[1], count - before.get(site, (0, 0))[0], site)
        for site, (count, size) in after.items()
        if not site.startswith(_HIDDEN)
    ]
    rows = [
        row
        for row in sorted(rows, reverse=True)
        if row[0] > 0 and (row[1] >= calls * 0.05 or row[0] >= calls * 4)
    ]
    whole = sum(row[0] for row in rows)
    culprits = [
        LeakCulprit("site", site, count, size, size / whole, after[site][0])
        for size, count, site in rows[:_SITES]
    ]
    return culprits, whole
