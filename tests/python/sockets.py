"""A server on the loopback interface, and threads for what waits."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial


def started(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


@contextlib.contextmanager
def echoing() -> Iterator[socket.socket]:
    """Echoes, one thread for each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def echo(peer: socket.socket) -> None:
        with peer:
            while data := peer.recv(100):
                peer.sendall(data)

    threads: list[threading.Thread] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(started(partial(echo, listener.accept()[0])))

    main = started(serve)
    yield listener
    listener.shutdown(socket.SHUT_RDWR)
    main.join(20)
    listener.close()
    for thread in threads:
        thread.join(20)
