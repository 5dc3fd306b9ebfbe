"""What the benchmarks share: rounds, medians, child processes, rows."""

import json
import os
import statistics
import subprocess
import sys
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
UNROLLED = 10  # calls per turn of the loop, so that the loop itself weighs little
ROUNDS = 9

divisor = 1  # of rounds, for `./dev bench all`; run.py sets it before a group is loaded


def fewer(count: int, least: int = 1) -> int:
    """`count`, or the part of it that there is time for."""
    return max(least, count // divisor)


def some(items: list[Any]) -> list[Any]:
    """`items`, or as many of them, evenly picked, as there is time for."""
    return items[::divisor]


# Services whose collector is tuned: commands, run in ROOT.
TUNE_WORKLOADS = {
    "json": [sys.executable, "bench/workloads/tune_json.py"],
    "trading": [sys.executable, "bench/workloads/tune_trading.py"],
    "orm": [sys.executable, "bench/workloads/tune_orm.py"],
    "node_json": ["node", "bench/workloads/tune_node_json.js"],
    "node_orders": ["node", "bench/workloads/tune_node_orders.js"],
}


# Processes that publish what they are: N of them, sampled every so often.
MANY = """
import os, signal, sys
import memguard
monitor = memguard.MemoryMonitor({"sample_interval": sys.argv[2]})
monitor.start_monitoring()
for _ in range(int(sys.argv[1]) - 1):
    if os.fork() == 0:
        signal.pause()
print(flush=True)
signal.pause()
"""


def row(
    name: str, unit: str, ours: float, peer: float, peer_name: str
) -> dict[str, Any]:
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "peer": peer,
        "peer_name": peer_name,
        "ratio": ours / peer if peer else None,
    }


def python_ns(statement: str, names: dict[str, Any], calls: int) -> float:
    """Median time of one `statement` in this interpreter, in ns."""
    timer = timeit.Timer(";".join([statement] * UNROLLED), globals=names)
    turns = max(calls // UNROLLED, 1)
    rounds = timer.repeat(repeat=ROUNDS, number=turns)
    return statistics.median(rounds) / turns / UNROLLED * 1e9


def output_of(command: list[str]) -> str:
    """What `command` prints; Python keeps compiled files, as installed ones are."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        env=kept,
    ).stdout


def told_by(
    command: list[str], timeout_s: float, env: dict[str, str] | None = None
) -> str:
    """What a workload prints, run in ROOT; what it logs is shown only if it fails."""
    done = subprocess.run(
        command,
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout_s,
        cwd=ROOT,
        env=env,
    )
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return done.stdout


def python_child(code: str, *arguments: str) -> float:
    """Runs `code` in a fresh interpreter; it prints one number."""
    return float(output_of([sys.executable, "-c", code, *arguments]))


def node_child(code: str) -> float:
    """Runs `code` in a fresh Node; it prints one number."""
    return float(output_of(["node", "-e", code]))


def median_of(runs: int, measure: Any, *arguments: Any) -> float:
    return statistics.median(measure(*arguments) for _ in range(runs))


def node_rows(script: str) -> Iterator[dict[str, Any]]:
    """Rows that a script beside this file prints, one JSON object a line."""
    for line in output_of(["node", "--expose-gc", f"bench/{script}"]).splitlines():
        figures = json.loads(line)
        yield row(**figures)
