"""Which changes count, how they are printed, and what is no baseline."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Tool
from junitparser import JUnitXml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

UNSURE = "inconclusive"


def write(path: Path, **values: list[float]) -> Path:
    count = len(next(iter(values.values())))
    runs = [{name: values[name][i] for name in values} for i in range(count)]
    path.write_text(json.dumps({"memguard_baseline": 1, "runs": runs}))
    return path


@pytest.fixture
def judge(tool: Tool, tmp_path: Path) -> Any:
    """Compares two lists of peaks; the code and the row of peak_rss."""

    def call(base: list[float], new: list[float], *options: str) -> Any:
        one = write(tmp_path / "base.json", peak_rss=base)
        two = write(tmp_path / "new.json", peak_rss=new)
        done = tool("compare", one, two, "--json", *options)
        row = done.json()["metrics"][0]
        assert row["name"] == "peak_rss"
        return done.code, row["verdict"], round(row["p"], 4)

    return call


# The p of the last column: all splits of the pooled values, counted by hand.
@pytest.mark.parametrize(
    ("base", "new", "code", "verdict", "p"),
    [
        ([100, 101, 102, 103, 104], [120, 121, 122, 123, 124], 1, "worse", 0.0079),
        ([120, 121, 122, 123, 124], [100, 101, 102, 103, 104], 0, "better", 0.0079),
        # Above the threshold, but the runs of both sides overlap.
        ([100, 101, 102, 103, 125], [120, 121, 122, 123, 124], 3, UNSURE, 0.1508),
        # Three a side cannot be significant.
        ([100, 101, 102], [120, 121, 122], 3, UNSURE, 0.1),
        # All are larger, by less than 15 %.
        ([100, 101, 102, 103, 104], [110, 111, 112, 113, 114], 0, "same", 0.0079),
        # By 40 %, but below the floor of 2 MB.
        ([4, 4.1, 4.2, 4.3, 4.4], [5.6, 5.7, 5.8, 5.9, 6.0], 0, "same", 0.0079),
        ([7, 7, 7, 7, 7], [7, 7, 7, 7, 7], 0, "same", 1.0),
        # Ties count half: 6 of 126 splits of 4 and 5 are as far apart.
        ([10, 10, 10, 10], [10, 20, 20, 20, 20], 3, UNSURE, 0.0476),
        # Better by chance is no reason to run again.
        ([120, 121, 122], [100, 101, 102], 0, "same", 0.1),
    ],
)
def test_what_counts(
    judge: Any, base: list[float], new: list[float], code: int, verdict: str, p: float
) -> None:
    assert judge(base, new) == (code, verdict, p)


BASE = [100, 101, 102, 103, 104]
MORE = [120, 121, 122, 123, 124]


def test_thresholds(judge: Any) -> None:
    assert judge(BASE, MORE, "--threshold", "25")[0] == 0
    assert judge(BASE, MORE, "--metric", "peak_rss=25")[0] == 0
    assert judge(BASE, MORE, "--metric", "wall=25")[0] == 1
    # That of a metric wins, wherever it stands.
    assert judge(BASE, MORE, "--metric", "peak_rss=25", "--threshold", "5")[0] == 0
    assert judge(BASE, MORE, "--threshold", "5", "--metric", "peak_rss=25")[0] == 0


def test_many_runs_take_the_approximation(judge: Any) -> None:
    base = [100 + i / 10 for i in range(30)]
    assert judge(base, [1.2 * value for value in base]) == (1, "worse", 0.0)
    assert judge(base, [value + 0.05 for value in base])[:2] == (0, "same")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    base = write(tmp_path / "a.json", peak_rss=BASE, wall=[1.0, 1.1, 1.0, 1.2, 1.1])
    new = write(tmp_path / "b.json", peak_rss=MORE, wall=[2.0, 1.1, 2.1, 2.2, 2.1])
    return base, new


def test_text(tool: Tool, files: tuple[Path, Path]) -> None:
    done = tool("compare", *files)
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines()[:4] == [
        "metric                         base        new     change        p  verdict",
        "peak_rss (MB)                 102.0      122.0    +19.6 %   0.0079  worse",
        "wall (s)                       1.10       2.10    +90.9 %   0.0317  "
        "inconclusive",
        "",
    ]
    assert "\nworse: 1 worse, 1 inconclusive, 0 better; 5 and 5 runs\n" in done.out


def test_markdown(tool: Tool, files: tuple[Path, Path]) -> None:
    lines = tool("compare", *files, "--format", "md").out.splitlines()
    assert lines[0] == "### memguard: worse"
    assert lines[4] == "| peak_rss (MB) | 102.0 | 122.0 | +19.6 % | 0.0079 | worse |"


def test_github_annotations(tool: Tool, files: tuple[Path, Path]) -> None:
    lines = tool("compare", *files, "--format", "github").out.splitlines()
    command = re.compile(r"^::(error|warning|notice) title=([^:,]+)::(.+)$")
    found = [command.match(line) for line in lines]
    assert [(one[1], one[2]) for one in found if one] == [
        ("error", "memguard peak_rss worse"),
        ("warning", "memguard wall inconclusive"),
    ]
    assert lines[0].endswith(
        "::median 102.0 to 122.0 MB (+19.6 %25, allowed 15 %25), p 0.0079, 5 and 5 runs"
    )
    same = tool("compare", files[0], files[0], "--format", "github")
    assert (same.code, same.out) == (
        0,
        "::notice title=memguard::no regression in 5 against 5 runs\n",
    )


def test_junit(tool: Tool, files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(tool("compare", *files, "--format", "junit").out)
    (suite,) = JUnitXml.fromfile(str(tmp_path / "x.xml"))
    assert (suite.name, suite.tests, suite.failures, suite.skipped) == (
        "memguard", 2, 1, 1,
    )  # fmt: skip
    peak, wall = suite
    assert (peak.name, peak.is_failure, wall.name, wall.is_skipped) == (
        "peak_rss", True, "wall", True,
    )  # fmt: skip
    assert peak.result[0].message.startswith("worse: median 102.0 to 122.0 MB")


def test_openmetrics(tool: Tool, files: tuple[Path, Path]) -> None:
    text = tool("compare", *files, "--format", "openmetrics").out
    families = {one.name: one for one in text_string_to_metric_families(text)}
    samples = families["memguard_compare_regression"].samples
    assert {one.labels["metric"]: one.value for one in samples} == {
        "peak_rss": 1.0,
        "wall": 0.0,
    }
    assert families["memguard_compare_median"].samples[0].value == 122.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no JSON"),
        ("[1, 2", "no JSON"),
        ("{}", "no memguard_baseline"),
        ('{"memguard_baseline": 9, "runs": [{}]}', "made by another version"),
        ('{"memguard_baseline": 1}', "it has no runs"),
        ('{"memguard_baseline": 1, "runs": []}', "it has no runs"),
        ('{"memguard_baseline": 1, "runs": [3]}', "a run is no object"),
        (
            '{"memguard_baseline": 1, "runs": [{"wall": "x"}]}',
            "a value of a run is no number",
        ),
    ],
)
def test_no_baseline(
    tool: Tool, files: tuple[Path, Path], tmp_path: Path, content: str, message: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    done = tool("compare", files[0], bad)
    assert (done.code, done.out) == (2, "")
    assert f"{bad}: not a baseline of memguard: {message}" in done.err


def test_wrong_words(tool: Tool, files: tuple[Path, Path], tmp_path: Path) -> None:
    for words, message in [
        ((files[0],), "two files are needed: BASE and NEW"),
        ((*files, "--threshold", "-1"), "a number from 0.1 to 1e+06 is allowed"),
        ((*files, "--format", "yaml"), '--format "yaml": text, md, json,'),
        ((*files, "--metric", "rss=5"), '--metric "rss": there is no such metric'),
        ((*files, "--metric", "wall"), '--metric "wall": NAME=PERCENT is expected'),
    ]:
        done = tool("compare", *words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
    done = tool("compare", files[0], tmp_path / "none.json")
    assert done.code == 4
    assert "none.json: No such file or directory" in done.err
