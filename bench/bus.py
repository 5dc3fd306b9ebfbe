"""bus.*: messages over Redis with rented memory, and the same code without.

A program publishes to itself, 32 messages at a time, as MessagePack (`bus`) or JSON
(`bus_json`): serialize, publish, receive, deserialize. `bus_serialize` and
`bus_serialize_json` are serialization alone. The peer is the code a program would
have without memguard: the same serializer and the ecosystem's Redis client, batches
sent by its pipeline. In `bus_off` the peer is memguard's own code with its pool
switched off, which tells what of it is due to pooling. Each figure is the median of
fresh processes, the sides one after the other.

alloc       bytes that a message takes from the allocator. Python: malloc counted
            by a preloaded library, small objects too (PYTHONMALLOC=malloc). Node:
            growth of the heap and of ArrayBuffers while nothing is collected.
throughput  messages a second
p99         ms from the start of a batch to the arrival of each message; alone: per
            message
peak_rss    MB, largest resident set of the process
gc          collections for a million messages
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import ROOT, fewer, row, some
from redis_server import redis

SIZES = dict(some([("4k", 4096), ("1k", 800), ("64k", 65536)]))
UNITS = {
    "alloc": "B",
    "throughput": "/s",
    "p99": "ms",
    "peak_rss": "MB",
    "gc": "/M",
}
RUNS = fewer(3)
WORKLOADS = {
    "python": [sys.executable, "bench/workloads/bus.py"],
    "node": ["node", "--expose-gc", "bench/workloads/bus.js"],
}
PEERS = {  # with Redis, and alone
    ("python", True): "redis-py, msgspec",
    ("python", False): "msgspec",
    ("node", True): "ioredis, msgpackr or JSON",
    ("node", False): "msgpackr or JSON",
}


def child(language: str, measure: str, *arguments: str) -> dict[str, float]:
    environment = dict(os.environ)
    if measure == "alloc" and language == "python":
        environment |= {
            "LD_PRELOAD": f"{ROOT}/build/libbench_count.so",
            "PYTHONMALLOC": "malloc",
        }
    done = subprocess.run(
        [*WORKLOADS[language], measure, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def both(
    language: str, sides: tuple[str, str], arguments: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """The figures of both sides."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(RUNS):
        for side in sides:
            runs[side].append(child(language, "run", side, *arguments))
    figures = []
    for side in sides:
        medians = {
            name: statistics.median(run[name] for run in runs[side])
            for name in runs[side][0]
        }
        medians |= child(language, "alloc", side, *arguments)
        figures.append(medians)
    return figures[0], figures[1]


def cells(
    name: str, language: str, sides: tuple[str, str], format_: str, url: str
) -> Iterator[dict[str, Any]]:
    is_off = sides[1] == "off"
    peer_name = "memguard, pool off" if is_off else PEERS[language, bool(url)]
    for size, count in SIZES.items():
        arguments = (format_, str(count), *([url] if url else []))
        ours, peer = both(language, sides, arguments)
        for figure, unit in UNITS.items():
            yield row(
                f"{name}.{language}.{size}.{figure}",
                unit,
                ours[figure],
                peer[figure],
                peer_name,
            )


def rows() -> Iterator[dict[str, Any]]:
    with redis() as url:
        for language, command in WORKLOADS.items():
            if not (Path(ROOT) / command[-1]).exists():
                continue
            plain = ("pooled", "plain")
            yield from cells("bus", language, plain, "msgpack", url)
            yield from cells("bus_json", language, plain, "json", url)
            yield from cells("bus_off", language, ("pooled", "off"), "msgpack", url)
            yield from cells("bus_serialize", language, plain, "msgpack", "")
            yield from cells("bus_serialize_json", language, plain, "json", "")
