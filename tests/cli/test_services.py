"""`memguard run` in front of what services are really started with: every process of
them appears, they serve, and they end as without it."""

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, TOOL, Tool
from hosts import until

sys.path.insert(0, str(ROOT / "tests" / "python"))
from servers import free_port, serving

BIN = Path(sys.executable).parent
APP = """
import os
from flask import Flask
app = Flask(__name__)

@app.get("/")
def index():
    return str(os.getpid())
"""
TASKS = """
import os
from celery import Celery
app = Celery("tasks", broker=os.environ["URL"], backend=os.environ["URL"])

@app.task
def pid():
    return os.getpid()
"""
SERVER = """
const http = require('http');
http.createServer((_, response) => response.end(String(process.pid)))
  .listen(Number(process.env.PORT), '127.0.0.1');
"""
CLUSTER = """
const cluster = require('cluster');
if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
  process.on('SIGTERM', () => {
    process.exitCode = 5;
    for (const worker of Object.values(cluster.workers)) worker.process.kill();
  });
} else {
  require('http').createServer((_, response) => response.end(String(process.pid)))
    .listen(Number(process.env.PORT), '127.0.0.1');
}
"""


@contextlib.contextmanager
def service(
    folder: Path, *words: object, **variables: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A service under `memguard run`, with all it started gone afterwards."""
    with open(folder / "log", "ab") as log:
        running = subprocess.Popen(
            [TOOL, "run", "--set", "sample_interval=50ms", "--", *map(str, words)],
            cwd=folder,
            env={**os.environ, **variables},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait(30)


def answer(port: int) -> int:
    """The pid of the process that answers."""
    found = []

    def asked() -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as got,
        ):
            found.append(int(got.read()))
        return bool(found)

    until(asked, 60)
    return found[0]


def seen(tool: Tool, runtime: str) -> set[int]:
    rows = tool("ps", "--json").json()["processes"]
    return {one["pid"] for one in rows if one["runtime"] == runtime}


@pytest.fixture
def port() -> int:
    return free_port()


def test_flask(tool: Tool, tmp_path: Path, port: int) -> None:
    (tmp_path / "app.py").write_text(APP)
    words = (sys.executable, "-m", "flask", "run", "--port", port)
    with service(tmp_path, *words) as running:
        assert answer(port) == running.pid
        until(lambda: seen(tool, "python") == {running.pid})
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0


@pytest.mark.parametrize("preload", [False, True])
def test_gunicorn(tool: Tool, tmp_path: Path, port: int, preload: bool) -> None:
    (tmp_path / "app.py").write_text(APP)
    words = [BIN / "gunicorn", "-w", 4, "-b", f"127.0.0.1:{port}", "app:app"]
    if preload:
        words.append("--preload")
    with service(tmp_path, *words) as running:
        worker = answer(port)
        until(lambda: len(seen(tool, "python")) == 5, 60)
        assert {running.pid, worker} <= seen(tool, "python")
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    assert "memguard: not started" not in (tmp_path / "log").read_text()
    until(lambda: seen(tool, "python") == set())


def test_celery(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    call = "import tasks; print(tasks.pid.delay().get(timeout=60))"
    with serving("redis", tmp_path) as redis:
        words = (BIN / "celery", "-A", "tasks", "worker", "-c", 2, "-P", "prefork")
        with service(tmp_path, *words, URL=redis.url) as running:
            done = subprocess.run(
                [sys.executable, "-c", call],
                cwd=tmp_path,
                env={**os.environ, "URL": redis.url},
                capture_output=True,
                text=True,
                timeout=90,
                check=True,
            )
            worker = int(done.stdout)
            until(lambda: {running.pid, worker} <= seen(tool, "python"), 60)
            assert worker != running.pid
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0


def test_node(tool: Tool, tmp_path: Path, port: int) -> None:
    (tmp_path / "server.js").write_text(SERVER)
    with service(tmp_path, "node", "server.js", PORT=str(port)) as running:
        assert answer(port) == running.pid
        until(lambda: seen(tool, "node") == {running.pid})
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == -signal.SIGTERM


def test_node_cluster(tool: Tool, tmp_path: Path, port: int) -> None:
    (tmp_path / "cluster.js").write_text(CLUSTER)
    with service(tmp_path, "node", "cluster.js", PORT=str(port)) as running:
        worker = answer(port)
        until(lambda: len(seen(tool, "node")) == 3, 60)
        assert {running.pid, worker} <= seen(tool, "node")
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 5


def test_npm_start(tool: Tool, tmp_path: Path, port: int) -> None:
    (tmp_path / "server.js").write_text(SERVER)
    (tmp_path / "package.json").write_text('{"scripts": {"start": "node server.js"}}')
    with service(tmp_path, "npm", "start", PORT=str(port)) as running:
        worker = answer(port)
        until(lambda: {running.pid, worker} <= seen(tool, "node"), 60)
        os.kill(worker, signal.SIGTERM)
        assert running.wait(30) != 0
