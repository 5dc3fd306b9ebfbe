"""A Redis of its own for the benchmarks that send something through one."""

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from group import stop

START_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(port: int) -> None:
    """@raise OSError nothing answers there in time."""
    end = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A server that keeps nothing and is gone afterwards. @return its URL."""
    with tempfile.TemporaryDirectory(prefix="memguard-bench-") as folder:
        port = free_port()
        words = ["redis-server", "--bind", "127.0.0.1", "--port", str(port)]
        words += ["--save", "", "--appendonly", "no"]
        server = subprocess.Popen(
            words, cwd=folder, stdout=subprocess.DEVNULL, text=True
        )
        try:
            wait_for(port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            stop(server)
