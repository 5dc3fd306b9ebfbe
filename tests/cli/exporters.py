"""Exporters that tests talk to."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conftest import TOOL

TOKEN = "0123456789-abcdefghij"
WRITE = {"Authorization": f"Bearer {TOKEN}", "X-Memguard": "1"}
# What the linter of Prometheus says of names that hosts had before, and of no other.
UNITS = "metric names should not contain abbreviated units"
LINT_ALLOWED = {
    f"memory_gc_pause_ns {UNITS}",
    f"memory_growth_rate_mb_per_minute {UNITS}",
    'memory_total_alloc_bytes counter metrics should have "_total" suffix',
}


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Exporter:
    def __init__(self, running: "subprocess.Popen[str]", port: int) -> None:
        self.running, self.pid, self.port = running, running.pid, port

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        seconds: float = 60,
        **headers: str,
    ) -> Answer:
        """On a connection of its own. `_` in names of headers stands for `-`."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(client):
            lines = {name.replace("_", "-"): value for name, value in headers.items()}
            client.request(method, target, body, lines)  # type: ignore[arg-type]
            return Answer(client.getresponse())

    def get(self, target: str, **headers: str) -> Answer:
        return self.ask("GET", target, **headers)

    def metric(self, name: str, **labels: object) -> float | None:
        """The one sample that has these labels; None: there is none."""
        found = []
        for line in self.get("/metrics").text.splitlines():
            if re.match(rf"{name}[{{ ]", line) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                found.append(float(line.rpartition(" ")[2]))
        assert len(found) < 2, found
        return found[0] if found else None

    def processes(self) -> dict[int, Any]:
        rows = self.get("/api/v1/processes").json()["processes"]
        return {row["pid"]: row for row in rows}

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory_mb(self) -> float:
        """The most that was ever resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.running.send_signal(number)
        return self.running.wait(30)


@contextlib.contextmanager
def exporter(*words: object, token: str = TOKEN) -> Iterator[Exporter]:
    """One that listens at a free port, with a token."""
    variables = {**os.environ, "MEMGUARD_WEB_TOKEN": token}
    if not token:
        del variables["MEMGUARD_WEB_TOKEN"]
    if "--listen" not in words and "--unix" not in words:
        words = ("--listen", "127.0.0.1:0", *words)
    running = subprocess.Popen(
        [TOOL, "exporter", *map(str, words)],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line.startswith("memguard exporter: listening at "), line
        port = re.search(r":(\d+)/\n", line)
        yield Exporter(running, int(port[1]) if port else 0)
        assert running.poll() in (None, 0), "it ended by itself"
    finally:
        running.kill()
        running.communicate(timeout=30)


def lint(text: str) -> set[str]:
    """What `promtool check metrics` has to say."""
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # 3: it was read, and something is to be said of it.
    assert done.returncode in (0, 3), done.stderr
    return set(filter(None, (done.stdout + done.stderr).splitlines()))
