"""kill -9 at random moments, under load: every recorder can be read.

SEGMENT_KILLS sets how many times for each runtime; 20 as a rule.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from segments import (
    RINGS,
    Recorder,
    segment_of,
    verdict,
)

KILLS = int(os.environ.get("SEGMENT_KILLS", "20"))

HOSTS = {
    "python": [
        sys.executable,
        "-c",
        """
import threading
import memguard
settings = {"sample_interval": "10ms", "monitor_interval": "10ms", "rss_warning": 1}
manager = memguard.ResourceManager(settings)
class Knot:
    def __init__(self):
        self.me = self
def load():
    while True:
        knots = [Knot() for _ in range(500)]
threading.Thread(target=load, daemon=True).start()
load()
""",
    ],
    "node": [
        "node",
        "-e",
        """
const { ResourceManager } = require('./node');
const settings = { sampleInterval: '10ms', monitorInterval: '10ms', rssWarning: 1 };
const manager = new ResourceManager(settings);
let kept = [];
setInterval(() => {
  for (let i = 0; i < 50000; i++) kept.push({ i });
  if (kept.length > 200000) kept = [];
}, 1);
""",
    ],
}


@pytest.mark.timeout(60 + 6 * KILLS)
@pytest.mark.parametrize("runtime", HOSTS)
def test_killed_at_any_moment(folder: Path, runtime: str) -> None:
    dice = random.Random(20261121)
    for _ in range(KILLS):
        kill_one(runtime, folder, dice.uniform(0, 0.3))


def kill_one(runtime: str, folder: Path, after_s: float) -> None:
    process = subprocess.Popen(
        HOSTS[runtime],
        cwd=Path(__file__).parents[2],
        text=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        path = segment_of(process, folder)
        time.sleep(after_s)
        before = Recorder(path).number()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    recorder = Recorder(path)  # checks the header
    # Nothing that was published is lost, and at most one thing is torn for each
    # thread that writes: the sampler, and two that collect.
    assert recorder.number() >= before > 0
    torn = {name: recorder.ring(name)[1] for name in RINGS}
    assert torn["second"] + torn["minute"] + torn["note"] <= 1
    assert torn["gc_event"] <= 2
    assert recorder.runtime == runtime
    assert len(recorder.ring("second")[0]) >= 1
    assert verdict(path) == "killed, not memory"
    path.unlink()
