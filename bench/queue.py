"""queue.*: 100 000 jobs through BullMQ in a control group of 256 MB.

The queue service of node/examples against the same worker, handlers and batches
without memguard, in turns; Redis is outside of the group. A third side has a limit
that it comes near to, so that the workers pause. Figures are medians of the rounds,
lost jobs those of all. Jobs are in workloads/queue.js.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from statistics import median
from typing import Any

from group import ended_cleanly, memory_group, stop
from measure import ROOT, fewer, row
from redis_server import redis

LIMIT_MB = 256
TIGHT_MB = 90  # max_memory_mb that the service comes near to
JOBS = fewer(100_000)
ROUNDS = fewer(3, 2)
SIDES = {  # the workload's way, max_memory_mb
    "plain": ("plain", LIMIT_MB),
    "guarded": ("guarded", LIMIT_MB),
    "tight": ("guarded", TIGHT_MB),
}
RUN_SECONDS = 600.0
OWN_RUNS = fewer(5)
OWN_ALLOWED_MB = 2.0
CPU_ALLOWED = 0.1  # percent

NODE = ["node", "bench/workloads/queue.js"]


def results(url: str, name: str) -> set[str]:
    """The jobs that have a result."""
    words = ["redis-cli", "-u", url, "hkeys", f"{name}:results"]
    told = subprocess.run(words, capture_output=True, text=True, check=True)
    return set(told.stdout.split())


def run(url: str, name: str, way: str, max_memory_mb: int) -> dict[str, Any]:
    words = [*NODE, way, url, name, str(JOBS)]
    with (
        memory_group(LIMIT_MB) as group,
        tempfile.TemporaryFile("w+") as out,
    ):
        process = subprocess.Popen(
            group.command([*words, str(max_memory_mb)]), stdout=out, cwd=ROOT
        )
        try:
            code: int | None = process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        stop(process)
        out.seek(0)
        lines = out.read().splitlines()
        said = json.loads(lines[-1]) if code == 0 else {}
        kills = group.kills()
    there = results(url, name)
    lost = sum(f"job-{number}" not in there for number in range(JOBS))
    alive = code == 0 and kills == 0
    said |= {"alive": alive, "lost": lost, "extra": len(there) - JOBS + lost}
    print(f"  {name:<10} {json.dumps(said)}", flush=True)
    return said


def own() -> dict[str, float]:
    """What memguard takes: memory written to, and all that is resident (its code
    and what it touches of Node's as well)."""
    told = subprocess.run([*NODE, "own"], capture_output=True, text=True, cwd=ROOT)
    said: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return said


def wrong(rounds: list[dict[str, Any]]) -> int:
    """Jobs lost, run twice or made up."""
    return sum(one["lost"] + one["extra"] + one.get("duplicates", 0) for one in rounds)


def all_alive(rounds: list[dict[str, Any]]) -> int:
    return int(all(one["alive"] for one in rounds))


def rounds_of_sides() -> dict[str, list[dict[str, Any]]]:
    seen: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with ended_cleanly(), redis() as url:
        for number in range(ROUNDS):
            # To and fro: the first one finds Redis empty, the next ones do not.
            for side in list(SIDES)[:: -1 if number % 2 else 1]:
                seen[side].append(run(url, f"{side}-{number}", *SIDES[side]))
    return seen


def rows() -> Iterator[dict[str, Any]]:
    plain, guarded, tight = rounds_of_sides().values()
    no_memguard = "no memguard"
    alive = all_alive(guarded + tight)
    yield row("queue.alive", "1/0", alive, all_alive(plain), no_memguard)
    bad = wrong(guarded) + wrong(tight)
    yield row("queue.lost_or_twice", "", bad, wrong(plain), no_memguard)
    if not (alive and all_alive(plain)):
        return

    def middle(rounds: list[dict[str, Any]], field: str) -> float:
        return median(one[field] for one in rounds)

    speeds = [JOBS / middle(rounds, "seconds") for rounds in (guarded, plain)]
    yield row("queue.speed", "/s", *speeds, no_memguard)
    for name, unit, field in (
        ("cpu", "us", "cpuUs"),
        ("peak", "MB", "peakMb"),
        ("p99", "ms", "p99Ms"),
    ):
        both = [middle(rounds, field) for rounds in (guarded, plain)]
        yield row(f"queue.{name}", unit, *both, no_memguard)
    for name, unit, field in (
        ("paused.p99", "ms", "p99Ms"),
        ("paused.pauses", "", "pauses"),
    ):
        both = [middle(rounds, field) for rounds in (tight, guarded)]
        yield row(f"queue.{name}", unit, *both, "memguard, unpressured")
    cpu = median(100 * one["memguardSeconds"] / one["seconds"] for one in guarded)
    yield row("queue.monitoring_cpu", "%", cpu, CPU_ALLOWED, "allowed")
    taken = [own() for _ in range(OWN_RUNS)]
    for field, name in (("dirtyMb", "own_memory"), ("rssMb", "own_resident")):
        yield row(
            f"queue.{name}", "MB", middle(taken, field), OWN_ALLOWED_MB, "allowed"
        )
