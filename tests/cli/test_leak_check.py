"""Leaks judged from outside: programs that know nothing of memguard."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import TOOL, Tool
from hosts import until

FAST = ("--time-scale", "120", "--max-memory", "256MB")
ALARMS = ("likely", "confirmed", "critical")
LEAKS = """
import time
class Session:
    def __init__(self, number):
        self.number = number
held = []
began = time.monotonic()
while (seconds := time.monotonic() - began) < 90:
    held.extend(map(Session, range(len(held), int(20000 * seconds))))
    time.sleep(0.02)
"""
LEAKS_IN_NODE = """
class Session {
  constructor(number) { this.number = number; this.text = [number]; }
}
const held = [];
const began = Date.now();
const timer = setInterval(() => {
  const ms = Date.now() - began;
  while (held.length < 10 * ms) held.push(new Session(held.length));
  if (ms > 90000) clearInterval(timer);
}, 20);
"""
HOLDS_STILL = """
import sys, time
kept = [bytearray(100) for _ in range(1000)]
end = time.monotonic() + 6
while time.monotonic() < end:
    garbage = [bytearray(100) for _ in range(1000)]
    time.sleep(0.02)
sys.exit(int(sys.argv[1]))
"""


def named(rows: list[dict[str, Any]], culprit: str) -> list[str]:
    """Names of culprits that are the one expected."""
    names = [one["name"] for row in rows for one in row["culprits"]]
    return [name for name in names if re.fullmatch(culprit, name)]


def until_alarm(folder: Path, culprit: str) -> None:
    """Waits for an alarm with that culprit in what the processes keep."""

    def is_given() -> bool:
        rows = [
            finding
            for path in folder.glob("memguard-verdict-*/*.json")
            for finding in json.loads(path.read_text())["findings"]
        ]
        return bool(named([row for row in rows if row["tier"] in ALARMS], culprit))

    until(is_given, 80)


@pytest.mark.parametrize(
    ("program", "culprit"),
    [
        ([sys.executable, "-c", LEAKS], r"__main__\.Session"),
        # By type or by place: objects of a large heap are not counted.
        (["node", "-e", LEAKS_IN_NODE], r"Session|.*\[eval\]:\d+"),
    ],
    ids=["python", "node"],
)
def test_a_leak(
    environment: None, tmp_path: Path, program: list[str], culprit: str
) -> None:
    """It is ended from outside once it is known; its own code was 143."""
    saved = tmp_path / "verdict.json"
    words = [TOOL, "run", "--leak-check", *FAST, "--json", saved, "--", *program]
    running = subprocess.Popen(
        words, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE
    )
    try:
        until_alarm(tmp_path, culprit)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 1
    verdict = json.loads(saved.read_text())
    assert (verdict["leaked"], verdict["processes"]) == (True, 1)
    assert verdict["exit_code"] == 143
    alarms = [row for row in verdict["findings"] if row["is_alarm"]]
    assert all(0 < row["seconds"] <= verdict["seconds"] for row in alarms)
    assert all(row["growth_per_minute"] > 0 and row["advice"] for row in alarms)
    (name, *_) = named(alarms, culprit)
    assert b": it leaks in " in said
    assert f" {name}: +".encode() in said
    assert list(tmp_path.glob("memguard-verdict-*")) == []


def test_no_leak(tool: Tool, tmp_path: Path) -> None:
    """The code is the program's own."""
    saved = tmp_path / "verdict.json"
    for code in (0, 7):
        done = tool(
            "run", "--leak-check", *FAST, "--json", saved, "--",
            sys.executable, "-c", HOLDS_STILL, code,
        )  # fmt: skip
        assert done.code == code, done.err
        verdict = json.loads(saved.read_text())
        assert verdict["leaked"] is False
        assert verdict["is_long_enough"] is True
        assert (verdict["processes"], verdict["exit_code"]) == (1, code)
        assert "memguard run: no leak found in " in done.err


def test_each_process_tells_its_own(tool: Tool) -> None:
    """What a shell starts, what Python forks, and Node."""
    forks = "import os; pid = os.fork(); pid and os.waitpid(pid, 0)"
    script = f"\"{sys.executable}\" -c '{forks}' && node -e 0"
    done = tool("run", "--leak-check", *FAST, "--json", "-", "--", "sh", "-c", script)
    assert done.code == 0, done.err
    assert done.json()["processes"] == 3
    assert done.json()["is_long_enough"] is False


def test_nobody_to_judge(tool: Tool) -> None:
    done = tool("run", "--leak-check", "--", "true")
    assert done.code == 4
    assert "no process came under memguard" in done.err
    assert tool("run", "--leak-check", "--", "sh", "-c", "exit 9").code == 9
    assert tool("run", "--leak-check", "--", "no-such-program").code == 127
    done = tool("run", "--json", "x", "--", "true")
    assert (done.code, done.out) == (2, "")
    assert "--json is for --leak-check" in done.err
    done = tool("run", "--leak-check", "--time-scale", "0", "--", "true")
    assert done.code == 2
    assert "time_scale" in done.err
