"""What a leak looks like when it is told: findings, culprits, and their text.

Names of types, places in the code and targets of descriptors get in here, no data
of the program.
"""

from __future__ import annotations

import typing  # noqa: F401 - a dataclass looks at it, half made by another thread
from dataclasses import asdict, dataclass
from math import isfinite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_SHOWN = 3  # culprits in a text


@dataclass(frozen=True)
class LeakCulprit:
    """Who grew: a type, a site (file:line), the target of a descriptor, ..."""

    kind: str
    """type, site, fd, thread, mapping, rental or counter."""

    name: str
    """Qualified name of the type, "file:line", "socket tcp 10.0.0.1:6379", ..."""

    growth: int
    """By how many it grew while it was watched."""

    growth_bytes: int | None = None
    """By how many bytes; None where only the number is known."""

    share: float = 0.0
    """Part of the finding's whole growth that it explains, 0.0 to 1.0."""

    count: int | None = None
    """How many there are now; None if that is not known."""

    referrers: tuple[str, ...] = ()
    """Types and module attributes that hold them, most frequent first."""


@dataclass(frozen=True)
class LeakFinding:
    """One signal that grows without end."""

    signal: str
    """heap, blocks, native, rss, fds, threads, mappings, connections, rentals, ...,
    or counter:KEY."""

    tier: str
    """suspect, likely, confirmed or critical (exhaustion is near)."""

    severity: str
    """low, medium or high."""

    growth: float
    """The whole growth since it began, in `unit`."""

    growth_per_minute: float
    """In `unit`."""

    unit: str
    """bytes or count."""

    time_to_limit_seconds: float | None = None
    """Until the limit is reached at this rate; None: no limit is known."""

    since: float = 0.0
    """When the growth began, seconds since 1970."""

    culprits: tuple[LeakCulprit, ...] = ()
    """Who grew, the likeliest first; empty until somebody was found."""

    advice: tuple[str, ...] = ()
    """Commands to run next, as they are."""

    calls: int | None = None
    """Calls that made it grow, where they were counted (assert_no_leak())."""

    def as_dict(self) -> dict[str, Any]:
        """As a row of a report: type (the culprit's name, or the signal), severity,
        growth_rate (per minute, in unit) and all fields."""
        kind = self.culprits[0].name if self.culprits else self.signal
        row = asdict(self)
        row["culprits"] = [asdict(culprit) for culprit in self.culprits]
        return {"type": kind, "growth_rate": self.growth_per_minute, **row}

    def __str__(self) -> str:
        return "\n".join(_lines(self))


_RANKS = {"critical": 0, "confirmed": 1, "likely": 2, "suspect": 3, "none": 4}


def rank_of(finding: LeakFinding) -> tuple[int, float]:
    """Worst first."""
    return _RANKS.get(finding.tier, 4), finding.since


def culprits_of(
    row: dict[str, Any], holders: Mapping[str, tuple[str, ...]]
) -> list[LeakCulprit]:
    """Those of a finding as the core tells it."""
    return [
        LeakCulprit(
            kind=one["kind"],
            name=one["name"],
            growth=one["growth"],
            growth_bytes=one["growth_bytes"] or None,
            share=one["share"],
            count=one["count"],
            referrers=holders.get(one["name"], ()) if one["kind"] == "type" else (),
        )
        for one in row["culprits"]
    ]


def finding_of(row: dict[str, Any], culprits: Iterable[LeakCulprit]) -> LeakFinding:
    """A finding as the core tells it."""
    to_limit_ms = row["to_limit_ms"]
    return LeakFinding(
        signal=row["signal"],
        tier="critical" if row["is_critical"] else row["tier"],
        severity=row["severity"],
        growth=row["growth"],
        growth_per_minute=row["growth_per_minute"],
        unit=row["unit"],
        time_to_limit_seconds=to_limit_ms / 1000 if isfinite(to_limit_ms) else None,
        since=row["since_unix_ms"] / 1000,
        culprits=tuple(culprits),
        advice=tuple(row["advice"]),
    )


def _lines(finding: LeakFinding) -> Iterable[str]:
    since = amount(finding.growth, finding.unit)
    if finding.calls:
        each = amount(finding.growth / finding.calls, finding.unit)
        how = f"+{since} in {finding.calls} calls, {each} a call"
    else:
        rate = amount(finding.growth_per_minute, finding.unit)
        how = f"+{since}, {rate} a minute"
        if finding.time_to_limit_seconds is not None:
            how += f", limit reached in {_duration(finding.time_to_limit_seconds)}"
    yield f"{finding.signal}: {finding.tier} leak, severity {finding.severity}: {how}"
    for culprit in finding.culprits[:_SHOWN]:
        yield "  " + _who(culprit, with_share=finding.calls is None)
    for command in finding.advice:
        yield f"  next: {command}"


def _who(culprit: LeakCulprit, *, with_share: bool) -> str:
    text = f"{culprit.kind} {culprit.name}: +{culprit.growth}"
    if culprit.growth_bytes:
        text += f", {amount(culprit.growth_bytes, 'bytes')}"
    if with_share and culprit.share:
        text += f", {culprit.share:.0%} of the growth"
    if culprit.referrers:
        text += f"; held by {', '.join(culprit.referrers[:_SHOWN])}"
    return text


def text_of(findings: Iterable[LeakFinding]) -> str:
    """The report: one paragraph a finding."""
    return "\n".join(str(finding) for finding in findings) or "no leak found"


def amount(value: float, unit: str) -> str:
    """A number of bytes or of things, for people."""
    if unit != "bytes":
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    for name, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if abs(value) >= size:
            return f"{value / size:.1f} {name}"
    return f"{value:.0f} bytes"


def _duration(seconds: float) -> str:
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
