"""uvicorn with memguard's middleware: workers are replaced, requests are not lost."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from memguard.integrations.uvicorn import leave
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


class Server:
    """As much of uvicorn's as is known of it."""

    def __init__(self, listener: asyncio.Server) -> None:
        self.servers = [listener]
        self.should_exit = False

    def handle_exit(self, *_: object) -> None:
        """What SIGTERM calls."""


class Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        self._transport.write(b"answer")
        self._transport.close()


def test_what_was_just_accepted_is_served() -> None:
    """It joins its listener in a task of its own, before which the worker leaves."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(Answering, "127.0.0.1", 0)
        address = listener.sockets[0].getsockname()
        server = Server(listener)
        signal.signal(signal.SIGTERM, server.handle_exit)

        def made(of: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **more):
            task = asyncio.Task(work, loop=of, **more)
            if work.__name__ == "_accept_connection2":
                leave(0.1)
            return task

        loop.set_task_factory(made)
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"question")
            assert await reader.read() == b"answer"
            writer.close()
            while not server.should_exit:
                await asyncio.sleep(0.01)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)

    before = signal.getsignal(signal.SIGTERM)
    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, before)
