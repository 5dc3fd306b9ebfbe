"""Who it is: what was counted, put in the order in which it explains a leak."""

from __future__ import annotations

from collections import Counter

from memguard._leak_finding import LeakCulprit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

UNTRACKED = "(strings, bytes, numbers: leak_trace finds the place)"
"""In place of a type that no census can tell."""

NATIVE = "(native memory)"
"""In place of a mapping that is not known."""

SHARE_LEAST = 0.05  # of the growth: less explains nothing
_SMALL = 0.1  # of the largest growth
_PLAIN = ("builtins", "collections", "functools", "itertools", "re", "types", "weakref")
_NAMES = 5

Row = tuple[str, str, int, int, int, float]
"""As the core takes a culprit: kind, name, growth, growth in bytes, count, share."""


# ---- types -------------------------------------------------------------------


def is_plain(name: str) -> bool:
    """Whether a type is none of the program's: its objects hold others of such
    types, which by themselves say nothing."""
    module, dot, _ = name.partition(".")
    if not dot or module in _PLAIN or name.startswith("("):
        return True
    return module.startswith("_") and module != "__main__"


def attributed(rows: list[Row]) -> list[Row]:
    """Types with the growth of plain ones put down to the classes of the program, in
    proportion to their own: a dict more for each session more is the session's.
    Classes come first. Without a class that grows at least a tenth as much as the
    plain type that grows most, nothing changes."""
    plain = [row for row in rows if is_plain(row[1])]
    top = max((row[2] for row in plain), default=0)
    theirs = [row for row in rows if not is_plain(row[1]) and row[2] >= top * _SMALL]
    own = sum(row[5] for row in theirs)
    if own <= 0:
        return rows
    factor = (own + sum(row[5] for row in plain)) / own
    raised = [(*row[:5], min(1.0, row[5] * factor)) for row in theirs]
    return raised + [row for row in rows if row not in theirs]


def explaining(rows: list[Row], of: float = 1.0) -> list[Row]:
    """Those that explain a part worth a word of this share of the growth."""
    return [row for row in rows if row[5] >= SHARE_LEAST * of]


# ---- order -------------------------------------------------------------------


def in_order(
    signal: str, culprits: list[LeakCulprit], growth: int, untracked: int
) -> list[LeakCulprit]:
    """The likeliest first, so that three names say what there is to say: two types and
    the place, or what no census can tell, its place and a type, or two mappings.
    `untracked`: blocks that became more and are no objects the collector knows."""
    types = [one for one in culprits if one.kind == "type"]
    sites = [one for one in culprits if one.kind == "site"]
    others = [one for one in culprits if one.kind not in ("type", "site")]
    if signal == "native" and not others:
        others = [LeakCulprit("mapping", NATIVE, growth, growth)]
    if signal not in ("heap", "blocks"):
        return [*others[:2], *types[:1], *others[2:], *types[1:], *sites]
    if untracked > sum(one.growth for one in types):
        strings = LeakCulprit("type", UNTRACKED, untracked)
        return [strings, *sites[:1], *types[:1], *sites[1:], *types[1:], *others]
    return [*types[:2], *sites[:1], *types[2:], *sites[1:], *others]


# ---- names ------------------------------------------------------------------


def grown(
    kind: str, before: Mapping[str, int], after: Mapping[str, int]
) -> list[LeakCulprit]:
    """Names that there are more of."""
    rows = (Counter(after) - Counter(before)).most_common(_NAMES)
    whole = sum(growth for _, growth in rows)
    return [
        LeakCulprit(kind, name, growth, None, growth / whole, after[name])
        for name, growth in rows
    ]
