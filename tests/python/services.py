"""Real services of several processes, and clients that notice what gets lost."""

import contextlib
import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WAIT_S = 90.0


@contextlib.contextmanager
def service(
    folder: Path, *words: object, **variables: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A service in a session of its own, all of which is gone afterwards; what it
    says goes to folder/log."""
    with open(folder / "log", "ab") as log:
        running = subprocess.Popen(
            [str(word) for word in words],
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
        running.wait(WAIT_S)


def until(condition: Callable[[], bool], what: str, seconds: float = WAIT_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited too long until {what}"
        time.sleep(0.02)


def get(port: int, path: str = "/") -> tuple[int, str]:
    """One request on a connection of its own, never repeated."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def serves(port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return get(port)[0] == 200
    return False


class Clients:
    """Threads that ask without a pause, and what they were answered: the pid of the
    worker."""

    def __init__(self, port: int, count: int = 4) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._is_over = False
        self.asked = 0
        self.pids: set[int] = set()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        while not self._is_over:
            with self._lock:
                self.asked += 1
                number = self.asked
            try:
                status, text = get(self._port, f"/{number}")
                pid, echoed = text.split()
                assert (status, echoed) == (200, f"/{number}")
                self.pids.add(int(pid))
            except Exception as error:
                self.failures.append(f"request {number}: {error!r}")

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join(WAIT_S)
