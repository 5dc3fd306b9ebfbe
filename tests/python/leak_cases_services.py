"""Calls for test_leaks.py: workers of services, and metrics in other libraries."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import memguard
from memguard import decide
from memguard.bridges.opentelemetry import Instruments
from memguard.bridges.prometheus import MemguardCollector
from memguard.integrations import Limits, Worker, gunicorn
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest


def recycle(w: object) -> None:
    worker = decide.Recycle(100, sustain_ms=5, spread=0.5)
    worker.offer(101, 1)
    worker.offer(None, 2)
    with contextlib.suppress(memguard.RangeError):
        decide.Recycle(0)


def worker(w: Any) -> None:
    made = Worker(w.manager, limits=Limits(1), leave=lambda one: one.is_idle)
    made.began()
    made._tick()
    made.ended()
    made.close()
    with contextlib.suppress(memguard.RangeError):
        gunicorn.install({}, max_rss_mb=1, jitter=-1)


def collector(w: object) -> None:
    registry = CollectorRegistry()
    registry.register(MemguardCollector())
    registry.register(
        MemguardCollector(
            workers=True,
            exclude=[row[0] for row in memguard._core._metrics_rows()],
        )
    )
    generate_latest(registry)
    with contextlib.suppress(memguard.InvalidError):
        MemguardCollector(exclude=["nothing"])


@functools.cache
def reader_of_instruments() -> tuple[InMemoryMetricReader, Instruments]:
    """Made once, as in a program: the SDK keeps what it was ever given."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    return reader, Instruments(provider)


def instruments(w: object) -> None:
    reader, _ = reader_of_instruments()
    assert reader.get_metrics_data() is not None


CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "decide.Recycle": (recycle, []),
    "Worker": (worker, []),
}
SLOW_CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "MemguardCollector": (collector, []),
    "Instruments": (instruments, []),
}
