"""memguard's metrics as observable instruments of OpenTelemetry:

    import memguard.bridges.opentelemetry

    memguard.bridges.opentelemetry.install()  # or install(meter_provider)

Where the semantic conventions have a name it is used: process.memory.usage,
process.cpu.time, process.unix.file_descriptor.count, cpython.gc.collections, ...; what
only memguard knows is memguard.*. Each process tells its own numbers; who it is stands
in the resource of its meter provider. Nothing is read before a reader collects.

`pip install 'memguard[opentelemetry]'`, and an SDK where the program is run.
"""

from __future__ import annotations

import gc
from time import monotonic

from opentelemetry.metrics import Observation, get_meter_provider

import memguard
from memguard import _log
from memguard.metrics import collect_metrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from opentelemetry.metrics import CallbackOptions, MeterProvider

    from memguard.metrics import MetricSample

    Callback = Callable[[CallbackOptions], Iterable[Observation]]

__all__ = ["Instruments", "install"]

_FRESH_S = 0.05  # a reading serves all instruments of a collection

# kind, name, unit, description, metric, label -> attribute
_INSTRUMENTS: tuple[tuple[str, str, str, str, str, tuple[str, str] | None], ...] = (
    (
        "up_down_counter",
        "process.memory.usage",
        "By",
        "The amount of physical memory in use.",
        "memguard_process_resident_memory_bytes",
        None,
    ),
    (
        "up_down_counter",
        "process.memory.virtual",
        "By",
        "The amount of committed virtual memory.",
        "memguard_process_virtual_memory_bytes",
        None,
    ),
    (
        "counter",
        "process.cpu.time",
        "s",
        "Total CPU seconds, user and system.",
        "memguard_process_cpu_seconds_total",
        None,
    ),
    (
        "up_down_counter",
        "process.thread.count",
        "{thread}",
        "Process threads count.",
        "memguard_process_threads",
        None,
    ),
    (
        "up_down_counter",
        "process.unix.file_descriptor.count",
        "{file_descriptor}",
        "Number of unix file descriptors in use by the process.",
        "memguard_process_open_fds",
        None,
    ),
    (
        "gauge",
        "memguard.memory.usage_ratio",
        "1",
        "Use of the limit that is nearest; above 1 beyond it.",
        "memguard_memory_usage_ratio",
        None,
    ),
    (
        "gauge",
        "memguard.memory.limit",
        "By",
        "Limits of memory.",
        "memguard_memory_limit_bytes",
        ("domain", "memguard.memory.domain"),
    ),
    (
        "gauge",
        "memguard.memory.limit_used",
        "By",
        "What counts against that limit.",
        "memguard_memory_limit_used_bytes",
        ("domain", "memguard.memory.domain"),
    ),
    (
        "gauge",
        "memguard.memory.peak",
        "By",
        "Largest resident set of any sample.",
        "memguard_process_resident_memory_peak_bytes",
        None,
    ),
    (
        "up_down_counter",
        "memguard.heap.used",
        "By",
        "Bytes on the runtime's heap that are in use.",
        "memguard_heap_allocated_bytes",
        None,
    ),
    (
        "up_down_counter",
        "memguard.heap.reserved",
        "By",
        "Bytes reserved for the runtime's heap.",
        "memguard_heap_reserved_bytes",
        None,
    ),
    (
        "counter",
        "memguard.gc.time",
        "s",
        "Time spent in garbage collections.",
        "memguard_gc_seconds_total",
        ("kind", "memguard.gc.kind"),
    ),
    (
        "gauge",
        "memguard.gc.longest_pause",
        "s",
        "Longest collection.",
        "memguard_gc_pause_longest_seconds",
        ("kind", "memguard.gc.kind"),
    ),
    (
        "gauge",
        "memguard.gc.cpu_ratio",
        "1",
        "Time of collections to CPU time of the process.",
        "memguard_gc_cpu_ratio",
        None,
    ),
    (
        "counter",
        "memguard.reclaim.rounds",
        "{round}",
        "Rounds of reclaiming memory.",
        "memguard_reclaim_rounds_total",
        None,
    ),
    (
        "counter",
        "memguard.reclaim.freed",
        "By",
        "What these rounds freed, measured.",
        "memguard_reclaim_freed_bytes_total",
        None,
    ),
    (
        "counter",
        "memguard.alerts",
        "{alert}",
        "Alerts raised, repeats included.",
        "memguard_alerts_total",
        None,
    ),
    (
        "up_down_counter",
        "memguard.pool.rented",
        "By",
        "Bytes that are rented of pools.",
        "memguard_pool_rented_bytes",
        None,
    ),
    (
        "up_down_counter",
        "memguard.pool.held",
        "By",
        "Bytes that pools hold, rented or idle.",
        "memguard_pool_held_bytes",
        None,
    ),
)

