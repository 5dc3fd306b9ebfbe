"""census.*: counting four million objects by type, beside objgraph.

`census.python` is the whole census. `census.python_hold` is how long another thread
has to wait for the GIL meanwhile: that thread sleeps and asks for it, again and again,
as one that serves requests does, and the longest wait beyond its sleep counts. What
the machine itself makes it wait, measured the same way with nothing going on, is
printed. Each figure is the median of several runs in processes of their own.
"""

import statistics
import sys
from collections.abc import Iterator
from typing import Any

from measure import fewer, output_of, row

OBJECTS = 4_000_000
RUNS = fewer(5)

PROGRAM = """
import gc, os, threading, time
import objgraph
from memguard.census import census

class Order:
    __slots__ = ("rows",)
    def __init__(self, rows):
        self.rows = rows

class Session:
    def __init__(self, number):
        self.number = number

gc.disable()
kept = []
for number in range({objects} // 4):
    rows = [number]
    kept += (rows, Order(rows), Session(number), (rows,))
gc.collect()

ends = threading.Event()
waits = []

def ask():
    while not ends.is_set():
        began = time.perf_counter()
        time.sleep(0.0005)
        waits.append(time.perf_counter() - began - 0.0005)

thread = threading.Thread(target=ask)

def longest(what):
    waits.clear()
    began = time.perf_counter()
    what()
    took = time.perf_counter() - began
    time.sleep(0.01)
    return max(waits), took

def quiet():
    time.sleep(0.3)

def plain(what):
    began = time.perf_counter()
    what()
    return time.perf_counter() - began

def peer():
    objgraph.typestats()

figures = [plain(census), plain(peer)]
thread.start()
figures += [longest(census)[0], longest(peer)[0], longest(quiet)[0]]
ends.set()
thread.join()
found = census()
assert found.types["__main__.Order"][0] == {objects} // 4
assert found.walk["is_exact"] and found.objects >= {objects}
figures.append(found.walk["longest_ms"] / 1e3)
print(*figures, flush=True)
os._exit(0)
"""


def rows() -> Iterator[dict[str, Any]]:
    runs = [
        [float(word) * 1e3 for word in output_of(child()).split()] for _ in range(RUNS)
    ]
    ours, peer, hold, peer_hold, quiet, slice_ms = map(
        statistics.median, zip(*runs, strict=True)
    )
    yield row("census.python", "ms", ours, peer, "objgraph.typestats")
    yield row("census.python_hold", "ms", hold, peer_hold, "objgraph.typestats")
    print(
        f"  the longest slice {slice_ms:.2f} ms; with nothing going on that thread "
        f"waits up to {quiet:.2f} ms",
        flush=True,
    )


def child() -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(objects=OBJECTS)]
