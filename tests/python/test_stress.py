"""python -m memguard.stress: hours in seconds, a verdict, an exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

MODULE = """
import os

kept = []
calls = 0

class Session:
    def __init__(self):
        self.values = {"secret-4711": [1]}

def clean():
    Session()

def leaky():
    kept.append(Session())

async def leaky_coroutine():
    kept.append(Session())

def rising():  # one block that grows: at the end it is let go
    if not kept:
        kept.append(bytearray())
    kept[0].extend(b"x" * 2_000)

def failing():
    global calls
    calls += 1
    if calls > 3:
        raise LookupError("secret-4711")

class Service:
    @staticmethod
    def handle():
        Session()

number = 7
"""


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "memguard.stress", *options]


def stress(folder: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, verdict ({} if there is none) and what was said."""
    (folder / "theirs.py").write_text(MODULE)
    done = subprocess.run(
        command("--json", "verdict.json", *options),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    file = folder / "verdict.json"
    verdict = json.loads(file.read_text()) if file.exists() else {}
    return done.returncode, verdict, done.stdout + done.stderr


# An hour in three seconds; some calls, not as many as go: others test, too.
FAST = ("--hours", "1", "--time-scale", "1200", "--rate", "2000")


def test_what_does_not_leak_is_ok(tmp_path: Path) -> None:
    # A process of some MB grows by more than a percent when a library is loaded.
    code, verdict, said = stress(tmp_path, *FAST, "--max-growth", "80", "theirs:clean")
    assert (code, verdict["verdict"]) == (0, "ok")
    assert verdict["leak_detection"] == []
    assert verdict["calls"] > 100
    assert verdict["hours"] >= 1
    assert verdict["time_scale"] == 1200
    assert said.startswith("ok: ")
    assert "no leak found" in said


@pytest.mark.parametrize("name", ["leaky", "leaky_coroutine"])
def test_what_leaks_is_named(tmp_path: Path, name: str) -> None:
    code, verdict, said = stress(tmp_path, *FAST, f"theirs:{name}")
    assert (code, verdict["verdict"]) == (1, "leak")
    types = {row["type"] for row in verdict["leak_detection"]}
    assert "theirs.Session" in types
    row = next(r for r in verdict["leak_detection"] if r["type"] == "theirs.Session")
    assert row["severity"] in ("low", "medium", "high")
    assert row["growth_rate"] > 0
    assert "type theirs.Session: +" in said
    assert "4711" not in said + json.dumps(verdict)


def test_abnormal_growth_fails(tmp_path: Path) -> None:
    code, verdict, _ = stress(tmp_path, *FAST, "--max-growth", "1", "theirs:rising")
    assert code == 1
    assert verdict["verdict"] in ("growth", "leak")
    assert verdict["growth_percent"] > 1
    assert verdict["rss_end_mb"] > verdict["rss_start_mb"]


def test_a_function_that_raises(tmp_path: Path) -> None:
    code, verdict, said = stress(tmp_path, *FAST, "theirs:failing")
    assert (code, verdict["verdict"], verdict["calls"]) == (3, "failed", 3)
    assert verdict["error"] == "LookupError after 3 calls"
    assert "4711" not in said


def test_methods_and_stdout(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(MODULE)
    done = subprocess.run(
        command("--json", "-", *FAST, "--max-growth", "80", "theirs:Service.handle"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "ok"


def test_an_interruption_ends_it_with_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(
        MODULE + "\ndef noted():\n    open('began', 'w').close()\n"
    )
    with subprocess.Popen(
        command("--hours", "10", "--rate", "100", "--json", "-", "theirs:noted"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        try:
            end = time.monotonic() + 60
            while not (tmp_path / "began").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
            os.kill(child.pid, signal.SIGINT)
            said = child.stdout.read()
            assert child.wait(60) == 130
        finally:
            child.kill()
    verdict = json.loads(said)
    assert verdict["interrupted"] is True
    assert verdict["calls"] >= 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["theirs"], "'theirs', allowed: MODULE:FUNC"),
        (["theirs:absent"], "module theirs has no absent"),
        (["theirs:number"], "theirs:number is no callable"),
        (["absent_module:f"], "No module named 'absent_module'"),
        (["--hours", "-1", "theirs:clean"], "-1, allowed: 0.001 to 10000"),
        (["--time-scale", "0", "theirs:clean"], "0, allowed: 1 to 1e+06"),
        (["--hours", "nan", "theirs:clean"], "nan, allowed"),
        (["--hours", "1", "--time-scale", "1e5", "theirs:clean"], "less than a second"),
    ],
)
def test_wrong_usage(tmp_path: Path, options: list[str], complaint: str) -> None:
    code, verdict, said = stress(tmp_path, *options)
    assert (code, verdict) == (2, {})
    assert complaint in said
