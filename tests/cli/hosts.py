"""Programs under memguard that tests look at from outside."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from conftest import TOOL, Tool

HOLDS = """
import gc, sys, time
gc.disable()
held = [bytearray(b'1') * (1 << 20) for _ in range(int(sys.argv[1]))]
print("ready", flush=True)
time.sleep(120)
"""
COLLECTS = """
import gc, sys, time
end = time.monotonic() + 120
kept = [[i] for i in range(200_000)]
print("ready", flush=True)
while time.monotonic() < end:
    gc.collect(0)
    gc.collect()
    time.sleep(0.02)
"""
NODE = """
const end = Date.now() + 120000;
console.log('ready');
const timer = setInterval(() => Date.now() > end && clearInterval(timer), 20);
"""


@contextlib.contextmanager
def host(code: str, *words: str, node: bool = False) -> Iterator[int]:
    """Its pid, once it has said that it is ready; it is gone afterwards."""
    program = ["node", "-e"] if node else [sys.executable, "-c"]
    running = subprocess.Popen(
        [TOOL, "run", "--set", "sample_interval=50ms", "--", *program, code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        yield running.pid
    finally:
        running.kill()
        running.communicate(timeout=30)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


def published(tool: Tool, pid: int) -> None:
    """Waits for a sample that was taken from now on."""
    now_ms = time.time() * 1000

    def is_there() -> bool:
        rows = tool("ps", "--json").json()["processes"]
        return any(
            one["pid"] == pid
            and one["reading"]["rss_bytes"]
            and one["heartbeat_unix_ms"] > now_ms
            for one in rows
        )

    until(is_there)


def is_gone(pid: int) -> bool:
    """Also one that nobody has waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"
