"""allocator.*: what counting the bytes of large blocks costs.

Each workload runs in processes of its own, with the raw allocator domain wrapped
and without, one after the other and again: the machine is not always as fast.
It is CPU time, so that other programs count for less. glibc keeps what is freed: how
often it gives the end of the heap back, half of the time of large blocks, depends on
where that happens to be.
"""

import statistics
import sys
from collections.abc import Iterator
from typing import Any

from measure import fewer, output_of, row

PROCESSES = fewer(30)  # of each kind
KEEPING = ["env", "MALLOC_MMAP_THRESHOLD_=33554432", "MALLOC_TRIM_THRESHOLD_=268435456"]

CHILD = """
import sys, time
from memguard import _core
if {counted}:
    assert _core._allocator_install()
{workload}
def timed():
    began = time.process_time()
    work()
    return time.process_time() - began
print(min(timed() for _ in range(12)) * 1e9 / CALLS)
"""

# Objects as services make them: dicts, lists, strings, instances, exceptions.
SMALL = """
import json, re
CALLS = 1500
class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y
word = re.compile(r"[a-z]+")
def work():
    for i in range(CALLS):
        row = {"id": i, "name": f"n{i}", "tags": ["a", "b", str(i)], "at": (i, 2.5)}
        back = json.loads(json.dumps(row))
        points = [Point(j, i * j) for j in range(20)]
        total = sum(p.x * p.y for p in points)
        names = sorted(word.findall("some words to find " + back["name"]))
        try:
            row["missing"]
        except KeyError:
            total += len(names)
"""

# Blocks of one size, made and dropped: nothing but the allocator.
BLOCKS = """
CALLS = {calls}
def work(make=bytearray):
    for _ in range(CALLS):
        make({size})
"""

# Buffers as I/O makes them: filled, copied, joined, kept for a while.
LARGE = """
CALLS = 60
from collections import deque
sizes = [65536, 262144, 1048576]
def work():
    kept = deque(maxlen=16)
    for i in range(CALLS):
        size = sizes[i % 3]
        block = bytearray(size)
        block[:1024] = b"x" * 1024
        kept.append(bytes(block))
        kept.append(b"".join([kept[-1][:size // 2], block[size // 2:]]))
"""

WORKLOADS = {
    "small": SMALL,
    "1k": BLOCKS.format(calls=20_000, size=1024),
    "8k": BLOCKS.format(calls=20_000, size=8192),
    "64k": BLOCKS.format(calls=3_000, size=65536),
    "large": LARGE,
}


def rows() -> Iterator[dict[str, Any]]:
    for name, workload in WORKLOADS.items():
        times: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(PROCESSES):
            for counted in (turn % 2 == 0, turn % 2 == 1):
                child = CHILD.format(counted=counted, workload=workload)
                words = [*KEEPING, sys.executable, "-c", child]
                times[counted].append(float(output_of(words)))
        ours, peer = map(statistics.median, times.values())
        yield row(f"allocator.{name}", "ns", ours, peer, "not wrapped")
