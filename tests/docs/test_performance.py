"""The page of figures: what it says of rows, what counts as worse, is it new."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from blocks import ROOT

# At the end: bench/queue.py is not the standard module.
sys.path.extend([str(ROOT / "docs"), str(ROOT / "bench")])

import chart
import kinds
import performance
import readme_figures
import recorded
import run as bench_run


def row(name: str, ours: float, peer: float, peer_name: str = "peer") -> dict[str, Any]:
    ratio = ours / peer if peer else None
    figures = {"ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ratio}
    return {"name": name, "unit": "ns", **figures}


RUN = {
    "date": "2026-01-02",
    "machine": "a machine, 2 cores, 24 GiB",
    "system": "a system",
    "load": 0.1,
    "versions": {"CPython": "3.11.7", "Node": "20.20.2"},
}
LANDED = {
    "runs": {"1": RUN},
    "groups": {
        "pool": {
            "run": "1",
            "divisor": 4,
            "seconds": 3,
            "rows": [
                row("pool.c.pair", 12, 6, "malloc"),
                row("pool.python.pair", 40, 80, "bytearray"),
                row("pool.node.pair", 14, 136, "Buffer.allocUnsafe"),
                row("pool.node.pair", 14, 429, "generic-pool"),
            ],
        },
        "tune": {
            "run": "1",
            "divisor": 4,
            "seconds": 3,
            "rows": [
                row("tune.json.throughput", 800, 1600),
                row("tune.orm.throughput", 1700, 850),
                row("tune.json.peak_rss", 1.01, 1),
            ],
        },
        "queue": {
            "run": "1",
            "divisor": 1,
            "seconds": 3,
            "rows": [
                row("queue.lost_or_twice", 0, 0),
                row("queue.alive", 1, 0),
                row("queue.paused.pauses", 7, 1),
            ],
        },
    },
}


@pytest.fixture
def _landed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "read", lambda: LANDED)
    names = ["bus", "pool", "queue", "trading", "tune"]
    monkeypatch.setattr(recorded, "domains", lambda: names)


@pytest.mark.usefixtures("_landed")
def test_the_table() -> None:
    page = "".join(performance.page("<!-- from -->"))
    assert (
        "(1) 2026-01-02, a machine, 2 cores, 24 GiB, a system at a load of 0.1" in page
    )
    assert "`pool`, `tune`, `queue`. CPython 3.11.7, Node 20.20.2." in page
    lines = page.splitlines()
    assert "Not landed yet: `bus`, `trading`." in lines
    assert "| ***pool*** (1), 1/4 of its rounds | | | | |" in lines
    assert "| ***queue*** (1) | | | | |" in lines
    for line in (
        "| `pool.c.pair` | 12 ns | 6 ns | **2 times worse** | malloc |",
        "| `pool.python.pair` | 40 ns | 80 ns | 2 times better | bytearray |",
        "| `tune.json.throughput` | 800 ns | 1 600 ns | **2 times worse** | peer |",
        "| `tune.orm.throughput` | 1 700 ns | 850 ns | 2 times better | peer |",
        "| `tune.json.peak_rss` | 1.01 ns | 1 ns | level | peer |",
        "| `queue.lost_or_twice` | 0 ns | 0 ns |  | peer |",
        "| `queue.paused.pauses` | 7 ns | 1 ns |  | peer |",
    ):
        assert line in lines


def test_the_runs_of_the_table_are_counted_from_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = {**RUN, "date": "2026-03-04"}
    groups = {
        name: {**group, "run": "7" if name == "tune" else "3"}
        for name, group in LANDED["groups"].items()
    }
    landed = {"runs": {"3": RUN, "7": late}, "groups": groups}
    monkeypatch.setattr(recorded, "read", lambda: landed)
    monkeypatch.setattr(recorded, "domains", lambda: list(groups))
    page = "".join(performance.page(""))
    assert "\n(1) 2026-01-02, " in page
    assert "\n(2) 2026-03-04, " in page
    assert "| ***queue*** (1) |" in page
    assert "| ***tune*** (2), 1/4 of its rounds |" in page
    assert "Not landed" not in page


@pytest.mark.parametrize(
    ("ours", "peer", "verdict"),
    [
        (-1, 2, ""),
        (0, 2, ""),
        (2, -1, "**worse**"),
        (2, 0, "**worse**"),
        (4, 2, "**2 times worse**"),
    ],
)
def test_a_difference_below_0(ours: float, peer: float, verdict: str) -> None:
    one = row("gc.observe.python", ours, peer)  # lower is better
    assert performance.verdict(one) == verdict


def test_numbers() -> None:
    told = [
        performance.number(value)
        for value in (0, 0.0004488, 0.00545, 0.905, 8.73, 47.74, 872.6, 20410, 364874)
    ]
    expected = ["0", "0.00045", "0.00545", "0.905", "8.73", "47.7", "873", "20 400"]
    assert told == [*expected, "365 000"]
    below = [performance.number(value) for value in (-0.0004488, -0.4, -20410)]
    assert below == ["-0.00045", "-0.4", "-20 400"]


def test_the_figures_of_a_readme() -> None:
    english = "".join(readme_figures.table("README.md", LANDED))
    assert english.startswith(
        "Measured on 2026-01-02, a machine, 2 cores, 24 GiB, a system, "
        "CPython 3.11.7, Node 20.20.2.\n\n|"
    )
    # Of the lines only one has all its figures here.
    assert english.splitlines()[4:] == [
        "| renting and returning, Python; Node | 40 ns; 14 ns "
        "| `bytearray` 80 ns; `Buffer.allocUnsafe` 136 ns |"
    ]


def test_both_readmes_show_the_same_figures() -> None:
    def figures(readme: str) -> list[list[str]]:
        return [
            sorted(re.findall(r"\{[^}]+\}", " ".join(line)))
            for line in readme_figures.LINES[readme]
        ]

    assert len(figures("README.md")) == 9
    assert figures("README.md") == figures("README.zh.md")


def test_the_chart(tmp_path: Path) -> None:
    file, source = tmp_path / "chart.svg", tmp_path / "landed.json"
    source.write_text(json.dumps(LANDED))
    words = [sys.executable, str(ROOT / "docs" / "chart.py"), str(source), str(file)]
    subprocess.run(words, check=True, timeout=110)
    drawn = file.read_text(encoding="utf-8")
    for text in (">pool.c.pair<", ">pool.node.pair<", ">tune.json.throughput<"):
        assert text in drawn
    assert "queue.paused.pauses" not in drawn  # neither better nor worse
    assert chart.BETTER in drawn
    assert chart.WORSE in drawn
    assert chart.fingerprint(LANDED) in drawn


def test_the_chart_is_current() -> None:
    """`./dev bench NAME --record` draws it anew; the drawing itself may differ by
    version of the library, so that what it was made from is compared."""
    drawn = (ROOT / "docs" / "performance.svg").read_text(encoding="utf-8")
    assert chart.fingerprint(recorded.read()) in drawn


def test_what_is_drawn_of_many_rows() -> None:
    names = [f"bus.python.{size}.p99" for size in ("1k", "4k", "64k")]
    assert {chart.label_of(name, True) for name in names} == {"bus*.p99 python"}
    assert chart.label_of(names[0], False) == "bus.python.1k.p99"


@pytest.mark.parametrize(
    ("name", "now", "then", "worse"),
    [
        ("pool.python.pair", 1.14, 1.0, False),
        ("pool.python.pair", 1.16, 1.0, True),
        ("pool.python.pair", 0.5, 1.0, False),
        ("tune.json.throughput", 0.9, 1.0, False),  # higher is better
        ("tune.json.throughput", 0.8, 1.0, True),
        ("tune.json.throughput", 2.0, 1.0, False),
        ("tune.json.pause_p95", 1.9, 1.0, False),  # allowed more, see bench/kinds.py
        ("tune.json.pause_p95", 2.1, 1.0, True),
        ("exporter.paced.p99", 9.0, 1.0, False),  # is not checked
        ("queue.paused.pauses", 9.0, 1.0, False),
        ("trading.fds", 3.0, 1.0, False),  # two more do not count
        ("trading.fds", 3.1, 1.0, True),
    ],
)
def test_worse_than_recorded(name: str, now: float, then: float, worse: bool) -> None:
    lines = list(recorded.worse([row(name, now, 1)], [row(name, then, 1)]))
    assert len(lines) == worse
    assert all(line.startswith(f"{name} (peer): ") for line in lines)


def test_worse_where_the_peer_has_nothing() -> None:
    """Then our own figure is compared."""
    then = [row("queue.lost_or_twice", 0, 0), row("survive.a.alive", 1, 0)]
    assert list(recorded.worse(then, then)) == []
    now = [row("queue.lost_or_twice", 1, 0), row("survive.a.alive", 0, 0)]
    assert list(recorded.worse(now, then)) == [
        "queue.lost_or_twice (peer): 1, recorded 0, lower is better, allowed 15%",
        "survive.a.alive (peer): 0, recorded 1, higher is better, allowed 15%",
    ]


@pytest.mark.parametrize(
    ("now", "then", "worse"),
    [
        ((3, 10), (-1, 10), True),  # a difference that was below 0
        ((-1, 10), (3, 10), False),
        ((-2, 10), (-1, 10), False),
        ((3, -5), (3, 10), False),  # no ratio that says something: our own
        ((4, -5), (3, 10), True),
        ((4, -5), (3, -10), True),
    ],
)
def test_worse_than_a_difference_below_0(
    now: tuple[float, float], then: tuple[float, float], worse: bool
) -> None:
    name = "gc.observe.python"  # a third more is allowed
    assert recorded.is_worse(row(name, *now), row(name, *then)) is worse


def test_what_may_differ_may_cross_0() -> None:
    name = "trading.growth"  # two more do not count
    assert not recorded.is_worse(row(name, 1, 10), row(name, -1, 10))
    assert recorded.is_worse(row(name, 1.5, 10), row(name, -1, 10))


def test_a_row_that_is_gone() -> None:
    then = [row("sample.rss", 1, 2, "psutil"), row("sample.rss", 1, 2, "rss()")]
    assert list(recorded.worse(then[1:], then)) == [
        "sample.rss (psutil): recorded, but not measured"
    ]


def test_the_middle_of_several_runs() -> None:
    runs = [[row("pool.c.pair", ours, 10)] for ours in (9, 2, 4)]
    assert recorded.median_rows(runs) == [row("pool.c.pair", 4, 10)]


def test_landing_replaces_only_what_was_measured() -> None:
    new = {"pool": {"divisor": 1, "seconds": 5, "rows": [row("pool.c.pair", 1, 3)]}}
    landed = recorded.merged(LANDED, {**RUN, "date": "2026-03-04"}, new)
    assert {name: group["run"] for name, group in landed["groups"].items()} == {
        "pool": "2",
        "queue": "1",
        "tune": "1",
    }
    assert landed["groups"]["pool"]["rows"][0]["ratio"] == 0.3333
    assert landed["runs"]["2"]["date"] == "2026-03-04"
    again = recorded.merged({"runs": {"1": RUN}, "groups": {}}, RUN, new)
    assert list(again["runs"]) == ["2"]


@pytest.mark.usefixtures("_landed")
@pytest.mark.parametrize(
    ("words", "divisors"),
    [
        (["--check"], {"pool": 4, "queue": 1, "bus": 5}),
        (["all", "--check"], {"pool": 4, "queue": 1, "bus": 5}),
        (["pool", "queue", "bus", "--check"], {"pool": 4, "queue": 1, "bus": 1}),
        (["all"], {"pool": 5, "queue": 5, "bus": 5}),
        (["pool", "--record"], {"pool": 1}),
    ],
)
def test_in_which_form_is_measured(words: list[str], divisors: dict[str, int]) -> None:
    options = bench_run.parse(words)
    told = {name: bench_run.divisor_of(name, options) for name in divisors}
    assert told == divisors


@pytest.mark.usefixtures("_landed")
def test_a_repeat_that_fails_hides_no_other_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(name: str, divisor: int) -> dict[str, Any]:
        if name == "pool":
            raise OSError("no memory")
        return {"divisor": divisor, "seconds": 1, "rows": lost}

    monkeypatch.setattr(bench_run, "measured", measured)
    lost = [row("queue.lost_or_twice", 1, 0), *LANDED["groups"]["queue"]["rows"][1:]]
    slow = [row("pool.c.pair", 24, 6, "malloc")]
    slow += LANDED["groups"]["pool"]["rows"][1:]
    groups = {
        "pool": {"divisor": 4, "seconds": 1, "rows": slow},
        "queue": {"divisor": 1, "seconds": 1, "rows": lost},
    }
    worse, failed = bench_run.checked(groups)
    assert failed == ["pool"]
    assert [line.partition(":")[0] for line in worse] == [
        "pool.c.pair (malloc)",
        "queue.lost_or_twice (peer)",
    ]


def test_a_row_of_no_kind() -> None:
    with pytest.raises(KeyError, match=r"new\.row: bench/kinds\.py does not say"):
        kinds.kind_of("new.row")


def test_another_tolerance_has_its_reason() -> None:
    for kind in kinds.KINDS:
        usual = kind.tolerance == kinds.TOLERANCE and not kind.slack
        assert usual or kind.why, kind.pattern


# --- What bench/README.md tells of the rows ----------------------------------------


def told_rows() -> list[re.Pattern[str]]:
    """Names in the first column: `a.b.c`, and `.d` for a.b.d or a.b.c.d."""
    page = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    found = []
    for line in page.partition("| Row |")[2].partition("\n\n")[0].splitlines():
        cells = line.split("|")
        names = re.findall(r"`([^`]+)`", cells[1]) if len(cells) > 1 else []
        full = [name for name in names if not name.startswith(".")]
        ends = [name for name in names if name.startswith(".")]
        for name in full:
            stems = [name]
            while "." in stems[-1]:
                stems.append(stems[-1].rpartition(".")[0])
            found += [name, *(stem + end for stem in stems for end in ends)]
    return [
        re.compile(re.sub(r"\\\*|[A-Z]{2,}", r"[\\w.]*", re.escape(name)))
        for name in found
    ]


def test_every_row_is_told_of() -> None:
    told = told_rows()
    for name, group in recorded.read()["groups"].items():
        for one in group["rows"]:
            assert any(p.fullmatch(one["name"]) for p in told), (name, one["name"])
