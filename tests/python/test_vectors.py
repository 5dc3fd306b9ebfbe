"""The rows of tests/vectors, as C and Node run them."""

import json
import math
import re
from pathlib import Path
from typing import Any

import memguard
import pytest
from memguard import decide
from policy_rows import Simulation, Steps, numbers

FOLDER = Path(__file__).parent.parent / "vectors"

ERRORS = {
    "EINVAL": memguard.InvalidError,
    "EKEY": memguard.ConfigKeyError,
    "ETYPE": memguard.ConfigTypeError,
    "ERANGE": memguard.RangeError,
    "ECONFLICT": memguard.ConflictError,
}


def rows(name: str) -> pytest.MarkDecorator:
    found = json.loads((FOLDER / name).read_text())["rows"]
    assert found, name
    return pytest.mark.parametrize("row", found, ids=[row["name"] for row in found])


@rows("config.json")
def test_config(row: dict[str, Any]) -> None:
    def resolve() -> dict[str, float]:
        return decide.resolve_config(
            row["config"],
            profile=row.get("profile", "default"),
            environ=row.get("environ"),
        )

    if "error" not in row:
        resolved = resolve()
        assert {path: resolved[path] for path in row["expect"]} == row["expect"]
        return
    with pytest.raises(ERRORS[row["error"]["status"]]) as caught:
        resolve()
    assert type(caught.value) is ERRORS[row["error"]["status"]]
    for text in row["error"]["contains"]:
        assert text in str(caught.value)


@rows("usage.json")
def test_usage(row: dict[str, Any]) -> None:
    ratio, domain = decide.usage(row["reading"], row["config"])
    assert ratio == pytest.approx(row["usage"], abs=1e-12)
    assert domain == row["domain"]


@rows("alert.json")
def test_alert(row: dict[str, Any]) -> None:
    base = 1_700_000_000_000
    rest = {"usage": 0.5, "fd_count": 10}
    steps = []
    for at, facts in row["steps"]:
        now_ms = float("nan") if at is None else at
        steps.append({**rest, "now_ms": now_ms, "unix_ms": base + now_ms, **facts})
    told = decide.alert_replay(steps, row["config"])
    fields = ("kind", "subject", "state", "severity")
    assert [
        [
            *(change[field] for field in fields),
            change["since_unix_ms"] - base,
            change["repeats"],
            pytest.approx(change["value"], abs=1e-12),
        ]
        for change in told["changes"]
    ] == row["expect"]
    for name, value in row.get("stats", {}).items():
        assert told["stats"][name] == value, name


@rows("level.json")
def test_level(row: dict[str, Any]) -> None:
    tracker = decide.LevelTracker(row["config"])
    for now_ms, usage, level in row["steps"]:
        assert tracker.update(usage, now_ms) == level, (now_ms, usage)


@rows("due.json")
def test_due(row: dict[str, Any]) -> None:
    due = decide.sample_due_ms(row["usage"], row["rate_per_ms"], row["longest_ms"])
    assert due == pytest.approx(row["expect"], abs=1e-9)


@rows("trend.json")
def test_trend(row: dict[str, Any]) -> None:
    trend = decide.trend([(time_ms, count) for time_ms, count in row["points"]])
    assert trend["direction"] == row["direction"]
    assert trend["points"] == row["points_used"]
    assert trend["mb_per_minute"] == pytest.approx(row["mb_per_minute"], abs=1e-9)
    assert trend["tau"] == pytest.approx(row["tau"], abs=1e-9)


@rows("buffer.json")
def test_buffer(row: dict[str, Any]) -> None:
    operation = {
        "size_next": decide.buffer_size_next,
        "flush_at": decide.buffer_flush_at,
    }[row["op"]]
    assert operation(row["size"], row["pressure"], row["config"]) == row["expect"]


@rows("policy.json")
def test_policy(row: dict[str, Any]) -> None:
    if "simulate" in row:
        assert Simulation(row).found == row["expect"]
    else:
        Steps(row)


@rows("budget_bytes.json")
def test_budget_bytes(row: dict[str, Any]) -> None:
    usage = numbers({"usage": row["usage"]})["usage"]
    assert decide.budget_bytes(row["limit_bytes"], usage) == row["expect"]


