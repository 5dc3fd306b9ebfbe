"""A broker of its own on the loopback interface, for who has none at hand."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 30.0
ATTEMPTS = 5  # somebody else may take a free port first
# The server ends with this process, however that ends: then the input closes.
WATCHED = """exec 3<&0; (cat <&3 >/dev/null; kill -KILL $$) &
exec "$@" </dev/null >/dev/null 2>&1 3<&-"""


class BrokerError(Exception):
    """There is no broker; the text says why."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def command(program: str, port: int, folder: Path) -> list[str]:
    """Redis writes to its file before it acknowledges: that survives its end. Only
    who fears for the machine needs "always", and with everysec it may write later."""
    if program.endswith("nats-server"):
        return [program, "-a", "127.0.0.1", "-p", str(port)]
    return [
        program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder),
        "--save", "", "--appendonly", "yes", "--appendfsync", "no",
    ]  # fmt: skip


def answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def serving(program: str) -> Iterator[str]:
    """Runs redis-server, with a file, or nats-server. @return its URL.
    Raises BrokerError."""
    # Debian keeps some servers where users have no PATH to.
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        raise BrokerError(f"{program} is not installed; --url names one that runs")
    with tempfile.TemporaryDirectory(prefix="message-bus-") as folder:
        for _ in range(ATTEMPTS):
            port = free_port()
            words = command(path, port, Path(folder))
            # A group of its own: Ctrl-C is no reason for it to end.
            process = subprocess.Popen(
                ["sh", "-c", WATCHED, "sh", *words], cwd=folder,
                stdin=subprocess.PIPE, process_group=0,
            )  # fmt: skip
            try:
                if answers(port, process):
                    scheme = "nats" if "nats" in program else "redis"
                    yield f"{scheme}://127.0.0.1:{port}"
                    return
            finally:
                assert process.stdin is not None
                process.stdin.close()
                process.wait()
    raise BrokerError(f"{program} does not start")
