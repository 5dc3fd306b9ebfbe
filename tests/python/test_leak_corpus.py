"""The corpus of leaks is whole, and its judge tells leaks from what seems to leak."""

import importlib.util
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

LEAKS = Path(__file__).resolve().parent.parent / "leaks"
TIME_SCALE = 60.0
LONGEST_S = 80.0  # until an alarm; a slow machine gets there, too


def load(name):
    spec = importlib.util.spec_from_file_location(f"leaks_{name}", LEAKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


judge = load("judge")
ROWS = [
    row
    for file in sorted(LEAKS.glob("corpus_*.json"))
    for row in json.loads(file.read_text())
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['runtime']}-{row['name']}")
def test_a_row_says_all(row):
    program = (LEAKS / row["file"]).read_text()
    assert "memguard" not in program.lower()
    assert set(row) <= {
        "name", "runtime", "kind", "file", "leaky", "fixed", "source", "culprit",
    }  # fmt: skip
    assert row["runtime"] in ("python", "node")
    assert row["kind"]
    assert isinstance(row["fixed"], str)
    if "leaky" in row:
        assert row["source"].startswith("https://")
        re.compile(row["culprit"])
        uses_it = "LEAK_USE" in program
        assert uses_it == (row["leaky"] == row["fixed"])
    else:
        assert row["name"].startswith("like_")


def test_there_are_enough_programs():
    python = [row for row in ROWS if row["runtime"] == "python"]
    assert len({row["name"] for row in python}) == len(python)
    assert sum("leaky" in row for row in python) >= 14
    assert sum("leaky" not in row for row in python) >= 6


RUNS = [  # program, variant, seconds, whether it ends with an alarm
    ("context_variables", "leaky", LONGEST_S, True),
    ("close_wait", "leaky", LONGEST_S, True),
    ("close_wait", "fixed", 15.0, False),
    ("context_variables", "fixed", 15.0, False),
]


@pytest.fixture(scope="module")
def verdicts():
    """Of programs that run at the same time: they wait most of it."""

    def run(program, variant, seconds, until_alarm):
        return judge.judge(
            [sys.executable, str(LEAKS / "python" / f"{program}.py")],
            program,
            seconds,
            TIME_SCALE,
            {"LEAK_USE": variant},
            until_alarm,
        )

    with ThreadPoolExecutor(len(RUNS)) as pool:
        made = list(pool.map(lambda row: run(*row), RUNS))
    return {row[:2]: verdict for row, verdict in zip(RUNS, made, strict=True)}


def names(verdict):
    return "\n".join(verdict["culprits"])


def test_objects_that_leak_are_found(verdicts):
    verdict = verdicts["context_variables", "leaky"]
    assert verdict["detected"]
    assert verdict["operations"] > 0
    assert "/context_variables.py:" in names(verdict)


def test_sockets_that_leak_are_found(verdicts):
    verdict = verdicts["close_wait", "leaky"]
    assert verdict["detected"]
    assert "socket" in names(verdict)


@pytest.mark.parametrize("program", ["close_wait", "context_variables"])
def test_what_does_not_leak_is_not_accused(verdicts, program):
    verdict = verdicts[program, "fixed"]
    assert verdict["status"] == 0
    assert verdict["findings"] == []
    assert not verdict["detected"]


def finding(signal, tier, *culprits):
    named = [{"kind": "type", "name": name} for name in culprits]
    return {"signal": signal, "tier": tier, "culprits": named}


def test_a_verdict_is_made_of_what_was_told():
    watched = judge.Watched(100.0, [(101.0, 50), (102.0, 90), (103.0, 150)])
    lines = [
        {"at": 101.0, "findings": [finding("rss", "suspect")]},
        {"at": 101.5, "live": 10},
        {"at": 102.5, "findings": [finding("heap", "likely")]},
        {"at": 103.5, "findings": [finding("heap", "confirmed", "Session")]},
    ]
    verdict = judge.judged("shop", watched, lines)
    assert verdict["detected"]
    assert verdict["tier"] == "confirmed"
    assert verdict["signal"] == "heap"
    assert verdict["seconds"] == 2.5
    assert verdict["operations"] == 90
    assert verdict["culprits"] == ["type Session"]
    assert verdict["suspected"] == ["rss", "heap"]


def test_a_suspect_is_no_alarm():
    lines = [{"at": 101.0, "findings": [finding("rss", "suspect")]}]
    verdict = judge.judged("shop", judge.Watched(100.0), lines)
    assert not verdict["detected"]
    assert verdict["tier"] == "suspect"


def test_an_alarm_that_was_withdrawn_is_an_alarm():
    lines = [
        {"at": 101.0, "findings": [finding("heap", "likely")]},
        {"at": 102.0, "findings": []},
    ]
    assert judge.judged("shop", judge.Watched(100.0), lines)["detected"]


def test_the_trend_test_of_the_peers():
    assert judge.rises([1, 2, 3, 4, 5, 6, 7, 8])
    assert not judge.rises([1, 2, 3, 4, 5, 6, 7])  # too few
    assert not judge.rises([8, 7, 6, 5, 4, 3, 2, 1])
    assert not judge.rises([5, 1, 5, 1, 5, 1, 5, 1, 5, 1])
    assert not judge.rises([3] * 20)


def test_the_collection_rule_of_the_peers():
    assert judge.grows([1, 2, 3, 4, 5, 6])
    assert not judge.grows([1, 2, 3, 4, 5])
    assert not judge.grows([1, 2, 3, 3, 4, 5, 6])
    assert not judge.grows([])
