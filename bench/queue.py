"""queue.*: 100 000 jobs through BullMQ in a control group of 256 MB.

The queue service of node/examples against the same worker, handlers and batches
without memguard, in the same run; Redis is outside of the group. A third run has a
limit that it comes near to, so that the workers pause. Jobs are in
workloads/queue.js.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from group import ended_cleanly, memory_group, stop
from measure import ROOT, fewer, row

LIMIT_MB = 256
TIGHT_MB = 90  # max_memory_mb that the service comes near to
JOBS = fewer(100_000)
RUN_SECONDS = 600.0
OWN_RUNS = fewer(5)
OWN_ALLOWED_MB = 2.0
CPU_ALLOWED = 0.1  # percent

NODE = ["node", "bench/workloads/queue.js"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def redis() -> Iterator[int]:
    port = free_port()
    program = shutil.which("redis-server") or "redis-server"
    with tempfile.TemporaryDirectory(prefix="memguard-bench-") as folder:
        words = [program, "--bind", "127.0.0.1", "--port", str(port)]
        words += ["--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 30
            while not answers(port) and time.monotonic() < until:
                time.sleep(0.05)
            yield port
        finally:
            stop(server)


def results(port: int, name: str) -> set[str]:
    """The jobs that have a result."""
    words = ["redis-cli", "-p", str(port), "hkeys", f"{name}:results"]
    told = subprocess.run(words, capture_output=True, text=True, check=True)
    return set(told.stdout.split())


def run(port: int, name: str, way: str, max_memory_mb: int) -> dict[str, Any]:
    words = [*NODE, way, f"redis://127.0.0.1:{port}", name, str(JOBS)]
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
    there = results(port, name)
    lost = sum(f"job-{number}" not in there for number in range(JOBS))
    alive = code == 0 and kills == 0
    said |= {"alive": alive, "lost": lost, "extra": len(there) - JOBS + lost}
    print(f"  {name:<9} {json.dumps(said)}", flush=True)
    return said


def own() -> dict[str, float]:
    """What memguard takes: memory written to, and all that is resident (its code
    and what it touches of Node's as well)."""
    told = subprocess.run([*NODE, "own"], capture_output=True, text=True, cwd=ROOT)
    said: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return said


def wrong(said: dict[str, Any]) -> int:
    """Jobs lost, run twice or made up."""
    return int(said["lost"] + said["extra"] + said.get("duplicates", 0))


def rows() -> Iterator[dict[str, Any]]:
    with ended_cleanly(), redis() as port:
        plain = run(port, "plain", "plain", LIMIT_MB)
        guarded = run(port, "guarded", "guarded", LIMIT_MB)
        tight = run(port, "tight", "guarded", TIGHT_MB)
    no_memguard = "no memguard"
    alive = int(guarded["alive"] and tight["alive"])
    yield row("queue.alive", "1/0", alive, int(plain["alive"]), no_memguard)
    bad = wrong(guarded) + wrong(tight)
    yield row("queue.lost_or_twice", "", bad, wrong(plain), no_memguard)
    if not (alive and plain["alive"]):
        return
    speeds = [JOBS / one["seconds"] for one in (guarded, plain)]
    yield row("queue.speed", "/s", *speeds, no_memguard)
    yield row("queue.cpu", "us", guarded["cpuUs"], plain["cpuUs"], no_memguard)
    yield row("queue.peak", "MB", guarded["peakMb"], plain["peakMb"], no_memguard)
    yield row("queue.p99", "ms", guarded["p99Ms"], plain["p99Ms"], no_memguard)
    calm = "memguard, unpressured"
    yield row("queue.paused.p99", "ms", tight["p99Ms"], guarded["p99Ms"], calm)
    yield row("queue.paused.pauses", "", tight["pauses"], guarded["pauses"], calm)
    cpu = 100 * guarded["samplerSeconds"] / guarded["seconds"]
    yield row("queue.monitoring_cpu", "%", cpu, CPU_ALLOWED, "allowed")
    taken = [own() for _ in range(OWN_RUNS)]
    for field, name in (("dirtyMb", "own_memory"), ("rssMb", "own_resident")):
        middle = median(one[field] for one in taken)
        yield row(f"queue.{name}", "MB", middle, OWN_ALLOWED_MB, "allowed")
