"""A real Alertmanager, and a receiver of what it and our webhooks tell."""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from servers import WAIT_S, answers, free_port, program

CONFIG = """\
route:
  receiver: all
  group_by: ["..."]
  group_wait: 100ms
  group_interval: 200ms
  repeat_interval: 1h
receivers:
  - name: all
    webhook_configs:
      - url: {url}/alertmanager
        send_resolved: true
"""


class Receiver:
    """Notes (path, kind, state) of what is posted, and the bodies."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.bodies: list[tuple[str, Any]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                status = receiver.status
                if status == 200:
                    receiver.note(self.path, body)
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def note(self, path: str, body: Any) -> None:
        self.bodies.append((path, body))
        for alert in body["alerts"]:
            kind = alert.get("kind") or alert["labels"]["alertname"]
            state = alert.get("state") or alert["status"]
            self.told.append((path, kind, state))

    def kinds(self, path: str, state: str) -> set[str]:
        return {kind for at, kind, is_ in list(self.told) if (at, is_) == (path, state)}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT_S)


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    made = Receiver()
    try:
        yield made
    finally:
        made.close()


class Alertmanager:
    """On one port and with one folder, also after stop() and start()."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self._folder = folder
        self.config = folder / "alertmanager.yml"
        self.config.write_text(CONFIG.format(url=receiver.url))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            program("prometheus-alertmanager"),
            f"--config.file={self.config}",
            f"--storage.path={self._folder}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]
        with open(self._folder / "alertmanager.log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        assert answers(self.port, self._process), "Alertmanager has ended"

    def stop(self) -> None:
        """In good order: it keeps what it told."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(WAIT_S)
        finally:
            process.kill()
            process.wait(WAIT_S)


@contextlib.contextmanager
def alertmanager(folder: Path, receiver: Receiver) -> Iterator[Alertmanager]:
    """Not started yet."""
    made = Alertmanager(folder, receiver)
    try:
        yield made
    finally:
        made.stop()


def until(condition: Any, what: Any = "", seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited too long: {what() if what else ''}"
        time.sleep(0.02)
