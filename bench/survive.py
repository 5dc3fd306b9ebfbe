"""survive.*: the same jobs with and without memguard under a limit of 256 MB.

Each case runs three ways: with no limit and no memguard, in a control group of
256 MB without memguard, and in the group with memguard. The jobs are in
workloads/survive.py and .js; memguard finds the limit by itself.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from group import ended_cleanly, memory_group, stop
from measure import ROOT, fewer, row

LIMIT_MB = 256
RUNS = fewer(5)
DOOMED_RUNS = fewer(3)  # in the group without memguard
RUN_SECONDS = 120.0

PYTHON = [sys.executable, "bench/workloads/survive.py"]
NODE = ["node", "bench/workloads/survive.js"]
CASES: dict[str, dict[str, list[str]]] = {
    "a": {"python": [*PYTHON, "a"]},
    "b": {"python": [*PYTHON, "b"]},
    "c": {"python": [*PYTHON, "c"]},
    "d": {"node": [*NODE, "d"]},
    "e": {"node": [*NODE, "e"]},
    "f": {"python": [*PYTHON, "f"], "node": [*NODE, "f"]},
    "g": {"python": [*PYTHON, "g"]},
}


@dataclass
class Run:
    """What one process did."""

    alive: bool
    ended_s: float  # on the clock that the jobs use
    said: dict[str, Any]  # the last value of each field it told
    errors: str

    @property
    def speed(self) -> float:
        """Jobs per second; 0 for a process that did not finish."""
        if not self.alive:
            return 0.0
        return self.said["jobs"] / (self.said["ended_s"] - self.said["began_s"])


def finished(process: "subprocess.Popen[str]", folder: Path, part: str) -> Run:
    try:
        status: int | None = process.wait(RUN_SECONDS)
    except subprocess.TimeoutExpired:
        status = None
    ended_s = time.monotonic()
    stop(process)
    said: dict[str, Any] = {"jobs": 0}
    for line in (folder / f"{part}.out").read_text().splitlines():
        said |= json.loads(line)
    alive = status == 0 and "ended_s" in said
    return Run(alive, ended_s, said, (folder / f"{part}.err").read_text())


def run(parts: dict[str, list[str]], limit_mb: int | None, guard: bool) -> list[Run]:
    """Runs the parts side by side, in a group of their own if there is a limit."""
    if limit_mb is not None:
        with memory_group(limit_mb) as group:
            inside = {part: group.command(words) for part, words in parts.items()}
            return run(inside, None, guard)
    processes = []
    with tempfile.TemporaryDirectory(prefix="memguard-bench-") as name:
        folder = Path(name)
        try:
            for part, words in parts.items():
                with (
                    (folder / f"{part}.out").open("w") as out,
                    (folder / f"{part}.err").open("w") as err,
                ):
                    command = [*words, "memguard"] if guard else words
                    processes.append(
                        subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT)
                    )
            return [
                finished(process, folder, part)
                for process, part in zip(processes, parts, strict=True)
            ]
        finally:
            for process in processes:
                stop(process)


def show(
    case: str, way: str, parts: dict[str, list[str]], runs: list[list[Run]]
) -> None:
    for index, part in enumerate(parts):
        mine = [parts_run[index] for parts_run in runs]
        ended = [one for one in mine if one.alive]
        speed = f"{median(one.speed for one in ended):.6g} jobs/s" if ended else ""
        died = ", ".join(str(one.said["jobs"]) for one in mine if not one.alive)
        end = f"ended after jobs: {died}" if died else ""
        print(
            f"  {case} {part:<7} {way:<22} finished {len(ended)} of {len(mine)}"
            f"  {speed}  {end}",
            flush=True,
        )
        for one in mine:
            if way == "in the group, memguard" and not one.alive and one.errors:
                print("    " + one.errors.strip().splitlines()[-1])


def all_alive(runs: list[list[Run]]) -> int:
    return int(all(one.alive for parts_run in runs for one in parts_run))


def case_rows(case: str) -> Iterator[dict[str, Any]]:
    parts = CASES[case]
    free, guarded = [], []
    doomed = [run(parts, LIMIT_MB, guard=False) for _ in range(DOOMED_RUNS)]
    for _ in range(RUNS):  # in turns: the machine is not always as fast
        free.append(run(parts, None, guard=False))
        guarded.append(run(parts, LIMIT_MB, guard=True))
    show(case, "no limit", parts, free)
    show(case, "in the group", parts, doomed)
    show(case, "in the group, memguard", parts, guarded)
    yield row(
        f"survive.{case}.alive",
        "1/0",
        all_alive(guarded),
        all_alive(doomed),
        "no memguard",
    )
    speeds = []
    for index in range(len(parts)):
        ours = median(parts_run[index].speed for parts_run in guarded)
        peer = median(parts_run[index].speed for parts_run in free)
        speeds.append((ours / peer, ours, peer))
    _, ours, peer = min(speeds)  # of two parts the one that lost more; see above
    yield row(f"survive.{case}.speed", "/s", ours, peer, "no limit, no memguard")


def reported_row() -> dict[str, Any]:
    """Case g cannot survive: what counts is what it was told before its end."""
    parts = CASES["g"]
    (doomed,) = run(parts, LIMIT_MB, guard=False)
    guarded = [one for _ in range(RUNS) for one in run(parts, LIMIT_MB, guard=True)]
    show("g", "in the group", parts, [[doomed]])
    show("g", "in the group, memguard", parts, [[one] for one in guarded])
    told = [one for one in guarded if "shed_s" in one.said]
    early_ms = [f"{(one.ended_s - one.said['shed_s']) * 1e3:.0f}" for one in told]
    print(f"  g shed hook called, ms before the kill: {', '.join(early_ms) or 'never'}")
    return row(
        "survive.g.reported",
        "1/0",
        int(len(told) == len(guarded)),
        int("shed_s" in doomed.said),
        "no memguard",
    )


def rows() -> Iterator[dict[str, Any]]:
    with ended_cleanly():
        for case in CASES:
            if case != "g":
                yield from case_rows(case)
        yield reported_row()
