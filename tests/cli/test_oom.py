"""Killed for memory in a real control group: who it was is known afterwards."""

import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, TOOL, Tool

sys.path.insert(0, str(ROOT / "bench"))
from group import memory_group

LIMIT_MB = 400  # objects are counted while much of it is free

# Leaks at a steady pace until its detector has named who it is, then fast.
LEAKS = """
import sys, time
detector = sys.modules["memguard.start"].begin().leak_detector
class Session:
    def __init__(self):
        self.me = [self]
held = []
def is_named():
    names = [one.name for found in detector.findings for one in found.culprits]
    return "__main__.Session" in names
began = time.monotonic()
while (seconds := time.monotonic() - began) < 80 and not is_named():
    held.extend(Session() for _ in range(int(8000 * seconds) - len(held)))
    time.sleep(0.02)
print(seconds < 80, flush=True)
while True:
    held.append(bytearray(b"1") * (1 << 20))
    time.sleep(0.005)
"""
LEAKS_IN_NODE = """
const { leakDetector } = globalThis[Symbol.for('memguard.start')];
class Session { constructor(n) { this.n = n; this.me = [this]; } }
const held = [];
const began = Date.now();
const isNamed = () => leakDetector.findings.flatMap((one) => one.culprits)
  .some((culprit) => culprit.name === 'Session');
const timer = setInterval(() => {
  const ms = Date.now() - began;
  while (held.length < 10 * ms) held.push(new Session(held.length));
  if (!isNamed() && ms < 80000) return;
  clearInterval(timer);
  console.log(isNamed());
  const kept = [];
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (;;) { // in one turn: it is not asked who else grows
    kept.push(Buffer.alloc(1 << 20, 1));
    Atomics.wait(never, 0, 0, 5);
  }
}, 20);
"""
WORDS = (  # on suspicion objects are counted, however long it takes
    *("--set", "time_scale=120", "--set", "sample_interval=50ms"),
    *("--set", "leak_collect=10s"),
)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ([sys.executable, "-c", LEAKS], "__main__.Session"),
        (["node", "-e", LEAKS_IN_NODE], "Session"),
    ],
    ids=["python", "node"],
)
def test_an_oom_kill(tool: Tool, program: list[str], name: str) -> None:
    with memory_group(LIMIT_MB) as group:
        words = group.command([str(TOOL), "run", *WORDS, "--", *program])
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running:
            try:
                out, errors = running.communicate(timeout=100)
            finally:
                running.kill()
        assert running.returncode == -signal.SIGKILL, errors
        assert out.lower() == "true\n"
        assert group.kills() >= 1
        (one,) = tool("postmortem", "--json").json()["processes"]
        text = tool("postmortem").out
    assert (one["pid"], one["verdict"]) == (running.pid, "OOM likely")
    assert one["growing"][0]["name"] == name
    assert one["growing"][0]["grown_count"] > 100
    assert text.splitlines()[0].endswith(": OOM likely")
    assert "\nwhat was growing\n" in text
    assert f"  {name}  +" in text


def test_a_leak_that_is_killed_otherwise(tool: Tool) -> None:
    """Far from its limit: not memory."""
    words = [str(TOOL), "run", *WORDS, "--", sys.executable, "-c", LEAKS]
    with memory_group(2000) as group:
        with subprocess.Popen(
            group.command(words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == b"True\n"
            time.sleep(0.2)
            running.kill()
            running.communicate(timeout=30)
        (one,) = tool("postmortem", "--json").json()["processes"]
    assert one["verdict"] == "killed, not memory"
    assert one["growing"][0]["name"] == "__main__.Session"
