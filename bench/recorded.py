"""The landed figures, bench/recorded.json: what a run says of itself, and whether a
later one is worse.

    {"runs": {RUN: {"date", "machine", "system", "load", "versions": {NAME: VERSION}}},
     "groups": {NAME: {"run": RUN, "divisor", "seconds", "rows": [...]}}}

A group is a file of benchmarks; `divisor` that of its rounds (measure.fewer).
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from kinds import HIGHER, NEITHER, kind_of

HERE = Path(__file__).resolve().parent
FILE = HERE / "recorded.json"
PYTHON_PEERS = "psutil prometheus_client redis hiredis msgspec objgraph pandas numpy"
NODE_PEERS = "prom-client generic-pool ioredis msgpackr bullmq"

Row = dict[str, Any]
Group = dict[str, Any]


def domains() -> list[str]:
    """The benchmarks there are, landed or not."""
    return sorted(
        file.stem for file in HERE.glob("*.py") if "\ndef rows()" in file.read_text()
    )


# --- What a run was made on -----------------------------------------------------


def field_of(file: str, name: str) -> str:
    """The value of `name` in a file of lines NAME: VALUE or NAME=VALUE."""
    for line in Path(file).read_text().splitlines():
        key, _, value = line.replace("=", ":", 1).partition(":")
        if key.strip() == name:
            return value.strip().strip('"')
    return ""


def versions() -> dict[str, str]:
    node = subprocess.run(["node", "--version"], capture_output=True, text=True)
    found = {
        "CPython": platform.python_version(),
        "Node": node.stdout.strip().removeprefix("v"),
        "glibc": platform.libc_ver()[1],
    }
    for name in PYTHON_PEERS.split():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for name in NODE_PEERS.split():
        package = HERE.parent / "node_modules" / name / "package.json"
        if package.exists():
            found[name] = json.loads(package.read_text())["version"]
    return found


def environment() -> dict[str, Any]:
    memory_gib = round(int(field_of("/proc/meminfo", "MemTotal").split()[0]) / 2**20)
    model = field_of("/proc/cpuinfo", "model name") or platform.machine()
    kernel = ".".join(platform.release().split(".")[:2])
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{model}, {os.cpu_count()} cores, {memory_gib} GiB",
        "system": f"{field_of('/etc/os-release', 'PRETTY_NAME')}, Linux {kernel}",
        "load": round(os.getloadavg()[0], 1),
        "versions": versions(),
    }


# --- The file -------------------------------------------------------------------


def read(file: Path = FILE) -> dict[str, Any]:
    if not file.exists():
        return {"runs": {}, "groups": {}}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def rounded(row: Row) -> Row:
    """Four figures: more would be noise in every difference of two files."""
    figures = ("ours", "peer", "ratio")
    short = {
        name: float(f"{row[name]:.4g}") for name in figures if row[name] is not None
    }
    return {**row, **short}


def merged(
    old: dict[str, Any], run: dict[str, Any], groups: dict[str, Group]
) -> dict[str, Any]:
    """`old` with these groups in the place of theirs; runs of no group are dropped."""
    number = 1 + max((int(name) for name in old["runs"]), default=0)
    new = {
        name: {
            **group,
            "run": str(number),
            "rows": [rounded(row) for row in group["rows"]],
        }
        for name, group in groups.items()
    }
    kept = {**old["groups"], **new}
    runs = {**old["runs"], str(number): run}
    used = {group["run"] for group in kept.values()}
    return {
        "runs": {name: runs[name] for name in runs if name in used},
        "groups": {name: kept[name] for name in sorted(kept)},
    }


def write(recorded: dict[str, Any], file: Path = FILE) -> None:
    text = json.dumps(recorded, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


# --- Whether a later run is worse -----------------------------------------------


def figure_of(row: Row) -> float:
    """What is compared: the ratio, or where the peer has nothing to divide by (0, or
    a difference below it) our own figure."""
    return float(row["ratio"] if row["peer"] > 0 else row["ours"])


def worse_by(row: Row, then: Row) -> float:
    """How much worse `row` is: 0.2 for a fifth, infinite against nothing, 0 if not."""
    now, before = figure_of(row), figure_of(then)
    if (row["peer"] > 0) != (then["peer"] > 0):
        now, before = float(row["ours"]), float(then["ours"])
    if kind_of(row["name"]).better == HIGHER:
        now, before = before, now
    if now <= before:
        return 0.0
    return now / before - 1 if before > 0 else float("inf")


def is_worse(row: Row, then: Row) -> bool:
    kind = kind_of(row["name"])
    if kind.better == NEITHER or kind.tolerance is None:
        return False
    if abs(row["ours"] - then["ours"]) <= kind.slack and kind.slack:
        return False
    return worse_by(row, then) > kind.tolerance


def key_of(row: Row) -> tuple[str, str]:
    """The same row of another run; who has several peers says so by the peer."""
    return row["name"], row["peer_name"].partition(", of ")[0]


def worse(rows: list[Row], then: list[Row]) -> Iterator[str]:
    """A line for each row that is worse than it was, or gone."""
    found = {key_of(row): row for row in rows}
    for before in then:
        row = found.get(key_of(before))
        name = f"{before['name']} ({before['peer_name']})"
        if row is None:
            yield f"{name}: recorded, but not measured"
        elif is_worse(row, before):
            kind = kind_of(row["name"])
            yield (
                f"{name}: {figure_of(row):.4g}, recorded {figure_of(before):.4g}, "
                f"{kind.better} is better, allowed {kind.tolerance:.0%}"
            )


def median_rows(runs: list[list[Row]]) -> list[Row]:
    """Of each row the run in the middle, judged by what is compared."""
    middle = []
    for row in runs[0]:
        same = [other for run in runs for other in run if key_of(other) == key_of(row)]
        middle.append(sorted(same, key=figure_of)[len(same) // 2])
    return middle
