"""Celery with memguard: children are replaced, every task runs once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import memguard
import pytest
from memguard.integrations import celery as integration
from segments import files, until, verdict
from servers import Server
from services import service

BIN = Path(sys.executable).parent
TASKS = """
import os
import time

import memguard
import memguard.integrations.celery as integration
from celery import Celery

app = Celery("tasks", broker=os.environ["URL"], backend=os.environ["URL"])
app.conf.task_default_queue = os.environ["QUEUE"]
kept = []
integration.install(
    app,
    config={"sample_interval": "20ms", "max_memory_mb": 1 << 20, "auto_tune": True},
    max_rss_mb=memguard.rss_bytes() / 1048576 + 40,
    sustain=0.2,
    jitter=0.3,
    min_age=0,
)


@app.task
def grow(number):
    kept.append(b"x" * 1048576)
    with open("ran", "a") as file:  # one write of a line is whole
        file.write(f"{number}\\n")
    return [number, os.getpid()]


@app.task
def busy():
    from memguard.integrations import shared_manager

    tuner = shared_manager().gc_tuner
    end = time.monotonic() + 60
    while (tuner.load or 0) < 0.9 and time.monotonic() < end:
        time.sleep(0.05)
    return tuner.load
"""
CALL = """
import json
import time
import tasks

end = time.monotonic() + 150
answers = []
while len({pid for _, pid in answers}) < 6:
    assert time.monotonic() < end, "children are not replaced"
    first = len(answers)
    sent = [tasks.grow.delay(number) for number in range(first, first + 20)]
    answers += [one.get(timeout=90) for one in sent]
print(json.dumps(answers))
"""


def call(code: str, folder: Path, variables: dict[str, str]) -> object:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_children_are_replaced(
    folder: Path, tmp_path: Path, redis_server: Server
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    variables = {"URL": redis_server.url, "QUEUE": "replaced"}
    words = (BIN / "celery", "-A", "tasks", "worker", "-c", 2, "-l", "INFO")
    with service(tmp_path, *words, **variables) as running:
        answers = call(CALL, tmp_path, variables)
        assert [number for number, _ in answers] == list(range(len(answers)))
        assert running.pid not in {pid for _, pid in answers}
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        until(lambda: {verdict(path) for path in files(folder)} == {"clean exit"}, 60)
    ran = sorted(map(int, (tmp_path / "ran").read_text().split()))
    assert ran == list(range(len(answers)))
    log = (tmp_path / "log").read_text()
    assert "makes room for a new worker" in log
    assert "WorkerLostError" not in log


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_tasks_tell_the_load(tmp_path: Path, redis_server: Server, pool: str) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    variables = {"URL": redis_server.url, "QUEUE": f"busy-{pool}"}
    words = (BIN / "celery", "-A", "tasks", "worker", "-c", 1, "-P", pool)
    code = "import tasks; print(tasks.busy.delay().get(timeout=90))"
    with service(tmp_path, *words, **variables) as running:
        assert call(code, tmp_path, variables) >= 0.9
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0


def test_bad_limits() -> None:
    celery = pytest.importorskip("celery")
    app = celery.Celery("none")
    with pytest.raises(memguard.RangeError, match="sustain_ms is -1000, allowed: 0"):
        integration.install(app, max_rss_mb=5, sustain=-1)
    with pytest.raises(memguard.ConfigTypeError, match="app is 5, allowed: a Celery"):
        integration.install(5)
