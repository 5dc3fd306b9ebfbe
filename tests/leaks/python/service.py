"""The loop that the programs of this folder run in.

So many operations a second for LEAK_SECONDS, in ticks; each second the count of
operations goes to standard output. Besides the operations each tick makes the
short-lived garbage that any service makes.
"""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator

TICK_S = 0.05

Load = Callable[[float], float]  # seconds since the start -> share of the rate


def steady(_seconds: float) -> float:
    return 1.0


def bursts(every_s: float, length_s: float) -> Load:
    """Nothing, and now and then everything at once."""
    return lambda seconds: every_s / length_s * (seconds % every_s < length_s)


def wave(period_s: float) -> Load:
    """Days and nights."""
    return lambda seconds: 1.0 + math.sin(2 * math.pi * seconds / period_s)


class Record:
    """Garbage in a cycle: only the collector frees it."""

    def __init__(self, number: int) -> None:
        self.text = f"record {number}"
        self.values = [number] * 16
        self.me = self


def ticks(per_second: float, load: Load = steady) -> Iterator[range]:
    """@return for each tick the numbers of the operations that are due."""
    began = time.monotonic()
    seconds = float(os.environ.get("LEAK_SECONDS", "60"))
    done, owed, told, last = 0, 0.0, 0, began
    while (now := time.monotonic()) - began < seconds:
        owed += per_second * load(now - began) * (now - last)
        last = now
        due = int(owed)
        owed -= due
        yield range(done, done + due)
        done += due
        for number in range(20):
            Record(number)
        if int(now - began) > told:
            told = int(now - began)
            print(done, flush=True)
    print(done, flush=True)


def serve(
    operation: Callable[[int], object], per_second: float, load: Load = steady
) -> None:
    for numbers in ticks(per_second, load):
        for number in numbers:
            operation(number)
        time.sleep(TICK_S)


async def serve_async(
    operation: Callable[[int], Awaitable[object]],
    per_second: float,
    load: Load = steady,
) -> None:
    for numbers in ticks(per_second, load):
        for number in numbers:
            await operation(number)
        await asyncio.sleep(TICK_S)
