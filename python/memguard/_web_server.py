"""memguard.serve(): the site on a port of its own.

One thread moves bytes and never waits for a client; what a request has the process do
runs on a second one, which is started by the first such request. Whoever is slow is
given up: a request must be whole, a response be taken within _PEER_S.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections import deque

from memguard import _life, _log
from memguard._core import (
    ConflictError,
    InvalidError,
    RangeError,
    _web_is_loopback,
)
from memguard._web_request import Reader, RefusedError
from memguard.web import _checked, _lines, _site, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard._core import WebResponse
    from memguard.web import Site, SiteOptions

_CONNECTIONS = 128  # more: whoever waits longest without a request is closed
_ASKS = 8  # requests that wait for their turn
_PEER_S = 10.0
_IDLE_S = 15.0  # a connection without a request
_DRAIN_S = 1.0  # after a refusal: so that the client reads it
_CLOSE_S = 5.0
_CHUNK_BYTES = 65536
_BACKLOG = 128
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def _date() -> str:
    """In English, whatever the locale."""
    now = time.gmtime()
    return (
        f"{_DAYS[now.tm_wday]}, {now.tm_mday:02} {_MONTHS[now.tm_mon - 1]} "
        f"{now.tm_year} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02} GMT"
    )


def _message(response: WebResponse, keep_alive: bool) -> bytes:
    status, reason, _, body, is_head = response
    lines = [
        f"HTTP/1.1 {status} {reason}",
        *(f"{name}: {value}" for name, value in _lines(response)),
        f"Date: {_date()}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
    return head if is_head else head + body


class _Connection:
    """One client: reads (and may drain), asks or writes."""

    __slots__ = (
        *("events", "is_asking", "is_draining", "keep_alive", "out"),
        *("reader", "socket", "until"),
    )

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.socket = sock
        self.reader = Reader()
        self.out = memoryview(b"")
        self.keep_alive = True
        self.is_asking = False
        self.is_draining = False
        self.until = now + _IDLE_S
        self.events = 0

    @property
    def is_idle(self) -> bool:
        return not (self.is_asking or self.out)


class Server(_life.Closing):
    """What serve() returns; it runs until close(), the end of its `with` block or of
    the process. Methods: any thread.

    address: (host, port) that it listens on
    url:     of its dashboard
    closed:  whether it has ended (in a forked child: always)
    """

    def __init__(self, listener: socket.socket, site: Site) -> None:
        self._site = site
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = socket.socketpair()
        self._clients: dict[int, _Connection] = {}
        self._asks: deque[tuple[_Connection, tuple[str, str, int]]] = deque()
        self._answers: deque[tuple[_Connection, WebResponse]] = deque()
        self._ask_due = threading.Semaphore(0)
        self._asker: threading.Thread | None = None
        self._is_closing = False
        self._pid = os.getpid()
        host, port = listener.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        self.url = (
            f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        )
        for sock in (listener, self._wake_out, self._wake_in):
            sock.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._thread = threading.Thread(
            target=self._run, name="memguard-web", daemon=True
        )
        self._thread.start()
        _life.add(self)

    @property
    def closed(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Ends it; a request under way is cut off. Returns when its port is free. Twice
        is once."""
        if not self._is_closing:
            self._is_closing = True
            _life.remove(self)
            self._wake()
            self._ask_due.release()
        if self._is_forked():
            return
        for thread in (self._thread, self._asker):
            if thread is not None and thread is not threading.current_thread():
                thread.join(_CLOSE_S)

    def __repr__(self) -> str:
        return f"<memguard web server {self.url}{' closed' if self.closed else ''}>"

    # ---- life ---------------------------------------------------------------------

    def _is_forked(self) -> bool:
        return self._pid != os.getpid()

    def _at_exit(self) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        """The sockets are the parent's: here they would only keep its clients and its
        port from ever being let go."""
        self._is_closing = True
        self._let_go()

    def _let_go(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._selector.close()
        for client in list(self._clients.values()):
            client.socket.close()
        self._clients.clear()
        for sock in (self._listener, self._wake_out, self._wake_in):
            sock.close()

    def _wake(self) -> None:
        # Full: it wakes up anyhow. Closed: it has ended.
        with contextlib.suppress(OSError):
            self._wake_in.send(b"\0")

    # ---- the thread that moves bytes ------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._step()
        except Exception:
            if not self._is_forked():
                _log.failure("the web server ended")
        finally:
            self._is_closing = True
            if not self._is_forked():
                self._let_go()
                self._ask_due.release()

    def _step(self) -> None:
        now = time.monotonic()
        due = min((client.until for client in self._clients.values()), default=None)
        for key, events in self._selector.select(
            None if due is None else max(due - now, 0.0)
        ):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wake_out:
                with contextlib.suppress(OSError):
                    self._wake_out.recv(_CHUNK_BYTES)
            else:
                self._attend(key.data, events)
        while self._answers:
            client, response = self._answers.popleft()
            client.is_asking = False
            if client.socket.fileno() >= 0:
                self._answer(client, response)
                self._go_on(client)
        now = time.monotonic()
        for client in [c for c in self._clients.values() if c.until <= now]:
            self._give_up(client)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            # Without descriptors the listener stays ready: not at full speed.
            time.sleep(0.01)
            return
        sock.setblocking(False)
        if len(self._clients) >= _CONNECTIONS:
            idle = [client for client in self._clients.values() if client.is_idle]
            if not idle:
                sock.close()
                return
            self._drop(min(idle, key=lambda client: client.until))
        client = _Connection(sock, time.monotonic())
        self._clients[sock.fileno()] = client
        self._watch(client)

    def _watch(self, client: _Connection) -> None:
        """Has the selector tell what the client is to do next."""
        events = 0
        if client.out:
            events = selectors.EVENT_WRITE
        elif not client.is_asking:
            events = selectors.EVENT_READ
        if events == client.events:
            return
        if client.events == 0:
            self._selector.register(client.socket, events, client)
        elif events == 0:
            self._selector.unregister(client.socket)
        else:
            self._selector.modify(client.socket, events, client)
        client.events = events

    def _drop(self, client: _Connection) -> None:
        self._clients.pop(client.socket.fileno(), None)
        if client.events:
            self._selector.unregister(client.socket)
            client.events = 0
        client.socket.close()

    def _give_up(self, client: _Connection) -> None:
        if client.is_asking:
            client.until = time.monotonic() + _PEER_S
        elif client.reader.has_begun and not client.out and not client.is_draining:
            self._refuse(client, 408, f"the request was not whole within {_PEER_S:g} s")
            self._go_on(client)
        else:
            self._drop(client)

    def _attend(self, client: _Connection, events: int) -> None:
        if client.socket.fileno() < 0:
            return  # dropped in this very step
        try:
            if events & selectors.EVENT_WRITE:
                self._go_on(client)
            else:
                self._read(client)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    # ---- one client -----------------------------------------------------------------

    def _read(self, client: _Connection) -> None:
        data = client.socket.recv(_CHUNK_BYTES)
        if not data:
            self._drop(client)
        elif not client.is_draining:
            if not client.reader.has_begun:
                client.until = time.monotonic() + _PEER_S
            client.reader.feed(data)
            self._go_on(client)

    def _go_on(self, client: _Connection) -> None:
        """Writes what is to be written and answers what is whole, as far as that goes
        without waiting."""
        try:
            while client.out or self._take(client):
                self._write(client)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        self._watch(client)

    def _take(self, client: _Connection) -> bool:
        """Answers the next request. Returns whether there is something to write."""
        if client.is_asking or client.is_draining:
            return False
        try:
            request = client.reader.next()
        except RefusedError as refused:
            self._refuse(client, refused.status, refused.text)
            return True
        if request is None:
            if client.reader.is_waiting:
                client.reader.is_waiting = False
                client.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        client.keep_alive = request.keep_alive
        response, job = self._site.plan(
            request.method, request.target, request.headers, request.body
        )
        if response is not None:
            self._answer(client, response)
        elif len(self._asks) >= _ASKS:
            self._answer(client, refusal(503, "too many requests wait for the process"))
        else:
            assert job is not None
            self._ask(client, job)
        return not client.is_asking

    def _refuse(self, client: _Connection, status: int, text: str) -> None:
        client.keep_alive = False
        self._answer(client, refusal(status, text))

    def _answer(self, client: _Connection, response: WebResponse) -> None:
        client.out = memoryview(_message(response, client.keep_alive))
        client.until = time.monotonic() + _PEER_S

    def _write(self, client: _Connection) -> None:
        client.out = client.out[client.socket.send(client.out) :]
        if client.out:
            return
        if client.keep_alive:
            wait_s = _PEER_S if client.reader.has_begun else _IDLE_S
        else:
            client.is_draining = True
            client.socket.shutdown(socket.SHUT_WR)
            wait_s = _DRAIN_S
        client.until = time.monotonic() + wait_s

    # ---- the thread that works ------------------------------------------------------

    def _ask(self, client: _Connection, job: tuple[str, str, int]) -> None:
        client.is_asking = True
        client.until = time.monotonic() + _PEER_S
        self._asks.append((client, job))
        self._ask_due.release()
        if self._asker is None:
            self._asker = threading.Thread(
                target=self._work, name="memguard-web-work", daemon=True
            )
            self._asker.start()

    def _work(self) -> None:
        while True:
            self._ask_due.acquire()
            if self._is_closing:
                return
            client, job = self._asks.popleft()
            try:
                response = self._site.ask(job)
            except Exception as error:
                _log.failure("a web request failed")
                response = refusal(500, f"{type(error).__name__}: {error}")
            self._answers.append((client, response))
            self._wake()


def open_server(
    host: str, port: int, allow_remote: bool, options: SiteOptions
) -> Server:
    """See memguard.web.serve()."""
    _checked("host", host, str, "a host name or address")
    _checked("port", port, int, "0 to 65535")
    if not 0 <= port <= 65535:
        raise RangeError(f"port is {port}, allowed: 0 to 65535")
    if not _web_is_loopback(host):
        if allow_remote is not True:
            raise InvalidError(
                f"host is {host!r}, allowed: 127.0.0.1, ::1 or localhost; any other "
                "only with allow_remote=True and a token"
            )
        options = {**options, "read_needs_token": True}
        named = f"[{host}]" if ":" in host else host
        if host not in ("", "0.0.0.0", "::"):
            options["allowed_hosts"] = [*options.get("allowed_hosts", ()), named]
    try:
        site = _site(**options)
    except ConflictError:
        if _web_is_loopback(host):
            raise
        raise ConflictError(
            f"host is {host!r} and there is no token, allowed: a host of loopback, or "
            "a token"
        ) from None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        return Server(listener, site)
    except BaseException:
        listener.close()
        raise
