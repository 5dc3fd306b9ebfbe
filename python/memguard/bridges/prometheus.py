"""memguard's metrics in a registry of prometheus_client:

    from prometheus_client import REGISTRY
    from memguard.bridges.prometheus import MemguardCollector

    REGISTRY.register(MemguardCollector())

Or, in a service of several processes, wherever its registry for a scrape is made:

    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    registry.register(MemguardCollector())

There whichever worker answers tells the numbers of every living one, each once, by
the label `pid`: they come from what the processes show of themselves in memory
(segment.h). No file is written, so none is left when a worker ends.

`pip install 'memguard[prometheus]'`.
"""

from __future__ import annotations

import os

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from memguard import _core, _log
from memguard._core import ConfigTypeError, InvalidError
from memguard.metrics import collect_metrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Any

    from memguard.metrics import MetricSample

    Row = tuple[str, str, str, str, bool]

__all__ = ["MemguardCollector"]

# Those of the ProcessCollector that every default registry has.
_TAKEN = ("process_open_fds",)
_MULTIPROCESS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


class MemguardCollector(Collector):
    """A collector that makes its families when they are scraped, and only then.

    `compatible`: whether the names of hosts before memguard come along
    (memory_alloc_bytes, gc_pause_duration_seconds, ...). `workers`: whether all
    living processes of this process group are told (True), this one alone (False), or
    all where prometheus_client works for several processes (None): while
    PROMETHEUS_MULTIPROC_DIR is set. `exclude`: names to leave out. By default that is
    process_open_fds where this process alone is told: the ProcessCollector of
    prometheus_client, part of its default registry, has that name for the same number.
    A registry refuses a collector with a name that it knows, by a ValueError
    which tells the name.

    One metric is no counter here, because prometheus_client appends `_total` to those:
    memory_total_alloc_bytes is of type unknown, with the same values.

    A scrape takes some 0.5 ms for each process. It never raises: what cannot be read is
    left out, and logged once. Usable from any thread, and in children after a fork.

    Raises ConfigTypeError; InvalidError for a name to exclude that does not exist.
    """

    def __init__(
        self,
        *,
        compatible: bool = True,
        workers: bool | None = None,
        exclude: Collection[str] | None = None,
    ) -> None:
        if workers is None:
            workers = any(os.environ.get(name) for name in _MULTIPROCESS)
        if exclude is None:
            exclude = () if workers else _TAKEN
        if isinstance(exclude, str):
            raise ConfigTypeError(f"exclude is {exclude!r}, allowed: a list of names")
        rows = {row[0]: row for row in _core._metrics_rows()}
        for name in exclude:
            if name not in rows:
                raise InvalidError(f"exclude has {name!r}, allowed: names of metrics")
            del rows[name]
        self._workers = bool(workers)
        self._compatible = bool(compatible)
        self._rows = {name: row for name, row in rows.items() if compatible or row[4]}
        self._complaints = _log.Complaints()

    def describe(self) -> Iterable[Metric]:
        """Families without samples, for a registry that looks for names it knows."""
        return [_family(row) for row in self._rows.values()]

    def collect(self) -> Iterator[Metric]:
        """Families with their samples, read now."""
        made: list[Metric] = []
        try:
            for metric in collect_metrics(
                compatible=self._compatible, workers=self._workers
            ):
                row = self._rows.get(metric.name)
                if row is not None:
                    made.append(_family(row))
                    for sample in metric.samples:
                        _add(made[-1], metric.name, sample)
        except Exception:
            self._complaints.failed("read", "metrics could not be read")
        else:
            self._complaints.worked("read")
        yield from made


def _family(row: Row) -> Metric:
    name, kind, unit, text, _ = row
    if kind == "counter":
        if name.endswith("_total"):
            name = name.removesuffix("_total")
        else:
            kind = "unknown"
    return Metric(name, text, kind, unit if name.endswith(f"_{unit}") else "")


def _add(family: Metric, name: str, sample: MetricSample) -> None:
    labels, value, buckets = sample
    if buckets is None:
        family.add_sample(name, labels, value)
        return
    as_text: Any = floatToGoString
    for bound, count in buckets:
        family.add_sample(f"{name}_bucket", {**labels, "le": as_text(bound)}, count)
    family.add_sample(f"{name}_count", labels, buckets[-1][1])
    family.add_sample(f"{name}_sum", labels, value)
