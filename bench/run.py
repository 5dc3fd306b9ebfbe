"""Runs benchmarks and writes their rows.

    run.py NAME... [--json FILE]

NAME is a domain with a file bench/NAME.py (`tool` is the memguard tool), or `all`.
Each row says what memguard takes and what its peer takes, measured side by side in
this run:

    {"name", "unit", "ours", "peer", "peer_name", "ratio"}    ratio = ours / peer,
                                                           null if peer is 0

Figures are medians of several rounds. Losses are rows like any other.
"""

import argparse
import json
import runpy
import sys
from pathlib import Path
from typing import TypedDict

HERE = Path(__file__).resolve().parent


class Row(TypedDict):
    name: str
    unit: str
    ours: float
    peer: float
    peer_name: str
    ratio: float | None  # None: the peer's figure is 0


def domains() -> list[str]:
    helpers = {"run", "measure", "group"}
    return sorted(p.stem for p in HERE.glob("*.py") if p.stem not in helpers)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev bench", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help=f"{', '.join(domains())} or all"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the rows here too"
    )
    options = parser.parse_args(argv)
    for name in options.names:
        if name != "all" and name not in domains():
            parser.error(f"no benchmark {name}; there are: {', '.join(domains())}, all")
    return options


def show(row: Row) -> None:
    name, unit, peer_name = row["name"], row["unit"], row["peer_name"]
    figures = f"{row['ours']:>12.4g} {unit:<3} {row['peer']:>12.4g} {unit:<3}"
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
    print(f"{name:<30} {figures} {ratio:>8}  {peer_name}", flush=True)


def main(argv: list[str]) -> int:
    options = parse(argv)
    names = domains() if "all" in options.names else options.names
    rows: list[Row] = []
    print(f"{'name':<30} {'memguard':>16} {'peer':>16} {'ratio':>8}  peer")
    for name in dict.fromkeys(names):
        # By path: the standard library has a module gc too.
        for row in runpy.run_path(str(HERE / f"{name}.py"))["rows"]():
            show(row)
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.exit(main(sys.argv[1:]))
