"""uvicorn with memguard's middleware: workers are replaced, requests are not lost."""

import signal
import sys
from pathlib import Path

import pytest
from segments import files, verdict
from servers import free_port
from services import Clients, serves, service, until

BIN = Path(sys.executable).parent
APP = """
import os

import memguard
from memguard.integrations.fastapi import init_app
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

app = FastAPI()
kept = []
init_app(
    app,
    config={"sample_interval": "20ms", "max_memory_mb": 1 << 20},
    max_rss_mb=memguard.rss_bytes() / 1048576 + 60,
    sustain=0.2,
    jitter=0.5,
    min_age=0,
)


@app.get("/{number}", response_class=PlainTextResponse)
async def grow(number: int, request: Request):
    kept.append(b"x" * 524288)
    return f"{os.getpid()} {request.url.path}"


@app.get("/", response_class=PlainTextResponse)
async def index():
    return "ready"
"""


@pytest.mark.timeout(300)
def test_workers_are_replaced_and_nothing_is_lost(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    words = ["--port", port, "--workers", 2, "--no-access-log", "app:app"]
    with service(tmp_path, BIN / "uvicorn", *words) as running:
        until(lambda: serves(port), "it serves")
        with Clients(port) as clients:
            until(lambda: len(clients.pids) >= 4, "workers were replaced", 200)
        assert clients.failures == []
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        # But for the last ones, which uvicorn ends by the signal it was sent.
        ends = [verdict(path) for path in files(folder)]
        assert ends.count("clean exit") >= 2
    log = (tmp_path / "log").read_text()
    assert "makes room for a new worker" in log
