"""Real programs, measured and compared."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from conftest import TOOL, Tool


def measure(tool: Tool, path: Path, code: str, runs: int = 5) -> dict[str, Any]:
    done = tool(
        "baseline", "--save", path, "--runs", runs, "--",
        sys.executable, "-I", "-S", "-c", code,
    )  # fmt: skip
    assert (done.code, done.out, done.err) == (0, "", "")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_larger_program_is_found(tool: Tool, tmp_path: Path) -> None:
    base, new = tmp_path / "base.json", tmp_path / "new.json"
    found = measure(tool, base, "x = bytes(b'1') * (60 << 20)")
    assert found["memguard_baseline"] == 1
    assert found["program"] == os.path.basename(sys.executable)
    assert len(found["runs"]) == 5
    assert {"peak_rss", "mean_rss", "wall", "cpu", "fds"} <= set(found["runs"][0])
    assert 60 < found["runs"][0]["peak_rss"] < 90
    measure(tool, new, "x = bytes(b'1') * (90 << 20)")
    assert tool("compare", base, new).code == 1
    # Its own times may be anything on a busy machine.
    row = tool("compare", base, base, "--json").json()["metrics"][0]
    assert (row["name"], row["verdict"]) == ("peak_rss", "same")


def test_children_count(tool: Tool, tmp_path: Path) -> None:
    code = """
import subprocess, sys
big = "import time; x = b'1' * (40 << 20); print(1, flush=True); time.sleep(2)"
children = [subprocess.Popen([sys.executable, "-I", "-S", "-c", big],
                             stdout=subprocess.PIPE) for _ in range(3)]
for one in children: one.stdout.readline()
for one in children: one.wait()
"""
    found = measure(tool, tmp_path / "x.json", code, 1)
    assert found["runs"][0]["peak_rss"] > 120


def test_a_running_process(tool: Tool, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        path = tmp_path / "x.json"
        words = ("--pid", child.pid, "--duration", 0.2, "--runs", 2, "--save", path)
        assert tool("baseline", *words).code == 0
        run = json.loads(path.read_text())["runs"][1]
        assert run["peak_rss"] > 1
        assert run["threads"] == 1
    finally:
        child.kill()
        child.communicate(timeout=30)
    done = tool("baseline", *words)
    assert done.code == 4
    assert done.err == f"memguard baseline: there is no process {child.pid}\n"


def test_a_command_that_fails(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for words, code, message in [
        (["sh", "-c", "exit 7"], 1, "the command ended with code 7 in run 1"),
        (["sh", "-c", "kill -9 $$"], 1, "the command ended with code 137 in run 1"),
        (["/nowhere/x"], 127, "/nowhere/x: No such file or directory"),
        ([tmp_path], 126, "Permission denied"),
    ]:
        done = tool("baseline", "--save", path, "--", *words)
        assert (done.code, done.out) == (code, "")
        assert message in done.err
        assert not path.exists()


def test_wrong_words(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for words, message in [
        (["--", "true"], "--save FILE is needed"),
        (["--save", path], "either a command after -- or --pid PID is needed"),
        (["--save", path, "--pid", "1", "true"], "either a command after -- or"),
        (["--save", path, "--pid", "1"], "--pid needs --duration SECONDS"),
        (["--save", path, "--pid", "x"], '--pid "x": a number from 1 to'),
        (["--save", path, "--runs", "0", "true"], '--runs "0": a number from 1 to'),
    ]:
        done = tool("baseline", *words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err


def test_an_interrupt_reaches_the_command(environment: None, tmp_path: Path) -> None:
    path, mark = tmp_path / "x.json", tmp_path / "mark"
    code = f"""
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(3))
open({str(mark)!r}, "w").close()
while True: time.sleep(0.1)
"""
    words = [TOOL, "baseline", "--save", path, "--", sys.executable, "-c", code]
    running = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 30
        while not mark.exists() and time.monotonic() < end:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 1
    assert "the command ended with code 3 in run 1" in err
