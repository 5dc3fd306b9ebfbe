"""The rows of tests/vectors/tune.json, as C and Node run them."""

import json
from pathlib import Path
from typing import Any

import memguard
import pytest
from memguard import decide

ROWS = json.loads((Path(__file__).parent.parent / "vectors" / "tune.json").read_text())[
    "rows"
]


def rows(operation: str) -> pytest.MarkDecorator:
    found = [row for row in ROWS if row["op"] == operation]
    assert found, operation
    return pytest.mark.parametrize("row", found, ids=[row["name"] for row in found])


@rows("thresholds")
def test_thresholds(row: dict[str, Any]) -> None:
    own = {name: tuple(numbers) for name, numbers in row["expect"].items()}
    assert own == memguard._core.GC_PROFILES
    assert list(memguard._core.GC_PROFILES) == list(own)


@rows("trial")
def test_trial(row: dict[str, Any]) -> None:
    tuner = decide.Tuner(profiles=row["profiles"], reference=row["reference"])
    if row.get("try_all"):
        tuner.try_all()
    for step in row["steps"]:
        assert [tuner.trial(step), tuner.phase] == step["expect"], step
    for name, score in row.get("scores", {}).items():
        assert tuner.scores[name] == pytest.approx(score, abs=1e-12)
    for name, verdict in row.get("verdicts", {}).items():
        assert (name, tuner.verdicts[name]) == (name, verdict)


@rows("freeze")
def test_freeze(row: dict[str, Any]) -> None:
    tuner = decide.Tuner()
    for step in row["steps"]:
        assert tuner.freeze(step) == step["expect"], step
        if step["expect"] != "none":
            after = {**step, "live": step.get("live_after", step["live"])}
            tuner.frozen(step["expect"], after, step.get("took_ms", 0))
    done = [s["expect"] for s in row["steps"] if s["expect"] not in ("none", "sweep")]
    assert tuner.is_frozen == (done != [] and done[-1] != "thaw")


@rows("roll")
def test_roll(row: dict[str, Any]) -> None:
    tuner = decide.Tuner()
    for step in row["steps"]:
        assert tuner.roll(step["now_ms"], step["live"]) == step["expect"], step
        if "took_ms" in step:
            tuner.rolled({**step, "live": step["live_after"]})
        if "wait_ms" in step:
            assert tuner._roll_wait_ms() == step["wait_ms"], step


@rows("idle")
def test_idle(row: dict[str, Any]) -> None:
    tuner = decide.Tuner(row["config"])
    for now_ms, load, expected_ms, is_worth, due in row["steps"]:
        assert tuner.idle(now_ms, load, expected_ms, is_worth) is due, now_ms


def test_bad_names() -> None:
    with pytest.raises(memguard.InvalidError, match=r"hasty.*high-frequency"):
        decide.Tuner(profiles=["hasty"])
    with pytest.raises(memguard.InvalidError, match="hasty"):
        decide.Tuner(reference="hasty")
    tuner = decide.Tuner()
    view = {"now_ms": 0, "live": 1, "full_ms": 0, "full_collected": 0}
    with pytest.raises(memguard.InvalidError, match="allowed: normal"):
        tuner.freeze({**view, "level": "odd"})
    with pytest.raises(memguard.InvalidError, match="allowed: pass, young"):
        tuner.frozen("none", view, 0)
    with pytest.raises(memguard.InvalidError, match="level is 'odd', allowed: normal"):
        decide.pool_cache_limit(64, 1024, "odd")
