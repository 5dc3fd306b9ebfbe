"""Serves a workload of tune.py and measures it, the same way for every variant.

A workload module calls serve(build): build() makes what stays resident and
returns the job. Collections are timed from a plain Python callback, memguard's
own figures are not used. Prints one JSON object.
"""

import contextlib
import gc
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

WINDOW_S = 1.0

Job = Callable[[int], object]


class Collections:
    """When each collection began, and how long it took; both in seconds."""

    def __init__(self) -> None:
        self.began_s: list[float] = []
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []
        self._wall = self._cpu = 0.0
        gc.callbacks.append(self._record)

    def _record(self, phase: str, _: dict[str, int]) -> None:
        # Floats and lists of floats: nothing here makes the collector run.
        if phase == "start":
            self._cpu = time.thread_time()
            self._wall = time.perf_counter()
            return
        self.wall_s.append(time.perf_counter() - self._wall)
        self.cpu_s.append(time.thread_time() - self._cpu)
        self.began_s.append(self._wall)

    def clear(self) -> None:
        # No call and no loop, where a collection could come between.
        self.began_s, self.wall_s, self.cpu_s = [], [], []


def quantile(values: list[float], share: float) -> float:
    """Nearest rank; 0 for no values."""
    if not values:
        return 0.0
    return sorted(values)[math.ceil(share * len(values)) - 1]


def longest_by_window(
    began_s: list[float], wall_s: list[float], start_s: float, windows: int
) -> list[float]:
    """The longest pause that began in each window; 0 where none did."""
    longest = [0.0] * windows
    for began, wall in zip(began_s, wall_s, strict=True):
        window = min(int((began - start_s) / WINDOW_S), windows - 1)
        longest[window] = max(longest[window], wall)
    return longest


def run_for(job: Job, first: int, seconds: float) -> tuple[int, float]:
    """Jobs one after the other. @return how many, and the longest in s."""
    number, longest = first, 0.0
    now = time.perf_counter()
    until = now + seconds
    while now < until:
        job(number)
        number += 1
        before, now = now, time.perf_counter()
        longest = max(longest, now - before)
    return number - first, longest


def measure(job: Job, warm_up_s: float, seconds: float) -> dict[str, Any]:
    seen = Collections()
    first, _ = run_for(job, 0, warm_up_s)
    seen.clear()
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    jobs, longest_job_s = run_for(job, first, seconds)
    cpu_s = time.process_time() - start_cpu_s
    wall_s = time.perf_counter() - start_s
    windows = longest_by_window(
        seen.began_s, seen.wall_s, start_s, math.ceil(seconds / WINDOW_S)
    )
    return {
        "pause_p95": quantile(windows, 0.95) * 1e3,
        "gc_cpu": 100 * sum(seen.cpu_s) / cpu_s,
        "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "throughput": jobs / wall_s,
        "plain_p95": quantile(seen.wall_s, 0.95) * 1e3,
        "max": max(seen.wall_s, default=0.0) * 1e3,
        "total": sum(seen.wall_s) * 1e3,
        "collections": len(seen.wall_s),
        "longest_job": longest_job_s * 1e3,
    }


def serve(build: Callable[[], Job]) -> None:
    """Command line: VARIANT WARM_UP_SECONDS SECONDS."""
    variant, warm_up_s, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    with contextlib.ExitStack() as stack:
        if variant == "memguard":
            import memguard

            stack.enter_context(memguard.ResourceManager({"auto_tune": True}))
        job = build()
        if variant == "hand":  # what is advised to whoever tunes by hand
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 10, 10)
        print(json.dumps(measure(job, warm_up_s, seconds)))