# name, unit, description, key of gc.get_stats(): what the runtime itself counts
_COLLECTIONS = (
    (
        "cpython.gc.collections",
        "{collection}",
        "The number of times a generation was collected since interpreter start.",
        "collections",
    ),
    (
        "cpython.gc.collected_objects",
        "{object}",
        "The total number of objects collected inside a generation since interpreter "
        "start.",
        "collected",
    ),
    (
        "cpython.gc.uncollectable_objects",
        "{object}",
        "The total number of objects which were found to be uncollectable inside a "
        "generation since interpreter start.",
        "uncollectable",
    ),
)


def install(meter_provider: MeterProvider | None = None) -> Instruments:
    """Makes the instruments with a meter named "memguard" of `meter_provider` (None:
    the global one), once for each provider."""
    return Instruments(meter_provider or get_meter_provider())


class Instruments:
    """Instruments that were made. What is not known (a heap that nobody looks at) has
    no data sample. Callbacks never raise: a failure is logged once.

    close() ends them: OpenTelemetry cannot forget an instrument, but it is told
    nothing any more. Any thread.
    """

    def __init__(self, meter_provider: MeterProvider) -> None:
        meter: Any = meter_provider.get_meter("memguard", memguard.__version__)
        self._is_open = True
        self._read_at = float("-inf")
        self._read: dict[str, list[MetricSample]] = {}
        self._complaints = _log.Complaints()
        for kind, name, unit, text, metric, label in _INSTRUMENTS:
            make = getattr(meter, f"create_observable_{kind}")
            make(
                name,
                [self._callback(metric, label, unit not in ("s", "1"))],
                unit,
                text,
            )
        for name, unit, text, key in _COLLECTIONS:
            meter.create_observable_counter(name, [self._count(key)], unit, text)

    def close(self) -> None:
        """Nothing is told any more. Idempotent."""
        self._is_open = False
        self._read = {}

    def _callback(
        self, metric: str, label: tuple[str, str] | None, is_whole: bool
    ) -> Callback:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for sample in self._samples().get(metric, ()):
                attributes = {}
                if label is not None:
                    attributes[label[1]] = sample.labels[label[0]]
                value = int(sample.value) if is_whole else sample.value
                yield Observation(value, attributes)

        return observe

    def _count(self, key: str) -> Callback:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            if self._is_open:
                for number, one in enumerate(gc.get_stats()):
                    yield Observation(one[key], {"cpython.gc.generation": number})

        return observe

    def _samples(self) -> dict[str, list[MetricSample]]:
        if not self._is_open:
            return {}
        now = monotonic()
        if now - self._read_at < _FRESH_S:
            return self._read
        found: dict[str, list[MetricSample]] = {}
        try:
            metrics = collect_metrics(compatible=False)
            found = {metric.name: metric.samples for metric in metrics}
        except Exception:
            self._complaints.failed("read", "metrics could not be read")
        else:
            self._complaints.worked("read")
        self._read, self._read_at = found, now
        return found
