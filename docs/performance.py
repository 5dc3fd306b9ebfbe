"""The landed figures as a page: every row of every benchmark."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# At the end: benchmarks are named as what they measure, some as standard modules.
sys.path.append(str(ROOT / "bench"))

import recorded  # noqa: E402
from kinds import HIGHER, NEITHER, kind_of  # noqa: E402

LEVEL = 0.05  # nearer to the peer than this is neither

PAGE = """# Performance

{from_}

Every figure that `./dev bench --record` has landed: what memguard takes, what its peer
takes for the same in the same run, and how many times better or worse that is. Losses
are bold. Of a group that says so only a part of the rounds was made, as a run of `all`
does with what takes minutes. What a row means, and how to repeat it:
[bench/README.md](../bench/README.md). `./dev bench --check` fails when a ratio is more
than 15 % worse than here, or than [bench/kinds.py](../bench/kinds.py) allows.

![Each row as a dot, by how many times better or worse than its peer](performance.svg)
"""
HEAD = "\n| Row | memguard | peer | | peer is |\n|---|---|---|---|---|\n"


def number(value: float) -> str:
    """Three figures, thousands apart."""
    if value < 0:
        return f"-{number(-value)}"
    if value and abs(value) < 0.001:
        return f"{value:.2g}"
    digits = f"{float(f'{value:.3g}'):.10f}".rstrip("0").rstrip(".")
    whole, _, rest = digits.partition(".")
    return f"{int(whole):,}".replace(",", " ") + (f".{rest}" if rest else "")


def with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}" if unit not in ("", "1", "1/0") else number(value)


def advantage(row: dict[str, Any]) -> float | None:
    """How many times better than the peer; below 1 is worse, None cannot be said: of
    nothing, and of a difference below it, no figure is a multiple."""
    better = kind_of(row["name"]).better
    if better == NEITHER or row["ours"] <= 0 or row["peer"] <= 0:
        return None
    ratio = float(row["ratio"])
    return ratio if better == HIGHER else 1 / ratio


def is_loss(row: dict[str, Any]) -> bool:
    times = advantage(row)
    if times is not None:
        return times < 1 - LEVEL
    better = kind_of(row["name"]).better
    if better == NEITHER:
        return False
    ours, peer = row["ours"], row["peer"]
    return bool(ours < peer if better == HIGHER else ours > peer)


def verdict(row: dict[str, Any]) -> str:
    times = advantage(row)
    if times is None:
        return "**worse**" if is_loss(row) else ""
    if times < 1 - LEVEL:
        return f"**{number(1 / times)} times worse**"
    return f"{number(times)} times better" if times > 1 + LEVEL else "level"


def run_line(number: str, run: dict[str, Any], groups: list[str]) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in run["versions"].items())
    load = f" at a load of {run['load']}" if "load" in run else ""
    return (
        f"\n({number}) {run['date']}, {run['machine']}, {run['system']}{load}: "
        f"{', '.join(f'`{name}`' for name in groups)}. {versions}.\n"
    )


def page(from_: str) -> Iterator[str]:
    landed = recorded.read()
    groups = landed["groups"]
    yield PAGE.format(from_=from_)
    shown = {name: str(at) for at, name in enumerate(landed["runs"], 1)}
    for name, run in landed["runs"].items():
        of_it = [group for group in groups if groups[group]["run"] == name]
        yield run_line(shown[name], run, of_it)
    missing = [f"`{name}`" for name in recorded.domains() if name not in groups]
    if missing:
        yield f"\nNot landed yet: {', '.join(missing)}.\n"
    yield HEAD
    for name, group in groups.items():
        form = f", 1/{group['divisor']} of its rounds" if group["divisor"] > 1 else ""
        yield f"| ***{name}*** ({shown[group['run']]}){form} | | | | |\n"
        for row in group["rows"]:
            ours, peer = (
                with_unit(row[side], row["unit"]) for side in ("ours", "peer")
            )
            cells = (f"`{row['name']}`", ours, peer, verdict(row), row["peer_name"])
            yield f"| {' | '.join(cells)} |\n"
