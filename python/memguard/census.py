"""Who holds what: objects by type, open descriptors by target, private memory by
mapping; what grew between two such tables, who refers to it, where it is allocated.

    before = census()
    ...
    after = census()
    for culprit in census_difference(before, after):
        print(culprit.name, culprit.growth, f"{culprit.share:.0%}")
        print(referrers(culprit.name))

A census of objects runs no code of the program: names of types are read from their
fields. It goes over the collector's lists in slices, each with the GIL for at most
some 2 ms, while other threads run in between. Where that is impossible (Python
3.14.0 to 3.14.4, free threading) it is one visit that holds the GIL and ends after
a million objects, some 15 ms: `is_sliced` is False, and `is_whole` if there are more.

Threads: any thread may call anything; a call works on the thread it is made on.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import TypedDict

from memguard import _core
from memguard._core import (
    AbsentError,
    ConfigTypeError,
    ConflictError,
    InvalidError,
    RangeError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final, Literal

__all__ = [
    "UNTRACKED",
    "Census",
    "Culprit",
    "Referrer",
    "Table",
    "Walk",
    "census",
    "census_difference",
    "census_fds",
    "census_maps",
    "referrers",
    "trace_window",
]

UNTRACKED: Final = "(not tracked by the collector)"
"""Name of the culprit when blocks grew and objects hardly did."""

_PIECE = 4096  # rows made into Python objects at once
_WINDOW_MOST_SECONDS = 60.0
_WINDOW_LOOK_SECONDS = 0.05
_WINDOW_MOST_BYTES = 64 << 20  # of tracemalloc's own
_SITE_CHARACTERS = 159

_tracing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Culprit:
    """What grew."""

    kind: str
    """What `name` names: "type", "fd", "mapping" or "site"."""
    name: str
    growth: int
    """More of them than before."""
    growth_bytes: int
    """More bytes than before; 0 where not counted."""
    count: int
    """How many there are now."""
    share: float
    """Part of all growth, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Referrer:
    """Who holds some of the objects that were picked."""

    path: str
    """From the nearest holder on: "list <- app.cache.SESSIONS". Types, functions,
    attributes of modules and types; no keys, no values."""
    count: int
    """How many of those picked it leads to."""


class Walk(TypedDict):
    """How a census of objects went."""

    objects: int
    """All that were counted."""
    slices: int
    largest_slice: int
    """Objects."""
    held_ms: float
    """With the GIL, all slices."""
    longest_ms: float
    """With the GIL, the longest slice."""
    restarts: int
    """How often it began anew, because of a full collection or gc.freeze()."""
    is_exact: bool
    """False: they came again and again, and some objects may be counted twice or
    not at all."""
    is_whole: bool
    """False: there were more objects than it may visit."""
    is_sliced: bool
    """False: all at once, holding the GIL."""


class Table:
    """Names with counts and bytes. At most 100 000 names: what came later is under
    "(other)", and `is_cut` is True."""

    def __init__(self, kind: Literal["type", "fd", "mapping"]) -> None:
        self.kind = kind
        """What the names name."""
        self._table = _core.Census()
        self._rows: dict[str, tuple[int, int]] | None = None

    @property
    def rows(self) -> Mapping[str, tuple[int, int]]:
        """(count, bytes) by name; made when first asked for."""
        if self._rows is None:
            rows: dict[str, tuple[int, int]] = {}
            for first in range(0, len(self._table), _PIECE):
                for name, count, size in self._table.rows(first, _PIECE):
                    rows[name] = (count, size)
            self._rows = rows
        return self._rows

    @property
    def is_cut(self) -> bool:
        """Whether there were more names than a table holds."""
        return self._table.is_cut

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} {self.kind}s>"


class Census(Table):
    """Objects that the collector tracks, by type. Bytes are an object's own with
    the array of a list, the table of a dict or a set, without what it refers to.

    What is not tracked (str, bytes, numbers, tuples and dicts of nothing else) shows
    in `untracked` alone.
    """

    def __init__(self, *, in_slices: bool = True) -> None:
        """Takes the census. `in_slices` False: in one go, as where it cannot be
        done in slices. Raises AbsentError where Python's heap cannot be read."""
        super().__init__("type")
        began = time.perf_counter()
        self._table.begin(in_slices)
        while self._table.step():
            pass
        self.took_ms = (time.perf_counter() - began) * 1e3
        """Wall time, that of other threads in between included."""
        self.blocks = sys.getallocatedblocks()
        """Blocks that Python has allocated; 0 where it does not count them."""
        self.walk: Walk = self._table.walk()
        """How it went."""

    @property
    def types(self) -> Mapping[str, tuple[int, int]]:
        """(count, bytes) by type, named "module.Qualname"."""
        return self.rows

    @property
    def objects(self) -> int:
        """All that were counted."""
        return self.walk["objects"]

    @property
    def untracked(self) -> int:
        """Allocated blocks beyond one for each object."""
        return max(self.blocks - self.objects, 0)


def census() -> Census:
    """Counts the objects of this interpreter. Some 10 ms per million, in slices of
    at most some 2 ms."""
    return Census()


def census_fds() -> Table:
    """The open descriptors by target ("socket tcp 127.0.0.1:6379", "pipe", "file
    /tmp/x#", "anon eventfd"); include/memguard/census.h has all forms. Raises
    AbsentError without /proc."""
    table = Table("fd")
    table._table.read_fds()
    return table


