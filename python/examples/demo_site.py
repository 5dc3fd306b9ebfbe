"""The exporter of the demo: the dashboard, and what memguard recorded of each host.

Hosts publish what they are in a folder of the demo's own; the exporter serves that,
also of hosts that have ended.
"""

import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "build" / "bin" / "memguard"
ASK_SECONDS = 30.0
END_SECONDS = 10.0
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class SiteError(Exception):
    """The exporter did not start, or does not answer."""


class Site:
    """`memguard exporter` on a free port of this machine, for the segments in
    `folder`. Raises SiteError."""

    def __init__(self, folder: Path) -> None:
        self._alerts: dict[tuple[int, str, int], dict[str, Any]] = {}
        try:
            # A session of its own: Ctrl-C reaches the launcher alone.
            self.process = subprocess.Popen(
                [TOOL, "exporter", "--listen", "127.0.0.1:0"], text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                start_new_session=True, preexec_fn=_end_with_parent,
                env={**os.environ, "MEMGUARD_DIR": str(folder)},
            )  # fmt: skip
        except OSError as error:
            raise SiteError(f"{TOOL}: {error.strerror}; ./dev build makes it") from None
        assert self.process.stdout is not None
        found = re.search(r"(http://\S+:(\d+)/)", self.process.stdout.readline())
        if found is None:
            self.close()
            raise SiteError(f"the exporter ended with {self.process.returncode}")
        self.url = found[1]
        self._port = int(found[2])

    def ask(self, target: str, seconds: float) -> Any:
        """What the API answers. Raises SiteError."""
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=seconds)
        with contextlib.closing(client):
            try:
                client.request("GET", target)
                answer = client.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise SiteError(f"the exporter does not answer: {error}") from None
        if answer.status != 200:
            raise SiteError(f"the exporter answers {answer.status} to {target}")
        return json.loads(body)

    def look(self, seconds: float = ASK_SECONDS) -> dict[int, dict[str, Any]]:
        """The hosts by pid. Notes which alerts fire: one that does not any more was
        resolved. Raises SiteError."""
        answer = self.ask("/api/v1/processes", seconds)
        rows = {row["pid"]: row for row in answer["processes"]}
        for alert in self._alerts.values():
            alert["fires"] = False
        for pid, row in rows.items():
            for alert in row["alerts_active"]:
                key = (pid, alert["kind"], alert["since_unix_ms"])
                self._alerts[key] = {**alert, "fires": True}
        return rows

    def alerts(self, pid: int) -> list[dict[str, Any]]:
        """All that were seen to fire, with "fires": whether they still do."""
        return [alert for (of, _, _), alert in self._alerts.items() if of == pid]

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
