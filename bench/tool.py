"""run.startup.*: what `memguard run` adds to the start of a program that does nothing.
top.once200: `memguard top --once --json` while 200 processes live. gc_profile.*:
`memguard gc-profile --optimize` on the workloads of tune.py, as it reports itself.

The project's goals: 30 ms, 20 ms, half the P95 over seconds of the longest pause.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from measure import MANY, ROOT, TUNE_WORKLOADS, fewer, row

TOOL = ROOT / "build" / "bin" / "memguard"
ROUNDS = 15
PROCESSES = 200
WARM_UP_S, SETTLE_S, PROFILE_S = 6, fewer(20, least=8), fewer(20, least=8)
SERVE_S = 300  # the tool ends it
LIMIT_S = 200


def seconds_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def call_of(words: list[str]) -> Callable[[], object]:
    """Python keeps compiled files, as installed ones are."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run(
        words, check=True, stdout=subprocess.DEVNULL, env=kept
    )


def startup(name: str, command: list[str]) -> dict[str, Any]:
    """One after the other, so that both meet the same machine."""
    bare, ours = call_of(command), call_of([str(TOOL), "run", "--", *command])
    ours()  # compiles what is imported
    pairs = [(seconds_of(ours), seconds_of(bare)) for _ in range(ROUNDS)]
    added = statistics.median(1e3 * (one - other) for one, other in pairs)
    alone = statistics.median(1e3 * other for _, other in pairs)
    return row(f"run.startup.{name}", "ms", added, alone, "the start itself")


@contextlib.contextmanager
def many_processes() -> Iterator[None]:
    """They publish into the folder of this process's MEMGUARD_DIR."""
    with subprocess.Popen(
        [sys.executable, "-c", MANY, str(PROCESSES), "10s"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as first:
        try:
            assert first.stdout is not None
            first.stdout.readline()
            until = time.monotonic() + 60
            words = [TOOL, "ps", "--json"]
            while time.monotonic() < until:
                seen = json.loads(subprocess.check_output(words))["processes"]
                if len(seen) == PROCESSES:
                    break
                time.sleep(0.2)
            assert len(seen) == PROCESSES
            yield
        finally:
            os.killpg(first.pid, 9)


def top() -> dict[str, Any]:
    with many_processes():
        ours = call_of([str(TOOL), "top", "--once", "--json"])
        peer = call_of(["ps", "-eo", "pid,rss,vsz,nlwp,args"])
        pairs = [(seconds_of(ours), seconds_of(peer)) for _ in range(ROUNDS)]
    return row(
        "top.once200",
        "ms",
        statistics.median(1e3 * one for one, _ in pairs),
        statistics.median(1e3 * other for _, other in pairs),
        "ps of all processes",
    )


def gc_profile(name: str, command: list[str]) -> dict[str, Any]:
    words = ["--duration", PROFILE_S, "--optimize", "--settle", SETTLE_S, "--json"]
    serving = [*command, "default", WARM_UP_S, SERVE_S]
    done = subprocess.run(
        [str(word) for word in [TOOL, "gc-profile", *words, "--", *serving]],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        timeout=LIMIT_S, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout)
    return row(
        f"gc_profile.{name}",
        "ms",
        report["after"]["seconds_p95_ms"],
        report["seconds_p95_ms"],
        "before it was tuned",
    )


def rows() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="memguard-bench-") as place:
        os.environ["MEMGUARD_DIR"] = place
        try:
            yield startup("python", [sys.executable, "-c", ""])
            yield startup("node", ["node", "-e", "0"])
            yield top()
            for name, command in TUNE_WORKLOADS.items():
                yield gc_profile(name, command)
        finally:
            del os.environ["MEMGUARD_DIR"]
