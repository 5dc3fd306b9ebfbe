"""memguard.serve(): a real port, clients that are slow, many, rude or gone."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import memguard
import pytest
from memguard import _web_server
from web_client import (
    TOKEN,
    WAIT_S,
    WRITE,
    connected,
    fetch,
    is_closed,
    receive,
    request_bytes,
)

PING = request_bytes("GET", "/livez")


@pytest.fixture
def server() -> Iterator[Any]:
    with (
        memguard.ResourceManager({"sample_interval": "50ms"}) as manager,
        memguard.serve(port=0, token=TOKEN) as made,
    ):
        manager.memory_monitor.start_monitoring()
        until(lambda: fetch(made.address, "GET", "/livez").status == 200)
        yield made


def until(condition: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def web_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("memguard-web")]


def test_serves(server: Any) -> None:
    assert server.url == f"http://127.0.0.1:{server.address[1]}/"
    assert fetch(server.address, "GET", "/livez").json == {"status": "ok"}
    assert fetch(server.address, "HEAD", "/metrics").headers["content-length"] != "0"
    page = fetch(server.address, "GET", "/")
    assert page.status in (200, 404)  # built without the dashboard
    assert "default-src 'none'" in page.headers["content-security-policy"]
    done = fetch(server.address, "POST", "/api/v1/memory/gc", WRITE)
    assert done.json["message"] == "Garbage collection completed"
    put = fetch(
        server.address,
        "PUT",
        "/api/v1/memory/config",
        WRITE,
        b'{"gc_interval": "70s"}',
    )
    assert put.json["memory"]["gc_interval"] == 70
    assert fetch(server.address, "POST", "/api/v1/memory/gc").status == 401


def test_keeps_connections(server: Any) -> None:
    with connected(server.address) as sock:
        for _ in range(20):
            sock.sendall(PING)
            response = receive(sock)
            assert response.status == 200
            assert response.headers["connection"] == "keep-alive"
            assert response.headers["date"].endswith(" GMT")
        sock.sendall(request_bytes("GET", "/livez", {"Connection": "close"}))
        assert receive(sock).headers["connection"] == "close"
        assert is_closed(sock)


def test_requests_in_one_piece(server: Any) -> None:
    """More than a recursion could go."""
    with connected(server.address) as sock:
        sender = threading.Thread(target=sock.sendall, args=(PING * 2000,))
        sender.start()
        for _ in range(2000):
            assert receive(sock).status == 200
        sender.join(WAIT_S)


def test_a_request_byte_by_byte(server: Any) -> None:
    whole = request_bytes("POST", "/api/v1/memory/gc", WRITE, b'{"kind": "young"}')
    with connected(server.address) as sock:
        for at in range(len(whole)):
            sock.sendall(whole[at : at + 1])
        assert receive(sock).status == 200


def test_chunks(server: Any) -> None:
    head = request_bytes(
        "POST", "/api/v1/memory/gc", {**WRITE, "Transfer-Encoding": "chunked"}
    )
    with connected(server.address) as sock:
        sock.sendall(
            head + b'8;x=y\r\n{"kind":\r\n8\r\n "young"\r\n1\r\n}\r\n0\r\n\r\n'
        )
        assert receive(sock).json["round"]["steps"][0]["action"] == "young"
        sock.sendall(PING)
        assert receive(sock).status == 200


def test_expects_continue(server: Any) -> None:
    head = request_bytes(
        "POST",
        "/api/v1/memory/gc",
        {**WRITE, "Expect": "100-continue", "Content-Length": "2"},
    )
    with connected(server.address) as sock:
        sock.sendall(head)
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"{}")
        assert receive(sock).status == 200


LARGE = {**WRITE, "Content-Length": "1000000"}
CHUNKED = {**WRITE, "Transfer-Encoding": "chunked"}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /livez\r\n\r\n", 400),
        (b"GET  /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1 x\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /livez SMTP\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: local\x00host\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\nA: b\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /" + b"x" * 9000, 414),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 4000, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 30000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (request_bytes("POST", "/api/v1/memory/gc", LARGE), 413),
        (request_bytes("POST", "/", {"Content-Length": "9" * 400}), 413),
        (request_bytes("POST", "/", {"Content-Length": "-1"}), 400),
        (request_bytes("POST", "/", {"Content-Length": "1, 1"}), 400),
        (request_bytes("POST", "/", {**CHUNKED, "Content-Length": "1"}), 400),
        (request_bytes("POST", "/", {"Transfer-Encoding": "gzip, chunked"}), 400),
        (request_bytes("POST", "/", CHUNKED) + b"zz\r\n", 400),
        (request_bytes("POST", "/", CHUNKED) + b"-1\r\n", 400),
        (request_bytes("POST", "/", CHUNKED) + b"FFFFFFFF\r\n", 413),
        (request_bytes("POST", "/", CHUNKED) + b"2\r\nabc\r\n", 400),
        (request_bytes("POST", "/", CHUNKED) + b"1" * 300, 400),
        (request_bytes("POST", "/", CHUNKED) + b"0\r\nTrailer: x\r\n\r\n", 400),
    ],
)
def test_what_is_no_request(server: Any, data: bytes, status: int) -> None:
    with connected(server.address) as sock:
        sock.sendall(data)
        response = receive(sock)
        assert response.status == status
        assert response.json["error"]
        assert response.body.count(b"\n") == 1
        # Wrong words inside a whole request leave the connection as it was.
        if response.headers["connection"] == "close":
            assert is_closed(sock)
    assert fetch(server.address, "GET", "/livez").status == 200


def test_foreign_host(server: Any) -> None:
    response = fetch(server.address, "GET", "/livez", {"Host": "evil.example.com"})
    assert response.status == 421


def test_a_huge_body_that_is_sent_nevertheless(server: Any) -> None:
    with connected(server.address) as sock:
        sock.sendall(request_bytes("PUT", "/api/v1/memory/config", LARGE))
        with contextlib.suppress(ConnectionError):
            for _ in range(16):
                sock.sendall(b" " * 65536)
        assert receive(sock).status == 413


def test_slow_ones_do_not_hold_it_up(server: Any) -> None:
    slow = [connected(server.address) for _ in range(50)]
    try:
        for sock in slow:
            sock.sendall(b"GET /livez HTTP/1.1\r\nHost: local")
        for _ in range(10):
            assert fetch(server.address, "GET", "/livez").status == 200
    finally:
        for sock in slow:
            sock.close()


def test_1000_idle_connections(server: Any) -> None:
    idle = []
    try:
        for _ in range(1000):
            idle.append(connected(server.address))
        assert fetch(server.address, "GET", "/livez").status == 200
        assert len(server._clients) <= _web_server._CONNECTIONS
    finally:
        for sock in idle:
            sock.close()


def test_the_time_of_a_request_ends(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_web_server, "_PEER_S", 0.05)
    with connected(server.address) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        assert receive(sock).status == 408
        assert is_closed(sock)
    monkeypatch.setattr(_web_server, "_IDLE_S", 0.05)
    with connected(server.address) as sock:
        assert is_closed(sock)


def test_a_client_that_never_reads(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_web_server, "_PEER_S", 0.2)
    with connected(server.address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        stats = request_bytes("GET", "/metrics")
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                sock.send(stats * 100)
        assert fetch(server.address, "GET", "/livez").status == 200
        until(lambda: len(server._clients) <= 1)


def test_a_client_that_is_gone(server: Any) -> None:
    for _ in range(50):
        with connected(server.address) as sock:
            sock.sendall(request_bytes("POST", "/api/v1/memory/gc", WRITE))
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + b"\0" * 4
            )
    assert fetch(server.address, "GET", "/livez").status == 200


# ---- life --------------------------------------------------------------------------


def test_close_leaves_nothing() -> None:
    memguard.rss_bytes()  # what reads this process stays open without a manager
    before = len(os.listdir("/proc/self/fd"))
    server = memguard.serve(port=0, token=TOKEN)
    idle = connected(server.address)
    fetch(server.address, "POST", "/api/v1/memory/gc", WRITE)
    assert web_threads() == ["memguard-web", "memguard-web-work"]
    server.close()
    server.close()
    assert server.closed
    assert web_threads() == []
    assert is_closed(idle)
    idle.close()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ConnectionRefusedError):
        connected(server.address)
    # The port is free at once.
    with memguard.serve(port=server.address[1]) as again:
        assert again.address == server.address


def test_it_ends_with_the_process(run_child: Any) -> None:
    assert (
        run_child(
            """
            import memguard, sys
            sys.path.insert(0, "tests/python")
            from web_client import fetch
            memguard.serve(port=0)
            server = memguard.serve(port=0)
            print(fetch(server.address, "GET", "/health").status)
            """
        )
        == "200\n"
    )


def test_fork(run_child: Any) -> None:
    """The child has no server and holds none of the parent's sockets open."""
    assert (
        run_child(
            """
            import os, sys, time
            import memguard
            sys.path.insert(0, "tests/python")
            from web_client import connected, fetch, is_closed, receive, request_bytes
            server = memguard.serve(port=0)
            sock = connected(server.address)
            sock.sendall(request_bytes("GET", "/health"))
            assert receive(sock).status == 200
            gate, wait = os.pipe(), os.pipe()
            if (pid := os.fork()) == 0:
                assert server.closed
                server.close()
                own = memguard.serve(port=0)
                assert fetch(own.address, "GET", "/health").status == 200
                os.write(gate[1], b"x")
                os.read(wait[0], 1)
                own.close()
                os._exit(0)
            os.read(gate[0], 1)
            sock.sendall(request_bytes("GET", "/health"))
            assert receive(sock).status == 200
            server.close()
            assert is_closed(sock)  # while the child lives
            with memguard.serve(port=server.address[1]):
                pass
            os.write(wait[1], b"x")
            assert os.waitpid(pid, 0)[1] == 0
            print("ok")
            """,
            "-Wignore::DeprecationWarning",  # from 3.12 on: threads and fork()
        )
        == "ok\n"
    )


