"""The watchdog: never on a spike, once when it lasts, again where it restarts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from conftest import TOOL, Tool
from hosts import HOLDS, host, is_gone, published, until

FAST = ("--interval", "0.05", "--for", "0.3")


def test_it_tells_and_acts(tool: Tool, tmp_path: Path) -> None:
    saved = tmp_path / "snapshot.json"
    act = f'echo "$WATCH_PID $WATCH_REASON" > {tmp_path}/acted'
    with host(HOLDS, "60") as pid:
        published(tool, pid)
        done = tool(
            "watch", "--rss", 50, *FAST, "--snapshot", saved, "--exec", act,
            "--pid", pid,
        )  # fmt: skip
        assert done.code == 1
        assert done.err.startswith(f"memguard watch: process {pid}: ")
        assert done.err.endswith(" MB resident, allowed 50\n")
        assert not is_gone(pid)
    assert saved.read_text().startswith("{")
    assert (tmp_path / "acted").read_text().startswith(f"{pid} ")


def test_a_level(tool: Tool) -> None:
    with host(HOLDS, "30") as pid:
        published(tool, pid)
        done = tool("watch", "--level", "normal", *FAST, "--pid", pid)
        assert done.code == 1
        assert f"process {pid}: level normal, " in done.err


def test_a_spike_is_nothing(tool: Tool) -> None:
    """It is over for less than --for, again and again, and ends well."""
    code = """
import time
for _ in range(8):
    x = bytearray(b'1') * (80 << 20)
    time.sleep(0.05)
    del x
    time.sleep(0.1)
"""
    done = tool(
        "watch", "--rss", 60, "--interval", "0.05", "--for", "30", "--",
        sys.executable, "-c", code,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")


def test_it_starts_again(tool: Tool, tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    code = f"""
import os, time
with open({str(lives)!r}, "a") as file:
    print(os.getpid(), file=file)
x = bytearray(b'1') * (80 << 20)
time.sleep(120)
"""
    done = tool(
        "watch", "--rss", 60, *FAST, "--restarts", 2, "--", sys.executable, "-c", code
    )
    pids = [int(line) for line in lives.read_text().split()]
    assert len(pids) == 3
    assert all(is_gone(pid) for pid in pids)
    assert done.code == 128 + signal.SIGTERM
    assert "starts it again in 1 s\n" in done.err
    assert "starts it again in 2 s\n" in done.err


def test_it_starts_what_failed_again_but_not_what_ended_well(
    tool: Tool, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    script = f"test -e {mark} && exit 0; touch {mark}; exit 9"
    done = tool("watch", "--rss", 500, "--restart", "--", "sh", "-c", script)
    assert done.code == 0
    assert done.err == "memguard watch: starts it again in 1 s\n"


def test_an_end_from_outside_ends_both(environment: None, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"echo $$ > {ready}; exec sleep 100"
    running = subprocess.Popen(
        [TOOL, "watch", "--rss", "500", "--restart", "--", "sh", "-c", script]
    )
    try:
        until(lambda: ready.exists() and ready.read_text().strip())
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 128 + signal.SIGTERM
        assert is_gone(int(ready.read_text()))
    finally:
        running.kill()
        running.wait()


def test_a_process_that_ends(tool: Tool, tmp_path: Path) -> None:
    """It is killed once it is looked at."""
    looked = tmp_path / "looked"
    words = ("--rss", "1", "--for", "0", "--keep", "--exec", f"touch {looked}")
    with host(HOLDS, "1") as pid:
        published(tool, pid)
        running = subprocess.Popen(
            [TOOL, "watch", *words, "--pid", str(pid)],
            stderr=subprocess.PIPE,
            text=True,
        )
        until(looked.exists)
        os.kill(pid, signal.SIGKILL)
        _, err = running.communicate(timeout=30)
        assert running.returncode == 0
        assert err.endswith(f"memguard watch: process {pid}: has ended\n")
