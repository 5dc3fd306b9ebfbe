"""Metrics as the core has them, for bridges."""

from __future__ import annotations

from memguard import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CANONICAL, COMPATIBLE = 1, 2


class Row:
    """A metric of the table."""

    __slots__ = ("group", "kind", "name", "text", "unit")

    def __init__(self, name: str, kind: str, unit: str, text: str, group: int) -> None:
        self.name = name
        self.kind = kind
        self.unit = unit
        self.text = text
        self.group = group


class Point:
    """A time series now. `buckets` of a histogram: (upper bound, count up to there),
    the last bound infinite; `value` is then the sum."""

    __slots__ = ("buckets", "labels", "name", "value")

    def __init__(
        self,
        name: str,
        labels: dict[str, str],
        value: float,
        buckets: list[tuple[float, int]] | None,
    ) -> None:
        self.name = name
        self.labels = labels
        self.value = value
        self.buckets = buckets


def rows() -> list[Row]:
    """All metrics, by name; nothing is read."""
    return [Row(*row) for row in _core._metrics_rows()]


def points(groups: int, with_group: bool) -> Iterator[Point]:
    """What this process shows, family by family; `with_group`: with all that were
    started together with it."""
    for name, _, _, _, labels, value, buckets in _core._metrics_points(
        groups, with_group
    ):
        yield Point(name, labels, value, buckets)
