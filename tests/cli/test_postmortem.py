"""What a process leaves, and what is no segment at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from conftest import TOOL, Tool
from hosts import HOLDS, NODE, host, published


def folder() -> Path:
    return Path(os.environ["MEMGUARD_DIR"])


def test_killed_and_ended(tool: Tool) -> None:
    with host(HOLDS, "30") as pid:
        published(tool, pid)
        assert tool("postmortem").out == f"{folder()}: no process ended\n"
        os.kill(pid, signal.SIGKILL)
    done = tool("postmortem")
    assert (done.code, done.err) == (0, "")
    first = done.out.splitlines()[0]
    assert first.startswith(f"{pid} ")
    assert first.endswith(": killed, not memory")
    words = [TOOL, "run", "--", sys.executable, "-c", "input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as ends_well:
        published(tool, ends_well.pid)
        ends_well.communicate(b"\n", timeout=30)
    rows = tool("postmortem", "--json").json()["processes"]
    assert {one["pid"]: one["verdict"] for one in rows} == {
        pid: "killed, not memory",
        ends_well.pid: "clean exit",
    }
    dead = {
        one["pid"]: one for one in tool("ps", "--all", "--json").json()["processes"]
    }
    assert dead[pid]["alive"] is False
    assert tool("ps", "--json").json()["processes"] == []


def test_a_node_program_that_is_killed(tool: Tool) -> None:
    with host(NODE, node=True) as pid:
        published(tool, pid)
        os.kill(pid, signal.SIGKILL)
    (one,) = tool("postmortem", "--json").json()["processes"]
    assert (one["pid"], one["verdict"]) == (pid, "killed, not memory")
    assert one["last_seconds"][-1]["rss_bytes"] > 20 << 20


def test_one_file(tool: Tool) -> None:
    with host(HOLDS, "1") as pid:
        published(tool, pid)
        (path,) = (one for one in folder().iterdir() if one.suffix != ".sock")
        out = tool("postmortem", path).out
        assert out.splitlines()[0].endswith(": running")


def test_what_is_no_segment(tool: Tool, tmp_path: Path) -> None:
    assert tool("postmortem", tmp_path / "none").code == 4
    with host(HOLDS, "1") as pid:
        published(tool, pid)
        (path,) = (one for one in folder().iterdir() if one.suffix != ".sock")
        content = path.read_bytes()
    for name, bad in [
        ("empty", b""),
        ("short", content[:1000]),
        ("text", b"x" * len(content)),
        ("version", content[:12] + b"\x63" + content[13:]),
        ("order", content[:8] + b"\x01\x02\x03\x04" + content[12:]),
        ("cut", content[: len(content) // 2]),
        ("header", content[:30] + bytes([content[30] ^ 4]) + content[31:]),
    ]:
        (tmp_path / name).write_bytes(bad)
        done = tool("postmortem", tmp_path / name)
        assert (done.code, done.out) == (2, ""), name
        assert done.err.startswith("memguard postmortem: "), name


def test_foreign_files_hide_nobody(tool: Tool) -> None:
    with host(HOLDS, "1") as pid:
        published(tool, pid)
        (path,) = (one for one in folder().iterdir() if one.suffix != ".sock")
        (folder() / (path.name[:-1] + "x")).write_bytes(b"nothing")
        (folder() / (path.name + "9")).write_bytes(b"nothing")
        (folder() / "notes.txt").write_text("x")
        rows = tool("ps", "--json").json()
        assert [one["pid"] for one in rows["processes"]] == [pid]


def test_a_wrong_folder(tool: Tool) -> None:
    done = tool("ps", env={**os.environ, "MEMGUARD_DIR": "relative"})
    assert done.code == 2
    assert "MEMGUARD_DIR" in done.err
