"""Runs the trading engine for a day of market, with or without memguard.

    trading.py memguard|plain|lean HOURS RATE

Prints one JSON object. Both sides are measured by the same instruments: a callback
in gc.callbacks, a timer on the loop, /proc.
"""

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - what follows is counted from here
import pandas  # noqa: F401

BASE_PAGES = int(Path("/proc/self/statm").read_text().split()[1])
EXAMPLES = Path(__file__).resolve().parents[2] / "python" / "examples"
sys.path.insert(0, str(EXAMPLES))

from meter import Collections, longest_by_window, quantile  # noqa: E402
from trading import engine, history, session  # noqa: E402

INSTRUMENTS = 20
BEAT_S = 0.005
WARM_UP = 0.2  # of the run: profiles are tried, the windows fill
PAGES_PER_MB = 256


class Meter:
    """Looks once a second at memory and descriptors, and always how late the loop
    is."""

    def __init__(self) -> None:
        self.rss_mb: list[float] = []
        self.fds: list[int] = []
        self.late_s: list[float] = []

    async def look(self) -> None:
        while True:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.rss_mb.append(pages / PAGES_PER_MB)
            self.fds.append(len(os.listdir("/proc/self/fd")))
            await asyncio.sleep(1)

    async def beat(self) -> None:
        while True:
            due = time.perf_counter() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.late_s.append(time.perf_counter() - due)


def start_feed(hours: float, rate: float) -> tuple["subprocess.Popen[str]", str]:
    command = [
        sys.executable, "-m", "trading.feed", "--hours", str(hours), "--rate",
        str(rate), "--instruments", str(INSTRUMENTS),
    ]  # fmt: skip
    feed = subprocess.Popen(command, cwd=EXAMPLES, stdout=subprocess.PIPE, text=True)
    assert feed.stdout is not None
    return feed, json.loads(feed.stdout.readline())["url"]


async def enter(variant: str, url: str, stack: AsyncExitStack) -> tuple[Any, Any]:
    """What the engine keeps things in, and its connections."""
    names = history.instruments(INSTRUMENTS)
    if variant != "memguard":
        from trading_plain import LeanStore, PlainLinks, PlainStore

        kind = LeanStore if variant == "lean" else PlainStore
        links: Any = PlainLinks(url)
        store: Any = kind(names, engine.TIMEFRAMES, engine.COLUMNS)
    else:
        from trading.guard import Guard
        from trading.links import Links
        from trading.store import Store

        links = Links(url)
        store = Store(names, engine.TIMEFRAMES, engine.COLUMNS)
        guard = stack.enter_context(Guard(links))
        guard.watch_loop()
    stack.callback(store.close)
    await stack.enter_async_context(links)
    return store, links


async def run(variant: str, url: str) -> dict[str, Any]:
    meter, seen = Meter(), Collections()
    async with AsyncExitStack() as stack:
        store, links = await enter(variant, url, stack)
        day = session.Session(history.instruments(INSTRUMENTS), store, links)
        tasks = [asyncio.create_task(meter.look()), asyncio.create_task(meter.beat())]
        began, cpu = time.perf_counter(), time.process_time()
        await day.run()
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return figures(meter, seen, day.engine, began, wall, cpu)


def figures(
    meter: Meter, seen: Collections, host: Any, began: float, wall: float, cpu: float
) -> dict[str, Any]:
    hour = max(1, len(meter.rss_mb) // 24)
    warm = int(len(meter.rss_mb) * WARM_UP)
    start = began + wall * WARM_UP
    measured = [
        pair
        for pair in zip(seen.began_s, seen.wall_s, seen.cpu_s, strict=True)
        if pair[0] >= start
    ]
    begins = [pair[0] for pair in measured]
    windows = max(1, int(wall * (1 - WARM_UP)))
    late = meter.late_s[int(len(meter.late_s) * WARM_UP) :]
    base_mb = BASE_PAGES / PAGES_PER_MB
    status = Path("/proc/self/status").read_text()
    peak_mb = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    first, last = meter.rss_mb[hour], statistics.median(meter.rss_mb[-hour:])

    def p95_ms(pauses: list[float]) -> float:
        longest = longest_by_window(begins, pauses, start, windows)
        return quantile(longest, 0.95) * 1e3

    return {
        "rss": statistics.median(meter.rss_mb[warm:]),
        "engine_peak": peak_mb - base_mb,
        "base": base_mb,
        "growth": 100 * (last - first) / first,
        "pause_p95": p95_ms([pair[1] for pair in measured]),
        "pause_cpu_p95": p95_ms([pair[2] for pair in measured]),
        "pause_max": 1e3 * max((pair[1] for pair in measured), default=0.0),
        "gc_share": 100 * sum(pair[2] for pair in measured) / (cpu * (1 - WARM_UP)),
        "late_p99": quantile(late, 0.99) * 1e3,
        "late_p50": quantile(late, 0.5) * 1e3,
        "fds": max(meter.fds),
        "fds_growth": meter.fds[-1] - meter.fds[hour],
        "rate": host.trades / wall,
        "cpu": 100 * cpu / wall,
        "trades": host.trades,
        "fills": host.fills,
        "refused": host.refused,
    }


def main() -> None:
    variant, hours, rate = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    feed, url = start_feed(hours, rate)
    try:
        print(json.dumps(asyncio.run(run(variant, url))))
    finally:
        feed.terminate()
        feed.wait()
        gc.callbacks.clear()


if __name__ == "__main__":
    main()
