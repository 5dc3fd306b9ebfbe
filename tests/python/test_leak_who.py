"""Who is named for a leak, out of what was counted."""

import functools
import json
import threading
from typing import Any

import memguard
import pytest
from memguard import _leak_threads, _leak_who
from memguard._leak_finding import LeakCulprit
from memguard._leak_who import attributed


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(
            [("dict", 300, 0.5), ("list", 200, 0.33), ("app.Session", 100, 0.17)],
            [("app.Session", 1.0), ("dict", 0.5), ("list", 0.33)],
            id="the objects of a class are the class's",
        ),
        pytest.param(
            [("dict", 60, 0.6), ("a.A", 30, 0.3), ("b.B", 10, 0.1)],
            [("a.A", 0.75), ("b.B", 0.25), ("dict", 0.6)],
            id="of two in proportion",
        ),
        pytest.param(
            [("dict", 1000, 0.99), ("app.Session", 10, 0.01)],
            [("dict", 0.99), ("app.Session", 0.01)],
            id="a class that hardly grows explains nothing",
        ),
        pytest.param(
            [("tuple", 10, 0.5), ("_thread.lock", 10, 0.5)],
            [("tuple", 0.5), ("_thread.lock", 0.5)],
            id="no class at all",
        ),
        pytest.param(
            [("__main__.Session", 10, 1.0)],
            [("__main__.Session", 1.0)],
            id="a class alone",
        ),
    ],
)
def test_growth_is_put_down_to_classes_of_the_program(
    rows: list[tuple[str, int, float]], expected: list[tuple[str, float]]
) -> None:
    given = [("type", name, growth, 0, growth, share) for name, growth, share in rows]
    got: list[Any] = [(row[1], pytest.approx(row[5])) for row in attributed(given)]
    assert expected == got


@pytest.mark.parametrize(
    ("signal", "untracked", "expected"),
    [
        pytest.param(
            "heap",
            0,
            ["A", "B", "x.py:1", "C", "x.py:2", "[heap]"],
            id="two types and a place",
        ),
        pytest.param(
            "blocks",
            61,
            [_leak_who.UNTRACKED, "x.py:1", "A", "x.py:2", "B", "C", "[heap]"],
            id="what no census can tell, and its places",
        ),
        pytest.param(
            "native",
            61,
            ["[heap]", "A", "B", "C", "x.py:1", "x.py:2"],
            id="the mapping",
        ),
    ],
)
def test_three_names_say_what_there_is_to_say(
    signal: str, untracked: int, expected: list[str]
) -> None:
    names = {"A": 30, "B": 20, "C": 10}
    given = [LeakCulprit("type", name, growth) for name, growth in names.items()]
    given += [LeakCulprit("site", f"x.py:{line}", 5) for line in (1, 2)]
    given.append(LeakCulprit("mapping", "[heap]", 1))
    ordered = _leak_who.in_order(signal, given, 60, untracked)
    assert [one.name for one in ordered] == expected


def test_native_memory_without_a_mapping_has_a_name() -> None:
    (one,) = _leak_who.in_order("native", [], 4096, 0)
    assert (one.kind, one.name, one.growth_bytes) == (
        "mapping",
        "(native memory)",
        4096,
    )


def test_what_explains_little_is_not_named() -> None:
    rows = [("type", "A", 96, 0, 96, 0.96), ("type", "B", 4, 0, 4, 0.04)]
    assert _leak_who.explaining(rows) == rows[:1]
    assert _leak_who.explaining(rows, of=0.5) == rows


class Worker(threading.Thread):
    """Has a class of its own."""


@pytest.mark.parametrize(
    ("thread", "expected"),
    [
        (threading.Thread(target=print, name="session-alice"), "builtins.print"),
        (threading.Thread(target=functools.partial(print, 1)), "builtins.print"),
        (threading.Thread(name="worker-12-of-90"), "worker-#-of-#"),
        (Worker(name="session-alice"), f"{__name__}.Worker"),
    ],
)
def test_threads_that_run_the_same_have_one_name(
    thread: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "enumerate", lambda: [thread, thread])
    assert _leak_threads.thread_names() == {expected: 2}


def test_findings_are_plain_data() -> None:
    finding = memguard.LeakFinding(
        signal="fds",
        tier="critical",
        severity="high",
        growth=1200,
        growth_per_minute=40.5,
        unit="count",
        time_to_limit_seconds=7200,
        culprits=(memguard.LeakCulprit("fd", "pipe", 1200, None, 1.0, 1210),),
        advice=("lsof -p 1",),
    )
    assert str(finding) == (
        "fds: critical leak, severity high: +1200, 40.5 a minute, limit reached in "
        "2.0 h\n  fd pipe: +1200, 100% of the growth\n  next: lsof -p 1"
    )
    row = json.loads(json.dumps(finding.as_dict()))
    assert (row["type"], row["severity"], row["growth_rate"]) == ("pipe", "high", 40.5)
    assert row["culprits"][0]["name"] == "pipe"
