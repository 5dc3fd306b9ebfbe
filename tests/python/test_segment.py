"""What a process shows of itself, requests from outside, ends of all kinds."""

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import memguard
import pytest
from segments import (
    Recorder,
    ask,
    files,
    segment_of,
    until,
    verdict,
)

COLLECT, SNAPSHOT, CENSUS, READ_CONFIG, UPDATE_CONFIG = 1, 3, 4, 5, 6

HOST = """
import sys, time
import memguard
manager = memguard.ResourceManager({"sample_interval": "10ms"})
print("up", flush=True)
sys.stdin.readline()
"""


@contextmanager
def host(code: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()


def test_segment_path(folder: Path) -> None:
    with memguard.ResourceManager({"sample_interval": "10ms"}) as manager:
        until(lambda: manager.segment_path is not None)
        path = manager.segment_path
        assert path is not None
        assert Path(path).parent == folder
        assert manager.memory_monitor.segment_path == path
        until(lambda: Recorder(Path(path)).number() >= 2)
        recorder = Recorder(Path(path))
        assert (recorder.pid, recorder.runtime) == (os.getpid(), "python")
        gc.collect()
        assert len(Recorder(Path(path)).ring("gc_event")[0]) > 0
        manager.memory_monitor.stop_monitoring()
        assert manager.segment_path is None
        manager.memory_monitor.start_monitoring()
        until(lambda: manager.segment_path is not None)
        assert manager.segment_path == path
    assert manager.segment_path is None


def test_disabled(folder: Path) -> None:
    settings = {"sample_interval": "10ms", "segment_enabled": False}
    with memguard.ResourceManager(settings) as manager:
        until(lambda: manager.memory_monitor.latest.number >= 5)
        assert manager.segment_path is None
        manager.update_config({"segment": {"enabled": True}})
        until(lambda: manager.segment_path is not None)


def test_a_directory_that_cannot_be_used_is_told_once(
    run_child: Callable[..., str],
) -> None:
    code = """
    import os, time
    os.environ["MEMGUARD_DIR"] = "/proc/memguard"
    import memguard
    monitor = memguard.MemoryMonitor({"sample_interval": "10ms"})
    end = time.monotonic() + 30
    while monitor.latest.number < 20 and time.monotonic() < end:
        time.sleep(0.01)
    for _ in range(20):
        monitor.collect_memory_stats()
    print(monitor.latest.number >= 20, monitor.segment_path)
    """
    said = run_child(code, stderr="the memguard tool cannot see this process")
    assert said == "True None\n"


def test_requests(folder: Path) -> None:
    with host(HOST) as process:
        path = segment_of(process, folder)
        until(lambda: Path(f"{path}.sock").exists())
        status, answer = ask(path, COLLECT, '{"kind": "full"}')
        assert status == 0, answer
        assert (status, json.loads(answer)["steps"][0]["action"]) == (0, "full")
        status, answer = ask(path, SNAPSHOT)
        assert json.loads(answer)["memory_stats"]["rss"] > 1000000
        assert json.loads(answer)["leak_detection"] == []
        status, answer = ask(path, CENSUS, '{"top": 3}')
        rows = json.loads(answer)
        assert [set(row) for row in rows] == [{"type", "count", "bytes"}] * 3
        assert rows[0]["bytes"] >= rows[1]["bytes"] >= rows[2]["bytes"] > 0
        assert ask(path, CENSUS, '{"top": 0}') == (1, "top is 0, allowed: 1 to 10000")
        status, answer = ask(path, UPDATE_CONFIG, '{"max_memory_mb": 777}')
        assert json.loads(answer)["memory"]["max_memory_mb"] == 777
        status, answer = ask(path, READ_CONFIG)
        assert json.loads(answer)["memory"]["max_memory_mb"] == 777
        # Bad ones change nothing.
        assert ask(path, UPDATE_CONFIG, '{"max_memory": 1}')[0] == 4
        assert ask(path, UPDATE_CONFIG, '{"max_memory_mb": -1}')[0] == 6
        assert ask(path, UPDATE_CONFIG, "[1]")[0] == 5
        assert ask(path, UPDATE_CONFIG, "{")[0] == 1
        assert ask(path, COLLECT, '{"kind": "all"}')[0] == 1
        status, answer = ask(path, READ_CONFIG)
        assert json.loads(answer)["memory"]["max_memory_mb"] == 777


ENDS = {
    "return": ("pass", 0),
    "exception": ("raise SystemError('on purpose')", 1),
    "sys.exit": ("sys.exit(3)", 3),
}


@pytest.mark.parametrize("end", ENDS)
def test_clean_exit(folder: Path, end: str) -> None:
    code, status = ENDS[end]
    wait = "\nwhile manager.segment_path is None: time.sleep(0.01)\n"
    program = HOST.replace("sys.stdin.readline()", wait + code)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status
    (path,) = files(folder)
    assert verdict(path) == "clean exit"


def test_a_signal_is_no_clean_exit(folder: Path) -> None:
    with host(HOST) as process:
        path = segment_of(process, folder)
        assert verdict(path) == "running"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert verdict(path) == "killed, not memory"
        assert not Path(f"{path}.sock").exists() or ask(path, 0)[0] == 11


FORKS = """
import os, sys, time
import memguard
manager = memguard.ResourceManager({"sample_interval": "10ms"})
def path():
    while manager.segment_path is None:
        time.sleep(0.01)
    return manager.segment_path
ours = path()
child = os.fork()
if child == 0:
    theirs = path()
    assert theirs != ours and f"-{os.getpid()}-" in theirs, theirs
    manager.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert path() == ours
"""


def test_a_forked_child_has_its_own(
    folder: Path, run_child: Callable[..., str]
) -> None:
    run_child(FORKS)
    assert [verdict(path) for path in files(folder)] == ["clean exit", "clean exit"]


POOLED = """
import multiprocessing, time
import memguard
manager = memguard.ResourceManager({"sample_interval": "10ms"})
def work(number):
    while manager.segment_path is None:
        time.sleep(0.01)
    return number
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    process = context.Process(target=work, args=(1,))
    process.start()
    process.join(30)
    assert process.exitcode == 0
"""


def test_multiprocessing_ends_cleanly(
    folder: Path, run_child: Callable[..., str]
) -> None:
    run_child(POOLED)
    ends = [verdict(path) for path in files(folder)]
    assert ends == ["clean exit"] * len(ends)
    assert len(ends) >= 1


# ---- real ends by memory ------------------------------------------------------

LEAKS = {
    "python": [
        sys.executable,
        "-c",
        """
import time
import memguard
manager = memguard.ResourceManager({"sample_interval": "10ms", "gc_budget_percent": 1})
while manager.segment_path is None:
    time.sleep(0.01)
kept = []
while True:
    kept.append(bytearray(262144))
    kept[-1][::4096] = bytes(64)
    time.sleep(0.0005)
""",
    ],
    "node": [
        "node",
        "-e",
        """
const { ResourceManager } = require('./node');
const manager = new ResourceManager({ sampleInterval: '10ms' });
const kept = [];
setInterval(() => {
  if (manager.segmentPath === null) return;
  // Large steps: a group that is all but full throws out the pages of the program
  // itself, again and again, and then little code runs for a long time.
  kept.push(Buffer.alloc(32 << 20, 1));
}, 20);
""",
    ],
}


@pytest.mark.parametrize("runtime", LEAKS)
def test_a_leak_in_a_control_group(
    folder: Path, control_group: Callable[[int], Path], runtime: str
) -> None:
    group = control_group(192)
    enter = f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"'
    done = subprocess.run(
        ["sh", "-c", enter, *LEAKS[runtime]],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (path,) = files(folder)
    assert Recorder(path).runtime == runtime
    assert verdict(path) == "OOM likely"