def run_optimizer(row: dict[str, Any]) -> None:
    optimizer = decide.Optimizer(row["config"])
    for op, *values in row["steps"]:
        if op == "due":
            view, reason = values
            assert optimizer.due(**view) == reason, view
        elif op == "may":
            *asked, may = values
            assert optimizer.may(*asked) is may, asked
        else:
            assert op == "done"
            reason, success, freed, took, now = values
            optimizer.done(
                reason, success=success, freed_bytes=freed, duration_ms=took, now_ms=now
            )
    wanted = row.get("state", {})
    assert {name: optimizer.state[name] for name in wanted} == wanted


def plan(row: dict[str, Any]) -> None:
    names = ("round", "elapsed_ms", "freed_bytes", "used_bytes")
    progress = dict(zip(names, row["progress"], strict=True))
    wanted = row["expect"]
    made = decide.strategy_plan(row["strategy"], **progress)
    assert made._asdict() == {**wanted, "actions": tuple(wanted["actions"])}


@rows("optimize.json")
def test_optimize(row: dict[str, Any]) -> None:
    if row["op"] == "run":
        run_optimizer(row)
    elif row["op"] == "plan":
        plan(row)
    elif row["op"] == "strategy":
        assert decide.strategy_for(row["reason"], row["aggressive"]) == row["expect"]
    else:
        before, after = tuple(row["before"]), tuple(row["after"])
        assert decide.freed_bytes(before, after) == row["expect"]


@rows("pool.json")
def test_pool(row: dict[str, Any]) -> None:
    operation = {
        "capacity": decide.pool_capacity,
        "tier": decide.pool_tier,
        "trim": decide.pool_trim,
        "cache_limit": decide.pool_cache_limit,
        "cache_next": decide.pool_cache_next,
    }[row["op"]]
    assert operation(*row["of"]) == row["expect"]


def recorded(series: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    points = []
    for order, one in enumerate(series):
        value = one["start"]
        period, rise = one.get("tooth", (1, 0))
        steps = [step for count, step in one["pieces"] for _ in range(count)]
        for i, step in enumerate(steps):
            ripple = i * 7919 % 1009 * one.get("noise", 0) + i % period * rise
            now_ms = i * one["every_ms"]
            if step == "nan":
                points.append((now_ms, order, math.nan))
            elif step is not None:
                value += step
                points.append((now_ms, order, value + ripple))
    points.sort(key=lambda point: point[:2])
    return [(series[order]["name"], now_ms, value) for now_ms, order, value in points]


@rows("leak.json")
def test_leak(row: dict[str, Any]) -> None:
    points = recorded(row["series"])
    changes = decide.leak_replay(points, row.get("config"), row["limits"])
    fields = ("now_ms", "name", "tier", "is_critical", "severity")
    assert [[change[field] for field in fields] for change in changes] == row["expect"]


@rows("advice.json")
def test_v8_advice(row: dict[str, Any]) -> None:
    view = [row[key] for key in ("limit_bytes", "node_major", "headroom", "share")]
    if "error" in row:
        with pytest.raises(memguard.RangeError, match=re.escape(row["error"])):
            decide.v8_advice(*view)
        return
    assert decide.v8_advice(*view) == row["expect"]


@rows("census.json")
def test_census(row: dict[str, Any]) -> None:
    options = {key: row[key] for key in ("by", "limit", "max_names") if key in row}
    found = decide.census_difference(row["before"], row["after"], **options)
    shares = [share for *_, share in found]
    assert [figures[:4] for figures in found] == [
        tuple(figures[:4]) for figures in row["expect"]
    ]
    assert shares == pytest.approx([e[4] for e in row["expect"]], abs=1e-12)


@rows("recycle.json")
def test_recycle(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(memguard.RangeError, match=re.escape(row["error"])):
            decide.Recycle(**row["options"])
        return
    worker = decide.Recycle(**row["options"], now_ms=row["born_ms"])
    for now_ms, rss_bytes, verdict in row["steps"]:
        assert worker.offer(rss_bytes, now_ms) == verdict, now_ms
