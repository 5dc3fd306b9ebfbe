"""Requests for the tests of the web site: over a socket as bytes, and into WSGI and
ASGI applications as a server hands them over."""

import asyncio
import io
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

TOKEN = "0123456789abcdef"
WRITE = {"Authorization": f"Bearer {TOKEN}", "X-Memguard": "1"}
WAIT_S = 30.0


class Response:
    """Status, headers (names in small letters) and body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=WAIT_S)


def receive(sock: socket.socket, is_head: bool = False) -> Response:
    """One response."""
    data = b""
    while b"\r\n\r\n" not in data:
        seen = sock.recv(4096, socket.MSG_PEEK)
        assert seen, f"the connection ended after {data!r}"
        end = (data + seen).find(b"\r\n\r\n")
        data += sock.recv(end + 4 - len(data) if end >= 0 else len(seen))
    first, *lines = data[:-4].decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    body = b""
    length = 0 if is_head else int(headers["content-length"])
    while len(body) < length:
        part = sock.recv(length - len(body))
        assert part, "the connection ended inside a body"
        body += part
    return Response(int(first.split(" ")[1]), headers, body)


def is_closed(sock: socket.socket) -> bool:
    """Waits for the other side's end."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        return True
    return True


def request_bytes(
    method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    every = {"Host": "localhost", **(headers or {})}
    if body:
        every["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in every.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def fetch(
    address: tuple[str, int],
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Response:
    with connected(address) as sock:
        sock.sendall(request_bytes(method, target, headers, body))
        return receive(sock, method == "HEAD")


def call_wsgi(
    app: Callable[..., Any],
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    **environ: Any,
) -> Response:
    """As a WSGI server would."""
    path, _, query = path.partition("?")
    started: list[Any] = []
    every = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SCRIPT_NAME": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        every["CONTENT_LENGTH"] = str(len(body))
    for name, value in (headers or {}).items():
        every["HTTP_" + name.upper().replace("-", "_")] = value
    every.update(environ)
    parts = app(
        every, lambda status, lines, *_: started.append((status, lines)) or None
    )
    content = b"".join(parts)
    if hasattr(parts, "close"):
        parts.close()
    status, lines = started[0]
    return Response(int(status[:3]), {k.lower(): v for k, v in lines}, content)


def call_asgi(
    app: Callable[..., Awaitable[None]],
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: list[bytes] | None = None,
    **scope: Any,
) -> Response:
    """As an ASGI server would; `body` in parts."""
    path, _, query = path.partition("?")
    parts = list(body or [b""])
    sent: list[Any] = []

    async def receive_part() -> dict[str, Any]:
        if not parts:
            await asyncio.Event().wait()  # the client stays
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    every = {"Host": "localhost", **(headers or {})}
    whole = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in every.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        **scope,
    }
    asyncio.run(app(whole, receive_part, send))
    start = next(m for m in sent if m["type"] == "http.response.start")
    content = b"".join(
        m.get("body", b"") for m in sent if m["type"] == "http.response.body"
    )
    lines = {k.decode(): v.decode() for k, v in start["headers"]}
    return Response(start["status"], lines, content)
