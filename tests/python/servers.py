"""Redis and NATS servers of the tests' own, and a proxy that breaks connections."""

import contextlib
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sockets import started

WAIT_S = 30.0


class Server:
    """A server on a free port of the loopback interface."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, scheme: str):
        self._process = process
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(WAIT_S)


def program(name: str) -> str:
    """Its path; Debian keeps some servers where users have no PATH to."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    assert found is not None, f"{name} is not installed: ./dev setup"
    return found


def free_port() -> int:
    """Below those that outgoing connections get: while a server is away, a client
    that looks for it must not take its port."""
    while True:
        port = random.randrange(15_000, 32_000)
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            return port


def answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    """Waits until it takes connections, or has ended: the port was taken."""
    end = time.monotonic() + WAIT_S
    while process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        assert time.monotonic() < end, f"{process.args!r} does not answer"
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def serving(
    scheme: str, folder: Path, port: int = 0, *, is_kept: bool = False
) -> Iterator[Server]:
    """A server for "redis" or "nats"; `port` 0: a free one. `is_kept`: what Redis has
    acknowledged is in a file of the folder, and there again with the next server."""
    for _ in range(5):
        chosen = port or free_port()
        command = {
            "redis": f"{program('redis-server')} --bind 127.0.0.1 --port {chosen} "
            # Written before each answer; with everysec it might be later.
            f"--appendonly {'yes' if is_kept else 'no'} --appendfsync no --save",
            "nats": f"{program('nats-server')} -a 127.0.0.1 -p {chosen}",
        }[scheme].split()
        if scheme == "redis":
            command.append("")  # never saved
        with open(folder / f"{scheme}.log", "ab") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            if answers(chosen, process):
                yield Server(process, chosen, scheme)
                return
        finally:
            process.kill()
            process.wait(WAIT_S)
    raise AssertionError(f"no port was free for {scheme}")


class Proxy:
    """Passes connections on to a server; from limit() on only so many bytes of its
    answers, then everything is cut. Answers come `delay_s` late."""

    def __init__(self, target: int, delay_s: float = 0) -> None:
        self._target = target
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._left: int | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [started(self._serve)]

    def limit(self, count: int | None) -> None:
        """Lets `count` more bytes of answers through; None: all."""
        with self._lock:
            self._left = count

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        with self._lock:
            return self._left == 0

    def cut(self) -> None:
        """Ends all connections."""
        for pair in list(self._pairs):  # not the one that is made meanwhile
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                pair = (near, far)
                self._pairs.append(pair)
                self._threads.append(started(lambda p=pair: self._pass(*p)))
                self._threads.append(started(lambda p=pair: self._answer(*p)))

    def _pass(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)

    def _answer(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                time.sleep(self._delay_s)
                with self._lock:
                    if self._left is not None:
                        data = data[: self._left]
                        self._left -= len(data)
                    is_over = self._left == 0
                near.sendall(data)
                if is_over:
                    self.cut()
            near.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(WAIT_S)
        self._listener.close()
        self.cut()
        for thread in self._threads[1:]:
            thread.join(WAIT_S)
        for pair in self._pairs:
            for end in pair:
                end.close()


@contextlib.contextmanager
def proxy_to(server: Server, delay_s: float = 0) -> Iterator[Proxy]:
    proxy = Proxy(server.port, delay_s)
    try:
        yield proxy
    finally:
        proxy.close()
