"""compare.*: how often `memguard compare` is wrong about real runs.

A program that does some work on some 40 MB, the same with 20 % more, 100 times
each: five runs against five. The peer is what a script without statistics would do
with the same runs: one run against one, 15 % of any metric.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import fewer, row

TOOL = Path(__file__).resolve().parents[1] / "build" / "bin" / "memguard"
COMPARISONS = fewer(100)
RUNS = 5
THRESHOLD = 15
BASE_MB, MORE_MB = 32, 40  # beside the 9 MB of the interpreter: 20 % more at peak

PROGRAM = """
import random, sys
size = int(sys.argv[1]) << 20
# As programs are: not all of it at once, not always the same.
parts = [bytes([1]) * (size // 32) for _ in range(32)]
rest = [random.random() for _ in range(random.randrange(20000, 40000))]
sum(len(part) for part in parts)
"""


def measure(path: Path, megabytes: int) -> list[dict[str, float]]:
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(megabytes)]
    words = [TOOL, "baseline", "--save", path, "--runs", str(RUNS), "--", *command]
    subprocess.run(words, check=True)
    runs: list[dict[str, float]] = json.loads(path.read_text())["runs"]
    return runs


def is_worse(base: Path, new: Path) -> tuple[bool, bool]:
    """Whether anything is worse, and whether peak_rss is."""
    done = subprocess.run(
        [TOOL, "compare", base, new, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    metrics = {one["name"]: one for one in json.loads(done.stdout)["metrics"]}
    return done.returncode == 1, metrics["peak_rss"]["verdict"] == "worse"


def is_naively_worse(base: dict[str, float], new: dict[str, float]) -> bool:
    return any(new[name] > base[name] * (1 + THRESHOLD / 100) for name in base)


def rows() -> Iterator[dict[str, Any]]:
    false = found = naive_false = naive_found = 0
    with tempfile.TemporaryDirectory() as folder:
        base, same, more = (Path(folder) / name for name in ("base", "same", "more"))
        for _ in range(COMPARISONS):
            base_runs = measure(base, BASE_MB)
            same_runs = measure(same, BASE_MB)
            more_runs = measure(more, MORE_MB)
            false += is_worse(base, same)[0]
            found += is_worse(base, more)[1]
            naive_false += is_naively_worse(base_runs[0], same_runs[0])
            naive_found += more_runs[0]["peak_rss"] > base_runs[0]["peak_rss"] * 1.15
    peer = "one run against one, 15 %"
    percent = 100 / COMPARISONS
    yield row("compare.false", "%", false * percent, naive_false * percent, peer)
    yield row("compare.found", "%", found * percent, naive_found * percent, peer)
