"""A line server. Leaky: it stops listening to clients that hang up, no more."""

import os
import selectors
import socket

from service import serve

IS_LEAKY = os.environ["LEAK_USE"] == "leaky"
SELECTOR = selectors.DefaultSelector()
CONNECTIONS: dict[int, socket.socket] = {}
SERVER = socket.create_server(("127.0.0.1", 0))
SERVER.setblocking(False)
SELECTOR.register(SERVER, selectors.EVENT_READ)


def look() -> None:
    for key, _events in SELECTOR.select(timeout=0.2):
        if key.fileobj is SERVER:
            connection, _peer = SERVER.accept()
            CONNECTIONS[connection.fileno()] = connection
            SELECTOR.register(connection, selectors.EVENT_READ)
            continue
        connection = CONNECTIONS[key.fd]
        if line := connection.recv(4096):
            connection.sendall(line)
            continue
        SELECTOR.unregister(connection)
        if not IS_LEAKY:
            CONNECTIONS.pop(key.fd).close()


def visit(number: int) -> None:
    with socket.create_connection(SERVER.getsockname()) as client:
        look()
        client.sendall(f"line {number}\n".encode())
        look()
        assert client.recv(4096)
    look()


serve(visit, per_second=8)
