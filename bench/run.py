"""Runs benchmarks and writes their rows.

    run.py NAME... [--json FILE] [--record | --check]

NAME is a domain with a file bench/NAME.py (`tool` is the memguard tool), or `all`:
every one in half an hour, where what takes minutes does a fifth of its rounds
(measure.fewer). Each row says what memguard takes and what its peer takes, measured
side by side in this run:

    {"name", "unit", "ours", "peer", "peer_name", "ratio"}    ratio = ours / peer,
                                                           null if peer is 0

Figures are medians of several rounds. Losses are rows like any other.

--record lands what was measured: bench/recorded.json, and made from it
docs/performance.md, docs/performance.svg and the figures of the README. --check (of
`all` unless named) compares with what is landed, in the same form, and fails if a
ratio is worse by more than 15 %, or as much as bench/kinds.py says. A group that
seems worse is measured twice more; what is in the middle counts.
"""

import argparse
import json
import runpy
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# At the end: the standard library has modules queue and gc too.
sys.path = [*(entry for entry in sys.path if Path(entry) != HERE), str(HERE)]

import kinds  # noqa: E402
import measure  # noqa: E402
import recorded  # noqa: E402
from recorded import domains  # noqa: E402

DIVISOR_OF_ALL = 5
REPEATS = 2  # of a group that seems worse

Row = dict[str, Any]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev bench", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(domains())} or all"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the rows here too"
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--record", action="store_true", help="land the figures")
    way.add_argument(
        "--check", action="store_true", help="fail if worse than what is landed"
    )
    options = parser.parse_args(argv)
    if not options.names:
        if not options.check:
            parser.error(f"name what to run: {', '.join(domains())} or all")
        options.names = ["all"]
    for name in options.names:
        if name != "all" and name not in domains():
            parser.error(f"no benchmark {name}; there are: {', '.join(domains())}, all")
    return options


def show(row: Row) -> None:
    name, unit, peer_name = row["name"], row["unit"], row["peer_name"]
    figures = f"{row['ours']:>12.4g} {unit:<3} {row['peer']:>12.4g} {unit:<3}"
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
    print(f"{name:<30} {figures} {ratio:>8}  {peer_name}", flush=True)


def measured(name: str, divisor: int) -> dict[str, Any]:
    """The group's rows, and how long they took."""
    measure.divisor = divisor
    began = time.monotonic()
    rows = []
    # By path: the standard library has a module gc too.
    for row in runpy.run_path(str(HERE / f"{name}.py"))["rows"]():
        kinds.kind_of(row["name"])  # or it could be neither shown nor checked
        show(row)
        rows.append(row)
    return {
        "divisor": divisor,
        "seconds": round(time.monotonic() - began),
        "rows": rows,
    }


def divisor_of(name: str, options: argparse.Namespace) -> int:
    """Of its rounds: as it is landed where that is compared with, or as was asked."""
    landed = recorded.read()["groups"]
    if options.check and name in landed:
        return int(landed[name]["divisor"])
    return DIVISOR_OF_ALL if "all" in options.names else 1


def run(divisors: dict[str, int]) -> tuple[dict[str, Any], list[str]]:
    """The groups, and those that failed: the rest of half an hour is not lost."""
    groups: dict[str, Any] = {}
    failed = []
    print(f"{'name':<30} {'memguard':>16} {'peer':>16} {'ratio':>8}  peer")
    for name, divisor in divisors.items():
        try:
            groups[name] = measured(name, divisor)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    return groups, failed


def land(groups: dict[str, Any], before: dict[str, Any]) -> None:
    recorded.write(recorded.merged(recorded.read(), before, groups))
    for script in ("chart.py", "generate.py"):
        file = HERE.parent / "docs" / script
        subprocess.run([sys.executable, str(file)], check=True)


def checked(groups: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What is worse than it is landed, also when it is measured again; and which
    groups could not be."""
    landed = recorded.read()["groups"]
    found: list[str] = []
    failed = []
    for name, group in groups.items():
        if name not in landed:
            print(f"{name}: nothing is landed to compare with")
            continue
        then, divisor = landed[name]["rows"], group["divisor"]
        try:
            if any(recorded.worse(group["rows"], then)):
                runs = [group, *(measured(name, divisor) for _ in range(REPEATS))]
                group["rows"] = recorded.median_rows([one["rows"] for one in runs])
        except Exception:
            traceback.print_exc()
            failed.append(name)
        found += recorded.worse(group["rows"], then)
    return found, failed


def main(argv: list[str]) -> int:
    options = parse(argv)
    is_all = "all" in options.names
    names = domains() if is_all else list(dict.fromkeys(options.names))
    before = recorded.environment()
    groups, failed = run({name: divisor_of(name, options) for name in names})
    if options.json:
        rows = [row for group in groups.values() for row in group["rows"]]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    took = {name: group["seconds"] for name, group in groups.items()}
    print(f"{sum(took.values())} s: " + ", ".join(f"{n} {s}" for n, s in took.items()))
    if options.record:
        land(groups, before)
    worse, lost = checked(groups) if options.check else ([], [])
    for line in worse:
        print(f"worse: {line}")
    failed += lost
    for name in failed:
        print(f"failed: {name}")
    return 1 if failed or worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
