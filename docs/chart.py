"""Draws the landed figures: docs/performance.svg.

A dot is a row: how many times better or worse than its peer, on a logarithmic axis.
What has no peer to be compared with, or one of the two figures 0, stands in the table
alone.

    chart.py [RECORDED.json CHART.svg]
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from performance import LEVEL, ROOT, advantage, kind_of, recorded

FILE = Path(__file__).with_name("performance.svg")
BETTER, WORSE, SAME = "#1f6feb", "#d1480f", "#7d8590"
LEAST, MOST = 0.05, 2000.0  # what lies beyond is drawn at the edge, as an arrow
COLUMNS = 3
MANY = 32  # rows of a domain that have lines of their own at most
LINE_INCHES = 0.17
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "memguard", "font.size": 7}


def label_of(name: str, is_long: bool) -> str:
    """Of a domain of many rows those of a kind and a language share a line."""
    pattern = kind_of(name).pattern
    if not is_long or "*" not in pattern:
        return name
    languages = [part for part in name.split(".") if part in ("python", "node")]
    return " ".join([pattern, *languages])


def lines_of(group: dict[str, Any]) -> dict[str, list[float]]:
    lines: dict[str, list[float]] = {}
    for row in group["rows"]:
        times = advantage(row)
        if times is not None:
            label = label_of(row["name"], len(group["rows"]) > MANY)
            lines.setdefault(label, []).append(times)
    return lines


def colour(times: float) -> str:
    if abs(times - 1) <= LEVEL:
        return SAME
    return BETTER if times > 1 else WORSE


def columns_of(heights: dict[str, int]) -> list[list[str]]:
    """Each domain into the column that is shortest so far, the tallest first."""
    columns: list[list[str]] = [[] for _ in range(COLUMNS)]
    for name in sorted(heights, key=lambda name: -heights[name]):
        min(columns, key=lambda names: sum(heights[n] for n in names)).append(name)
    return [sorted(names) for names in columns]


def draw_domain(axes: Any, name: str, lines: dict[str, list[float]]) -> None:
    for at, values in enumerate(lines.values()):
        for times in values:
            marker = "o" if LEAST <= times <= MOST else "<" if times < 1 else ">"
            shown = min(max(times, LEAST), MOST)
            axes.plot(shown, at, marker, color=colour(times), markersize=3.5, alpha=0.8)
    axes.axvline(1, color=SAME, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(LEAST / 1.5, MOST * 1.5)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_yticks(range(len(lines)), list(lines))
    axes.set_xticks(
        [0.1, 1, 10, 100, 1000], ["0.1", "level", "10 x", "100 x", "1000 x"]
    )
    axes.minorticks_off()
    axes.grid(axis="x", color="#d0d7de", linewidth=0.4)
    axes.set_title(name, loc="left", fontweight="bold", pad=2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=1)


def draw(landed: dict[str, Any], file: Path) -> None:
    # Only who draws waits for it; what it keeps stays in the checkout.
    os.environ.setdefault("MPLCONFIGDIR", str(ROOT / "build" / "matplotlib"))
    import matplotlib
    from matplotlib.figure import Figure

    domains = {name: lines_of(group) for name, group in landed["groups"].items()}
    domains = {name: lines for name, lines in domains.items() if lines}
    heights = {name: len(lines) + 3 for name, lines in domains.items()}
    columns = columns_of(heights)
    tall = max(sum(heights[name] for name in names) for names in columns) + 3
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, tall * LINE_INCHES))
        figure.text(0.01, 1 - 0.9 / tall, "times better than the peer", weight="bold")
        legend = {"better": BETTER, "level": SAME, "worse": WORSE}
        for number, (text, tint) in enumerate(legend.items()):
            x = 0.14 + 0.04 * number
            figure.text(x, 1 - 0.9 / tall, text, color=tint, weight="bold")
        for number, names in enumerate(columns):
            top = tall - 3
            for name in names:
                place = (0.13 + number / COLUMNS, (top - heights[name] + 3) / tall,
                         1 / COLUMNS - 0.14, (heights[name] - 3) / tall)  # fmt: skip
                draw_domain(figure.add_axes(place), name, domains[name])
                top -= heights[name]
        told = {"Date": None, "Creator": None, "Description": fingerprint(landed)}
        figure.savefig(file, format="svg", metadata=told, facecolor="white")
    lines = file.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    file.write_text(text, encoding="utf-8")


def fingerprint(landed: dict[str, Any]) -> str:
    """Of what is drawn: how the drawing itself looks differs by library version."""
    figures = [
        (name, row["name"], advantage(row))
        for name, group in landed["groups"].items()
        for row in group["rows"]
    ]
    return "rows " + hashlib.sha256(repr(figures).encode()).hexdigest()[:16]


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3] or (recorded.FILE, FILE))
    draw(recorded.read(source), target)
