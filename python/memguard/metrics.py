"""What this process shows, as metrics: text for a scraper, or samples for code.

Names, types and help come from one table of the core; those that start with
`memguard_` are canonical, the others (`memory_alloc_bytes`, ...) repeat numbers
under names that hosts had before. What is not known is left out.

The numbers are those of the latest sample, collections those of this moment.
While no monitor runs there is what the system tells of the process, and no count
of anything. Any thread; some 0.5 ms, most of it a look at the heap.
"""

from __future__ import annotations

from typing import NamedTuple

from memguard import _core

TEXT_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class MetricSample(NamedTuple):
    """One time series at this moment."""

    labels: dict[str, str]
    """pid, program and runtime of the process come first."""
    value: float
    """In the metric's unit; of a histogram the sum of what was observed."""
    buckets: list[tuple[float, int]] | None
    """Of a histogram: upper bound in the metric's unit, infinity at last, and how
    many observations were not above it. The last count is that of all."""


class Metric(NamedTuple):
    """A family: samples of one name."""

    name: str
    type: str
    """"gauge", "counter" or "histogram"."""
    unit: str
    """"bytes", "seconds", "ratio", "ns" or ""."""
    help: str
    samples: list[MetricSample]


def metrics_text(openmetrics: bool = False, *, compatible: bool = True) -> str:
    """Metrics of this process in Prometheus' text format 0.0.4, or OpenMetrics
    1.0.0; served as TEXT_CONTENT_TYPE or OPENMETRICS_CONTENT_TYPE of this module.

    `compatible`: also the names that do not start with `memguard_`."""
    return _core._metrics_text(openmetrics, compatible)


def collect_metrics(*, compatible: bool = True, workers: bool = False) -> list[Metric]:
    """The same as objects, in the order of the text: for bridges to other
    libraries.

    `workers`: with those of all living processes of this process group, as a server
    and its workers, each of which shows itself in its segment."""
    return [
        Metric(name, kind, unit, text, [MetricSample(*sample) for sample in samples])
        for name, kind, unit, text, samples in _core._metrics_collect(
            compatible, workers
        )
    ]


collect = collect_metrics
