# ruff: noqa: RUF001 - the punctuation of Chinese
"""The few landed figures that the README shows, in English and in Chinese.

In a template `{ROW:SIDE}` is a figure of a row: its side `ours`, `peer` or `ratio`; of
several rows that a pattern finds, `least` and `most` ratio, or `count` of ours and
`counted` of the peer's. `{ROW|PEER:SIDE}` names the peer where a row has several.
A line is left out as long as one of its figures is not landed.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from performance import number, recorded, with_unit

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- figures, made by docs/generate.py from what is landed -->\n"
END = "<!-- end of figures -->\n"
_PLACE = re.compile(re.escape(BEGIN) + "(.*?)" + re.escape(END), re.DOTALL)
_FIGURE = re.compile(r"\{([^}:|]+)(?:\|([^}:]+))?:(\w+)\}")

Line = tuple[str, str, str]  # what is measured, memguard, peer
HEADS: dict[str, tuple[str, Line]] = {
    "README.md": ("Measured on {}.", ("", "memguard", "peer")),
    "README.zh.md": ("测于 {}。", ("", "memguard", "对照")),
}
SURVIVE = "survive.[a-f]"
RENT_NODE = "pool.node.pair|Buffer.allocUnsafe"
GC_PYTHON, GC_NODE = "gc.observe.python", "gc.observe.node"
BUS_PYTHON, BUS_NODE = "bus.python.4k.throughput", "bus.node.4k.throughput"
FALSE = "leaks.sim.false.likely"
LINES: dict[str, list[Line]] = {
    "README.md": [
        (
            "six loads that do not fit into 256 MB, with a ResourceManager opened "
            "(one: its cache registered)",
            f"{{{SURVIVE}.alive:count}} live, at {{{SURVIVE}.speed:least}} to "
            f"{{{SURVIVE}.speed:most}} of the speed without a limit",
            f"{{{SURVIVE}.alive:counted}} live",
        ),
        (
            "longest pause in each second, P95 (Python, JSON service)",
            "{tune.json.pause_p95:ours}",
            "{tune.json.pause_p95:peer} with CPython's defaults",
        ),
        (
            "the same (Node, JSON service)",
            "{tune.node_json.pause_p95:ours}",
            "{tune.node_json.pause_p95:peer} with Node's defaults",
        ),
        (
            "recording a collection, Python; Node",
            f"{{{GC_PYTHON}:ours}}; {{{GC_NODE}:ours}}",
            f"{{{GC_PYTHON}:peer}}, a callback in Python; "
            f"{{{GC_NODE}:peer}}, a PerformanceObserver",
        ),
        (
            "renting and returning, Python; Node",
            f"{{pool.python.pair:ours}}; {{{RENT_NODE}:ours}}",
            f"`bytearray` {{pool.python.pair:peer}}; "
            f"`Buffer.allocUnsafe` {{{RENT_NODE}:peer}}",
        ),
        (
            "messages over Redis, MessagePack of 4 KB, Python; Node",
            f"{{{BUS_PYTHON}:ratio}}; {{{BUS_NODE}:ratio}} times as many",
            "the same code without rented memory",
        ),
        (
            "simulated days on which the leak detector is wrong",
            f"{{{FALSE}:ours}}",
            f"{{{FALSE}:peer}}, a Mann-Kendall test",
        ),
        (
            "counting 4 million objects by type",
            "{census.python:ours}",
            "objgraph {census.python:peer}",
        ),
        (
            "reading the latest sample, Python; Node",
            "{sample.read.python:ours}; {sample.read.node:ours}",
            "psutil {sample.read.python:peer}; "
            "`memoryUsage.rss` {sample.read.node:peer}",
        ),
    ],
    "README.zh.md": [
        (
            "六种放不进 256 MB 的负载，"
            "只多创建一个 ResourceManager（其中一种登记了缓存）",
            f"{{{SURVIVE}.alive:count}} 种存活，速度为无上限时的 "
            f"{{{SURVIVE}.speed:least}} 至 {{{SURVIVE}.speed:most}} 倍",
            f"{{{SURVIVE}.alive:counted}} 种存活",
        ),
        (
            "每秒最长停顿的 P95（Python，JSON 服务）",
            "{tune.json.pause_p95:ours}",
            "{tune.json.pause_p95:peer}，CPython 默认设置",
        ),
        (
            "同上（Node，JSON 服务）",
            "{tune.node_json.pause_p95:ours}",
            "{tune.node_json.pause_p95:peer}，Node 默认设置",
        ),
        (
            "记录一次垃圾回收，Python；Node",
            f"{{{GC_PYTHON}:ours}}；{{{GC_NODE}:ours}}",
            f"{{{GC_PYTHON}:peer}}，Python 回调；"
            f"{{{GC_NODE}:peer}}，PerformanceObserver",
        ),
        (
            "租用并归还，Python；Node",
            f"{{pool.python.pair:ours}}；{{{RENT_NODE}:ours}}",
            f"`bytearray` {{pool.python.pair:peer}}；"
            f"`Buffer.allocUnsafe` {{{RENT_NODE}:peer}}",
        ),
        (
            "经 Redis 传递 4 KB 的 MessagePack 消息，Python；Node",
            f"{{{BUS_PYTHON}:ratio}}；{{{BUS_NODE}:ratio}} 倍的数量",
            "同样的代码，不用租用内存",
        ),
        (
            "泄漏检测器在多少模拟日误报",
            f"{{{FALSE}:ours}}",
            f"{{{FALSE}:peer}}，Mann-Kendall 检验",
        ),
        (
            "按类型清点四百万个对象",
            "{census.python:ours}",
            "objgraph {census.python:peer}",
        ),
        (
            "读取最新样本，Python；Node",
            "{sample.read.python:ours}；{sample.read.node:ours}",
            "psutil {sample.read.python:peer}；"
            "`memoryUsage.rss` {sample.read.node:peer}",
        ),
    ],
}


class Figures:
    """Finds landed figures, and remembers the runs that they are of."""

    def __init__(self, landed: dict[str, Any]) -> None:
        self._rows = [
            {**row, "run": group["run"]}
            for group in landed["groups"].values()
            for row in group["rows"]
        ]
        self.runs: set[str] = set()

    def _find(self, pattern: str, peer: str | None) -> list[dict[str, Any]]:
        found = [
            row
            for row in self._rows
            if fnmatchcase(row["name"], pattern) and peer in (None, row["peer_name"])
        ]
        if not found:
            raise KeyError(pattern)
        return found

    def _text(self, rows: list[dict[str, Any]], side: str) -> str:
        self.runs |= {row["run"] for row in rows}
        if side == "least":
            return number(min(row["ratio"] for row in rows))
        if side == "most":
            return number(max(row["ratio"] for row in rows))
        if side in ("count", "counted"):
            ours = "ours" if side == "count" else "peer"
            return number(sum(row[ours] for row in rows))
        row = rows[0]
        return (
            number(row[side]) if side == "ratio" else with_unit(row[side], row["unit"])
        )

    def line(self, templates: Line) -> list[str] | None:
        """The cells; None: not all is landed."""
        try:
            found = [
                [(part[0], self._find(part[1], part[2]), part[3])
                 for part in _FIGURE.finditer(text)]
                for text in templates
            ]  # fmt: skip
        except KeyError:
            return None
        cells = []
        for text, parts in zip(templates, found, strict=True):
            for placed, rows, side in parts:
                text = text.replace(placed, self._text(rows, side))
            cells.append(text)
        return cells


def where(run: dict[str, Any], is_chinese: bool) -> str:
    runtimes = [f"{name} {run['versions'][name]}" for name in ("CPython", "Node")]
    told = ", ".join([run["date"], run["machine"], run["system"], *runtimes])
    return told.replace(" cores", " 核").replace(", ", "、") if is_chinese else told


def table(readme: str, landed: dict[str, Any]) -> Iterator[str]:
    figures = Figures(landed)
    lines = [cells for line in LINES[readme] if (cells := figures.line(line))]
    runs = [landed["runs"][name] for name in sorted(figures.runs)]
    told, columns = HEADS[readme]
    is_chinese = readme.endswith(".zh.md")
    places = dict.fromkeys(where(run, is_chinese) for run in runs)
    yield told.format(("；" if is_chinese else "; ").join(places)) + "\n\n"
    for cells in (columns, ("---",) * 3, *lines):
        yield f"| {' | '.join(cells)} |\n"


def with_figures(readme: str) -> Iterator[str]:
    """The page as it is, with the table that is due."""
    content = (ROOT / readme).read_text(encoding="utf-8")
    assert _PLACE.search(content), f"{readme} has no place for figures"
    new = f"{BEGIN}{''.join(table(readme, recorded.read()))}{END}"
    yield _PLACE.sub(lambda _: new, content)
