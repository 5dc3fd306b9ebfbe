"""Live processes, seen and asked from outside."""

import os
import signal
from pathlib import Path

import pytest
from conftest import Tool
from hosts import COLLECTS, HOLDS, NODE, host, published, until

MB = 1048576


def test_nobody_is_there(tool: Tool) -> None:
    done = tool("ps")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1
    assert tool("top", "--once", "--json").json() == {"processes": [], "unreadable": 0}
    done = tool("health")
    assert (done.code, done.out) == (0, "no process is under memguard\n")
    done = tool("stats", 1)
    assert done.code == 4
    assert "no process 1 shows itself" in done.err


def test_both_runtimes_appear(tool: Tool) -> None:
    with host(HOLDS, "30") as one, host(NODE, node=True) as two:
        published(tool, one)
        published(tool, two)
        rows = {row["pid"]: row for row in tool("ps", "--json").json()["processes"]}
        assert rows[one]["runtime"] == "python"
        assert rows[two]["runtime"] == "node"
        assert 30 * MB < rows[one]["reading"]["rss_bytes"] < 90 * MB
        assert rows[two]["reading"]["heap_used_bytes"] > MB
        text = tool("ps").out.splitlines()
        assert text[0].split()[:3] == ["PID", "KIND", "RSS"]
        assert sorted(line.split()[0] for line in text[1:]) == sorted(
            map(str, (one, two))
        )
        once = tool("top", "--once", "--sort", "pid").out.splitlines()
        assert [int(line.split()[0]) for line in once[1:]] == sorted((one, two))
        assert tool("health", one).code == 0


def test_stats_and_the_level(tool: Tool) -> None:
    with host(HOLDS, "30") as pid:
        published(tool, pid)
        done = tool("stats", pid)
        assert (done.code, done.err) == (0, "")
        assert f"\n  {'heap in use':22} " in done.out
        found = tool("stats", pid, "--json").json()
        assert found["alive"] is True
        assert found["state"] == "running"
        assert found["level"] == "normal"


def test_a_process_that_is_not_well(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMGUARD_MAX_MEMORY_MB", "20")
    with host(HOLDS, "30") as pid:
        published(tool, pid)
        until(lambda: tool("health", pid).code == 1)
        assert "memory is critical" in tool("health").out
        found = tool("health", "--json").json()
        assert found["status"] == "critical"
        assert found["processes"][0]["pid"] == pid


def test_gc_and_optimize(tool: Tool) -> None:
    code = (
        "import gc; gc.disable()\nclass T: pass\n"
        + """
for _ in range(100):
    t = T(); t.self = t; t.held = bytearray(b'1') * (1 << 20)
del t
print('ready', flush=True)
import time; time.sleep(120)
"""
    )
    with host(code) as pid:
        published(tool, pid)
        before = tool("stats", pid, "--json").json()["reading"]["rss_bytes"]
        done = tool("gc", pid)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"{pid} python")
        until(
            lambda: (
                tool("stats", pid, "--json").json()["reading"]["rss_bytes"]
                < before - 80 * MB
            )
        )
        assert tool("optimize", pid, "--json").json()["success"] is True
    with host(NODE, node=True) as pid:
        published(tool, pid)
        for command in ("gc", "optimize"):
            done = tool(command, pid)
            assert (done.code, done.err) == (0, "")


def test_a_process_that_does_not_answer(tool: Tool) -> None:
    with host(HOLDS, "1") as pid:
        published(tool, pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            assert tool("ps", "--json").json()["processes"][0]["pid"] == pid
            done = tool("gc", "--timeout", 1, pid)
            assert done.code == 5
            assert done.err.startswith(f"memguard gc: process {pid}: ")
        finally:
            os.kill(pid, signal.SIGCONT)


def test_snapshots(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "snapshots.json"
    with host(HOLDS, "30") as pid:
        published(tool, pid)
        one = tool("snapshot", pid).json()
        assert one["process"]["pid"] == pid
        assert one["memory_stats"]["rss_mb"] > 30
        assert one["timestamp"].endswith("Z")
        words = ("--continuous", "3", "--interval", "0.1", "--save", path)
        done = tool("snapshot", *words, pid)
        assert (done.code, done.out, done.err) == (0, "", "")
    import json

    assert len(json.loads(path.read_text())) == 3
    done = tool("snapshot", pid)
    assert done.code == 4
    assert "has ended; `memguard postmortem` tells what it left" in done.err


def test_gc_profile(tool: Tool) -> None:
    with host(COLLECTS) as pid:
        published(tool, pid)
        found = tool("gc-profile", "--duration", "1", "--json", pid).json()
        kinds = found["kinds"]
        assert kinds["generation2"]["count"] > 2
        assert kinds["generation2"]["max_ms"] > kinds["generation2"]["mean_ms"] > 0
        assert found["collections"] == sum(one["count"] for one in kinds.values())
        assert found["seconds_p95_ms"] >= kinds["generation2"]["mean_ms"]
        assert "gc.freeze()" in found["advice"] or "cost little" in found["advice"]
        text = tool("gc-profile", "--duration", "1", pid).out
        assert text.startswith("duration ")
        assert "\ngeneration2 " in text
        text = tool("gc-profile", "--duration", "1", "--prometheus", pid).out
        assert "# TYPE gc_pause_duration_seconds histogram\n" in text
        assert 'gc_collections_by_generation_total{generation="generation2"} ' in text


def test_gc_profile_of_a_command(tool: Tool) -> None:
    import sys

    words = ("--duration", "1", "--optimize", "--settle", "1", "--json")
    done = tool("gc-profile", *words, "--", sys.executable, "-c", COLLECTS)
    assert done.code == 0
    found = done.json()
    assert found["collections"] > 0
    assert found["after"]["collections"] > 0
    assert "ready\n" in done.err
    done = tool("gc-profile", "--", "sh", "-c", "exit 3")
    assert done.code == 4
    assert "the command ended with code 3 before it was under memguard" in done.err


def test_wrong_words(tool: Tool) -> None:
    for words, message in [
        (("ps", "x"), 'unexpected word "x"'),
        (("stats",), "one PID is needed"),
        (("stats", "x"), 'PID "x": a number from 1 to'),
        (("gc", "1", "2"), "one PID is needed"),
        (("top", "--sort", "colour"), '--sort "colour": pid, kind, rss'),
        (("top",), "there is no terminal; --once prints one table"),
        (("gc-profile",), "a PID, or a command after --, is needed"),
        (("gc-profile", "--duration", "0", "1"), '--duration "0": a number from 1'),
        (("snapshot", "--top", "-1", "1"), '--top "-1": a number from 0'),
        (("watch", "--rss", "5"), "either a command after -- or --pid PID is needed"),
        (("watch", "--pid", "1"), "--rss MB or --level LEVEL is needed"),
        (("watch", "--level", "odd", "x"), '--level "odd": normal, elevated,'),
        (("watch", "--rss", "5", "--pid", "1", "--restart"), "--restart needs a"),
        (("stress",), "MODULE:FUNCTION or FILE.js is needed"),
    ]:
        done = tool(*words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