# ---- options -------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_another_address(host: str) -> None:
    with pytest.raises(memguard.InvalidError, match="allow_remote=True and a token"):
        memguard.serve(host, 0, token=TOKEN)
    with pytest.raises(memguard.ConflictError, match="a host of loopback, or a token"):
        memguard.serve(host, 0, allow_remote=True)


def test_remote_reads_need_the_token() -> None:
    with memguard.serve(
        "0.0.0.0", 0, allow_remote=True, token=TOKEN, read_needs_token=False
    ) as server:
        address = ("127.0.0.1", server.address[1])
        assert fetch(address, "GET", "/metrics").status == 401
        assert fetch(address, "GET", "/metrics", WRITE).status == 200
        assert fetch(address, "GET", "/livez").status in (200, 503)


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"port": -1}, memguard.RangeError, "port is -1, allowed: 0 to 65535"),
        ({"port": 65536}, memguard.RangeError, "port is 65536"),
        ({"port": "80"}, memguard.ConfigTypeError, "port is '80'"),
        ({"host": None}, memguard.ConfigTypeError, "host is None"),
        ({"port": 0, "token": "short"}, memguard.InvalidError, "16 to 256"),
        ({"port": 0, "nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_options(arguments: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        memguard.serve(**arguments)
    assert web_threads() == []


def test_a_port_that_is_taken() -> None:
    with memguard.serve(port=0) as server, pytest.raises(OSError, match="in use"):
        memguard.serve(port=server.address[1])


def test_ipv6() -> None:
    try:
        server = memguard.serve("::1", 0)
    except OSError:
        assert not os.path.exists("/proc/net/if_inet6") or "::1" not in _own_addresses()
        return
    with server:
        assert server.url.startswith("http://[::1]:")
        headers = {"Host": f"[::1]:{server.address[1]}"}
        assert fetch(server.address, "GET", "/health", headers).status == 200


def _own_addresses() -> list[str]:
    with open("/proc/net/if_inet6") as file:
        words = [line.split()[0] for line in file]
    return [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(word)) for word in words]
