"""trading.*: the trading engine for a day of market, with memguard and without.

The engine of python/examples/trading follows 20 instruments at 5000 trades a second
over websockets; a day of market takes a minute. The peer (workloads/trading_plain.py)
is the same engine, fed the same trades, which keeps the same things in deques of
dicts and makes DataFrames of them; in the rows `trading_lean` it keeps a tuple of two
numbers for a trade. Each figure is the median of runs in processes of their own, the
sides one after the other.

rss          MB, median over seconds, interpreter and pandas included
engine_peak  MB, peak beyond what interpreter, numpy and pandas take
pause_p95    ms, P95 over seconds of the longest collection in each
late_p99     ms, how late the loop's timers are
growth       % of the resident set, from the end of the first hour to that of the day
fds          descriptors, the most there were
fds_growth   descriptors, from the end of the first hour to that of the day
rate         trades a second that the engine took
"""

import json
import os
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from group import ended_cleanly
from measure import fewer, row, told_by

RUNS = fewer(3)
HOURS = 24.0
RATE = 5000.0
LIMIT_S = 300
PEERS = {
    "plain": ("trading", "deques, dicts, DataFrames"),
    "lean": ("trading_lean", "the same, tuples of two for trades"),
}
UNITS = {
    "rss": "MB",
    "engine_peak": "MB",
    "pause_p95": "ms",
    "late_p99": "ms",
    "growth": "%",
    "fds": "",
    "fds_growth": "",
    "rate": "/s",
}
SHOWN = ("base", "pause_cpu_p95", "pause_max", "gc_share", "late_p50", "cpu")


def run(variant: str) -> dict[str, float]:
    foreign = ("MEMGUARD_", "PYTHONGC", "PYTHONMALLOC")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    command = [sys.executable, "bench/workloads/trading.py", variant]
    told = told_by([*command, str(HOURS), str(RATE)], LIMIT_S, env)
    found: dict[str, float] = json.loads(told)
    more = ", ".join(f"{name} {found[name]:.3g}" for name in SHOWN)
    print(f"  trading {variant}: {more}", flush=True)
    return found


def rows() -> Iterator[dict[str, Any]]:
    with ended_cleanly():
        sides = ("memguard", *PEERS)
        seen: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(RUNS):
            for side in sides:
                seen[side].append(run(side))
        for side, (prefix, peer_name) in PEERS.items():
            for figure, unit in UNITS.items():
                ours, peer = (
                    statistics.median(found[figure] for found in seen[name])
                    for name in ("memguard", side)
                )
                yield row(f"{prefix}.{figure}", unit, ours, peer, peer_name)
