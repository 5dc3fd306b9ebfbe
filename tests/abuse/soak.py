"""Runs services under memguard for a long time: their memory, descriptors and threads
have to stay as they are.

    soak.py [--minutes N] [--rate N] [--runtime python|node]

A Python and a Node service run for that many minutes (30). With a rate, their clocks
run so many times as fast: 1 minute at 720 is half a day. What they hold is read from
outside, 240 times; compared are the second quarter of the time and the last: in the
first caches and histories fill. Prints a line for each and ends with 1 if one did not
stay flat, or was flat because it did nothing.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
NODE = ["node", "--no-concurrent-recompilation", "--no-concurrent-sparkplug"]
NODE += ["--no-warnings", "--expose-gc"]
NODE += ["--max-semi-space-size=1", "--max-old-space-size=96"]
HOSTS = {
    "python": [sys.executable, str(HERE / "soak_host.py")],
    "node": [*NODE, str(HERE / "soak_host.js")],
}
LOOKS = 240
# Seconds between two rounds of a service, as its own clock counts them.
ROUND_S = 0.1
# What may come between the quarters. V8 sizes its heap as it likes.
MORE_MB = {"python": 3.0, "node": 8.0}
MORE_FDS = MORE_THREADS = 1
END_S = 60
COUNTS = ("rounds", "samples", "answers")  # that a host prints at its end
LEAST = 20  # of each


@dataclass(frozen=True)
class Look:
    """What a process holds at one moment."""

    rss_mb: float
    fds: int
    threads: int


def look_at(pid: int) -> Look:
    status = Path(f"/proc/{pid}/status").read_text()
    value = dict(line.split(":", 1) for line in status.splitlines())
    return Look(
        int(value["VmRSS"].split()[0]) / 1024,
        len(os.listdir(f"/proc/{pid}/fd")),
        int(value["Threads"]),
    )


def verdict(runtime: str, looks: Sequence[Look]) -> str:
    """Empty, or what grew. A single look may meet a collection or a request, so
    that medians are compared."""
    quarter = len(looks) // 4
    before, after = looks[quarter : 2 * quarter], looks[-quarter:]
    grown = []
    for name, most in (
        ("rss_mb", MORE_MB[runtime]),
        ("fds", MORE_FDS),
        ("threads", MORE_THREADS),
    ):
        first, last = (
            statistics.median(getattr(one, name) for one in part)
            for part in (before, after)
        )
        if last - first > most:
            grown.append(f"{name} grew from {first:.1f} to {last:.1f}")
    return ", ".join(grown)


def clock_library(folder: str) -> str:
    library = f"{folder}/fast_clock.so"
    flags = ["-shared", "-fPIC", "-O1", "-D_GNU_SOURCE"]
    subprocess.run(
        ["cc", *flags, str(HERE / "fast_clock.c"), "-o", library], check=True
    )
    return library


def started(runtime: str, folder: str, rate: int) -> "subprocess.Popen[str]":
    extra = {"MEMGUARD_DIR": folder, "MEMGUARD_LONG_PAUSE": "60s"}
    if rate > 1:
        extra |= {"LD_PRELOAD": clock_library(folder), "CLOCK_RATE": str(rate)}
    # At most some 20 rounds a second, however fast the time.
    pause_s = max(ROUND_S, rate / 20)
    return subprocess.Popen(
        [*HOSTS[runtime], str(pause_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **extra},
    )


def finished(runtime: str, host: "subprocess.Popen[str]", looks: list[Look]) -> str:
    """What is wrong with it, or empty. Prints how it went."""
    out, _ = host.communicate(timeout=END_S)
    if host.returncode != 0 or len(looks) < LOOKS:
        wrong = f"exit code {host.returncode} after {len(looks)} looks"
        print(f"{runtime}: {wrong}", flush=True)
        return wrong
    counts = dict(zip(COUNTS, map(int, out.split()), strict=True))
    few = [f"only {count} {name}" for name, count in counts.items() if count < LEAST]
    wrong = ", ".join([*few, *filter(None, [verdict(runtime, looks)])])
    done = ", ".join(f"{count} {name}" for name, count in counts.items())
    rss = [one.rss_mb for one in looks[len(looks) // 4 :]]
    print(
        f"{runtime}: {done}, rss {rss[0]:.1f} MB"
        f" -> {rss[-1]:.1f} MB ({min(rss):.1f} to {max(rss):.1f}),"
        f" {looks[-1].fds} descriptors, {looks[-1].threads} threads:"
        f" {wrong or 'flat'}",
        flush=True,
    )
    return wrong


def soak(runtimes: Sequence[str], seconds: float, rate: int) -> dict[str, str]:
    """What is wrong with each service."""
    wrong = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="memguard-soak-") as folder:
        hosts = {name: started(name, folder, rate) for name in runtimes}
        looks: dict[str, list[Look]] = {name: [] for name in runtimes}
        try:
            for _ in range(LOOKS):
                time.sleep(seconds / LOOKS)
                for name, host in hosts.items():
                    with contextlib.suppress(OSError, KeyError):  # it is over
                        looks[name].append(look_at(host.pid))
            for name, host in hosts.items():
                wrong[name] = finished(name, host, looks[name])
        finally:
            for host in hosts.values():
                host.kill()
                host.communicate()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=1)
    parser.add_argument("--runtime", action="append", choices=sorted(HOSTS))
    chosen = parser.parse_args()
    if not (0 < chosen.minutes <= 1440 and 1 <= chosen.rate <= 10000):
        parser.error("allowed: more than 0 up to 1440 minutes, a rate of 1 to 10000")
    wrong = soak(chosen.runtime or list(HOSTS), chosen.minutes * 60, chosen.rate)
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())
