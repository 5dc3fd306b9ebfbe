"""What goes wrong around the tool and the processes it looks at."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOOL, Tool
from hosts import HOLDS, host, is_gone, published, until
from test_top import Terminal

STALE = 10_000
UNSEEN = "the memguard tool cannot see this process"
PYTHON_WAITS = """
import time
end = time.monotonic() + 4
while time.monotonic() < end:
    time.sleep(0.01)
print("done")
"""
NODE_WAITS = "setTimeout(() => console.log('done'), 4000)"


def segments() -> list[Path]:
    folder = Path(os.environ["MEMGUARD_DIR"])
    return [path for path in folder.iterdir() if path.suffix != ".sock"]


def test_ten_thousand_stale_segments(tool: Tool) -> None:
    """Names of processes that are gone, each with what one of them left."""
    with host(HOLDS, "1") as pid:
        published(tool, pid)
        (left,) = segments()
        os.kill(pid, signal.SIGKILL)
    boot, _, start = left.name.rpartition("-")
    common = boot.rpartition("-")[0]
    for number in range(STALE):
        os.link(left, left.with_name(f"{common}-{5_000_000 + number}-{start}"))
    with host(HOLDS, "1") as alive:
        published(tool, alive)

        def only(words: tuple[str, ...]) -> bool:
            rows = tool(*words, "--json").json()["processes"]
            return [row["pid"] for row in rows] == [alive]

        # They are one file: while the new process looks through them it holds the
        # lock of all.
        for words in (("ps",), ("top", "--once")):
            until(lambda words=words: only(words))
        assert tool("stats", alive).code == 0
        assert tool("stats", pid).code == 0
        done = tool("postmortem", "--json")
        assert {row["pid"] for row in done.json()["processes"]} == {pid}


def test_segments_that_grow_shrink_and_vanish(tool: Tool) -> None:
    """While the tool looks at them."""
    with host(HOLDS, "1") as pid:
        published(tool, pid)
        (path,) = segments()
        whole = path.read_bytes()
        terminal = Terminal()
        try:
            terminal.until(lambda lines: "1 process" in lines[0])
            for change in (
                lambda: os.truncate(path, len(whole) * 3),
                lambda: os.truncate(path, len(whole)),
                lambda: os.kill(pid, signal.SIGSTOP),
                lambda: path.rename(path.with_suffix(".gone")),
            ):
                change()
                terminal.read(0.3)
            terminal.until(lambda lines: "0 processes" in lines[0])
            os.rename(path.with_suffix(".gone"), path)
            terminal.until(lambda lines: "1 process" in lines[0])
            terminal.press("q")
            assert terminal.wait() == 0
        finally:
            os.kill(pid, signal.SIGCONT)
            terminal.close()


def test_keys_while_processes_die(tool: Tool) -> None:
    with host(HOLDS, "40") as one, host(HOLDS, "20") as two, host(HOLDS, "1") as last:
        for pid in (one, two, last):
            published(tool, pid)
        terminal = Terminal()
        try:
            terminal.until(lambda lines: "3 processes" in lines[0])
            for pid in (one, two):
                os.kill(pid, signal.SIGKILL)
                for key in ("g", "p", "d", "\x1b[B", "g", "d", " ", " ", "r", "\x1b[F"):
                    terminal.press(key)
                    terminal.read(0.02)
            terminal.until(lambda lines: "1 process" in lines[0])
            terminal.resize(60, 8)
            terminal.press("q")
            assert terminal.wait() == 0
        finally:
            terminal.close()


def test_no_terminal(tool: Tool) -> None:
    done = tool("top")
    assert (done.code, done.out) == (2, "")
    assert "there is no terminal; --once prints one table" in done.err
    with host(HOLDS, "1") as pid:
        published(tool, pid)
        done = tool("top", "--once")
        assert (done.code, done.err) == (0, "")
        assert str(pid) in done.out
        assert "\x1b" not in done.out


def test_nobody_reads_what_is_printed(environment: None) -> None:
    words = f'"{TOOL}" --help | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", words], timeout=30, check=False)
    assert done.returncode in (0, 6, 128 + signal.SIGPIPE)
    done = subprocess.run(
        ["bash", "-c", f'"{TOOL}" ps --json > /dev/full'], timeout=30, check=False
    )
    assert done.returncode == 6


@pytest.mark.parametrize(
    "program",
    [[sys.executable, "-c", PYTHON_WAITS], ["node", "-e", NODE_WAITS]],
    ids=["python", "node"],
)
def test_no_room_for_a_segment(tool: Tool, program: list[str]) -> None:
    """As in a full tmpfs. The program goes on, and it is said once."""
    limited = "trap '' XFSZ; ulimit -f 8; exec \"$@\""
    words = [TOOL, "run", "--set", "sample_interval=50ms", "--", *program]
    done = subprocess.run(
        ["sh", "-c", limited, "sh", *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.count(UNSEEN) == 1
    assert segments() == []


def test_a_command_that_ends_at_once(tool: Tool) -> None:
    """Before anything of it can be seen."""
    done = tool("gc-profile", "--duration", 1, "--", "true")
    assert done.code == 4
    assert "the command ended with code 0 before it was under memguard" in done.err
    done = tool("gc-profile", "--duration", 1, "--", "no-such-program")
    assert done.code == 127


def test_a_watched_process_that_is_gone(tool: Tool) -> None:
    with host(HOLDS, "1") as pid:
        published(tool, pid)
    assert is_gone(pid)
    for words in (("gc", pid), ("snapshot", pid), ("watch", "--rss", 1, "--pid", pid)):
        done = tool(*words)
        assert (done.code, done.out) == (4, "")
        assert done.err.startswith(f"memguard {words[0]}: ")