def census_maps() -> Table:
    """Private resident bytes by mapping ("heap", "anon", "stack", files); the count
    is that of mappings. Some 30 to 50 ms per GB. Raises AbsentError without /proc."""
    table = Table("mapping")
    table._table.read_maps()
    return table


def census_difference(
    before: Table,
    after: Table,
    *,
    limit: int = 8,
    by: Literal["count", "bytes"] | None = None,
) -> list[Culprit]:
    """What grew from `before` to `after`, the one that grew most first, at most
    `limit` (0 to 1000). `by`: "count", or "bytes" as for mappings; None: what fits.

    A `share` is the part of the sum of what grew. If blocks grew more than ten times
    as much as objects, what leaks is not tracked: UNTRACKED is then a culprit too,
    and part of that sum. Raises InvalidError for tables of different kinds.
    """
    for name, table in (("before", before), ("after", after)):
        if not isinstance(table, Table):
            raise ConfigTypeError(f"{name} is {table!r}, allowed: a Table")
    if before.kind != after.kind:
        raise InvalidError(
            f"before is a table of {before.kind}s, after of {after.kind}s: "
            "allowed: two of a kind"
        )
    if by not in (None, "count", "bytes"):
        raise InvalidError(f"by is {by!r}, allowed: 'count', 'bytes' or None")
    by_bytes = by == "bytes" or (by is None and after.kind == "mapping")
    found = [
        Culprit(*row)
        for row in _core.census_difference(
            before._table, after._table, after.kind, by_bytes, limit
        )
    ]
    if by_bytes or not (isinstance(before, Census) and isinstance(after, Census)):
        return found
    return _with_untracked(before, after, found)[:limit]


def _with_untracked(
    before: Census, after: Census, found: list[Culprit]
) -> list[Culprit]:
    growth = after.untracked - before.untracked
    tracked = sum(one.growth for one in found[:1]) / found[0].share if found else 0.0
    if growth <= 10 * tracked or growth <= 0:
        return found
    whole = growth + tracked
    untracked = Culprit("type", UNTRACKED, growth, 0, after.untracked, growth / whole)
    return [untracked] + [replace(one, share=one.growth / whole) for one in found]


def referrers(type_name: str, limit: int = 20) -> list[Referrer]:
    """Who refers to objects of the type that a census names so: up to `limit` (1 to
    20) of them are picked at random, and looked for backwards, up to six steps.

    Walks the heap for each step, in slices as the census does: some 50 ms per million
    objects. What it picks it holds meanwhile. Empty if there is no such object.
    Raises RangeError; AbsentError where the heap cannot be walked in slices.
    """
    return [Referrer(*row) for row in _core.census_referrers(type_name, limit)]


def trace_window(seconds: float, limit: int = 8) -> list[Culprit]:
    """Traces allocations for `seconds` (above 0, at most 60) and returns the lines of
    code whose live memory grew in the second half of it, as "file:line", the one that
    grew most first; none if the program itself ends tracing.

    Blocks the calling thread. Meanwhile Python allocates several times as slowly. Ends
    early when the traces take 64 MB. Raises RangeError; ConflictError while
    tracemalloc is in use; AbsentError where other interpreters exist, as tracing can
    abort such a process.
    """
    if not 0 < seconds <= _WINDOW_MOST_SECONDS:
        raise RangeError(
            f"seconds is {seconds!r}, allowed: above 0, at most "
            f"{_WINDOW_MOST_SECONDS:g}"
        )
    import tracemalloc

    with _tracing:
        if tracemalloc.is_tracing():
            raise ConflictError("tracemalloc is tracing already")
        if not _core.census_is_alone():
            raise AbsentError("allocations cannot be traced beside other interpreters")
        tracemalloc.start(1)
        try:
            _wait(seconds / 2)
            before = _sites()
            _wait(seconds / 2)
            after = _sites()
        except RuntimeError:  # the program stopped it
            return []
        finally:
            tracemalloc.stop()
    return _grown_sites(before, after)[:limit]


def _wait(seconds: float) -> None:
    """For that long, or until tracing takes too much, or cannot go on."""
    import tracemalloc

    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if (
            not tracemalloc.is_tracing()
            or tracemalloc.get_tracemalloc_memory() > _WINDOW_MOST_BYTES
            or not _core.census_is_alone()
        ):
            return
        time.sleep(min(left, _WINDOW_LOOK_SECONDS))


def _sites() -> dict[str, tuple[int, int]]:
    """(blocks, bytes) alive by line, but for what tracing itself takes."""
    import tracemalloc

    sites = {}
    for one in tracemalloc.take_snapshot().statistics("lineno"):
        frame = one.traceback[0]
        if frame.filename not in (tracemalloc.__file__, __file__):
            site = f"{frame.filename}:{frame.lineno}"[-_SITE_CHARACTERS:]
            sites[site] = (one.count, one.size)
    return sites


def _grown_sites(
    before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> list[Culprit]:
    grown = []
    for site, (count, size) in after.items():
        count_before, size_before = before.get(site, (0, 0))
        if size > size_before:
            growth = count - count_before
            grown.append((size - size_before, site, growth, count))
    whole = sum(row[0] for row in grown)
    grown.sort(key=lambda row: (-row[0], row[1]))
    return [
        Culprit("site", site, growth, growth_bytes, count, growth_bytes / whole)
        for growth_bytes, site, growth, count in grown
    ]
