"""gc.*: what recording every garbage collection costs.

The peer records the same figures in a Python callback. What CPython itself pays
for calling anybody is part of both: it is the cost of having a callback at all.
"""

import gc
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from measure import node_rows, python_ns, row

COLLECTIONS = 20_000
TURNS = 5  # of all three, one after the other: the machine is not always as fast


def plain_recorder() -> Any:
    began = [0, 0]
    stats: dict[int, dict[str, int]] = {}
    pauses: deque[tuple[int, int, int, int]] = deque(maxlen=256)

    def record(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            began[:] = time.thread_time_ns(), time.perf_counter_ns()
            return
        wall = time.perf_counter_ns() - began[1]
        cpu = time.thread_time_ns() - began[0]
        generation, collected = info["generation"], info["collected"]
        known = stats.setdefault(
            generation, {"count": 0, "wall": 0, "cpu": 0, "collected": 0, "max": 0}
        )
        known["count"] += 1
        known["wall"] += wall
        known["cpu"] += cpu
        known["collected"] += collected
        known["max"] = max(known["max"], wall)
        pauses.append((generation, wall, cpu, collected))

    return record


def collect_ns() -> float:
    return python_ns("collect(0)", {"collect": gc.collect}, COLLECTIONS)


@contextmanager
def only(callbacks: list[Any]) -> Iterator[None]:
    before = gc.callbacks[:]
    gc.callbacks[:] = callbacks
    try:
        yield
    finally:
        gc.callbacks[:] = before


def rows() -> Iterator[dict[str, Any]]:
    import memguard

    with memguard.MemoryMonitor() as monitor:
        monitor.stop_monitoring()
        ours = gc.callbacks[:]
        assert monitor.get_gc_stats()["source"] == "callback"
        gc.collect()
        gc.freeze()  # the young generation is empty: no work but the callback's
        recorders = {"none": [], "ours": ours, "peer": [plain_recorder()]}
        times: dict[str, list[float]] = {name: [] for name in recorders}
        for _ in range(TURNS):
            for name, callbacks in recorders.items():
                with only(callbacks):
                    times[name].append(collect_ns())
        gc.unfreeze()
    none, ours_ns, peer_ns = map(statistics.median, times.values())
    yield row(
        "gc.observe.python", "ns", ours_ns - none, peer_ns - none, "a Python callback"
    )
    yield from node_rows("gc.js")
