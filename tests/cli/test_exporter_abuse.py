"""`memguard exporter` under peers that mean it ill, or do not care."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Tool
from exporters import WRITE, Exporter, exporter
from hosts import HOLDS, host, is_gone, published, until

HEAD = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def peers(site: Exporter, count: int) -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(socket.create_connection(("127.0.0.1", site.port), 30))
        yield opened
    finally:
        for one in opened:
            one.close()


def said(site: Exporter, words: bytes) -> bytes:
    """All that it says to these bytes until it closes."""
    with peers(site, 1) as (peer,):
        peer.settimeout(60)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(words)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := peer.recv(65536):
                got += chunk
        return got


def is_closed(peer: socket.socket) -> bool:
    """By the other side; nothing was said."""
    if not select.select([peer], [], [], 0)[0]:
        return False
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def site(tool: Tool) -> Iterator[Exporter]:
    """An exporter with one process, and with nothing left of all that at its end."""
    with host(HOLDS, "1") as pid, exporter() as one:
        published(tool, pid)
        until(lambda: one.metric("memguard_process_up", pid=pid) == 1)
        before = one.files()
        yield one
        assert one.metric("memguard_process_up", pid=pid) == 1
        until(lambda: one.files() <= before + 1)
        assert one.memory_mb() <= 40
        assert one.end() == 0


def test_a_thousand_idle_connections(site: Exporter) -> None:
    with peers(site, 1000):
        for _ in range(3):
            assert site.get("/metrics").status == 200
            assert site.get("/api/v1/processes").status == 200
        assert site.files() < 400


def test_a_thousand_half_requests(site: Exporter) -> None:
    with peers(site, 1000) as all_of_them:
        for number, peer in enumerate(all_of_them):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(HEAD[: number % 40])
        assert site.get("/metrics").status == 200


def test_slow_loris(site: Exporter) -> None:
    """A byte at a time: others are served meanwhile, and it does not go on forever."""
    with peers(site, 50) as all_of_them:
        end = time.monotonic() + 60
        left = list(all_of_them)
        while left:
            assert time.monotonic() < end, "they are still there"
            for peer in left:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    peer.send(b"x")
            assert site.get("/livez").status == 200
            left = [peer for peer in left if not is_closed(peer)]
            time.sleep(0.2)


def test_clients_that_never_read(site: Exporter) -> None:
    with peers(site, 400) as all_of_them:
        for peer in all_of_them:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(HEAD * 50)
        for _ in range(3):
            assert site.get("/metrics").status == 200


def test_clients_that_go_away(site: Exporter) -> None:
    for _ in range(100):
        with peers(site, 3) as (one, two, three):
            one.sendall(HEAD)
            two.sendall(HEAD[:20])
            three.sendall(
                b"POST /api/v1/memory/gc HTTP/1.1\r\nHost: localhost\r\n"
                + b"".join(f"{k}: {v}\r\n".encode() for k, v in WRITE.items())
                + b"Content-Length: 2\r\n\r\n{}"
            )
    assert site.get("/metrics").status == 200


def test_wrong_requests(site: Exporter) -> None:
    for target, code in [
        ("/nope", 404),
        ("/../../etc/passwd", 404),
        ("/assets/../index.html", 404),
        ("/assets/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/api/v1/memory/stats?pid=0", 400),
        ("/api/v1/memory/stats?pid=-1", 400),
        ("/api/v1/memory/stats?pid=99999999999999999999", 400),
        ("/api/v1/memory/stats?pid=4194303", 404),
        ("/api/v1/memory/history?max=-1", 400),
        ("/api/v1/memory/history?max=1e9", 400),
        ("/api/v1/memory/history?ring=hour", 400),
        ("/api/v1/memory/history?since_unix_ms=x", 400),
        ("/metrics?frobnicate=1", 400),
        ("/metrics?pid=%00", 400),
        ("/" + "a" * 3000, 414),
    ]:
        answer = site.get(target)
        assert answer.status == code, (target, answer.text)
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert answer.text.count("\n") == 1
        assert answer.json()["error"]
    for method, target, code in [
        ("DELETE", "/metrics", 405),
        ("POST", "/metrics", 405),
        ("GET", "/api/v1/memory/gc", 405),
        ("FROBNICATEALLOFTHEM", "/metrics", 405),
    ]:
        answer = site.ask(method, target, **WRITE)
        assert answer.status == code
        assert "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]


def test_head(site: Exporter) -> None:
    answer = site.ask("HEAD", "/metrics")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000


def test_wrong_bodies(site: Exporter) -> None:
    target = "/api/v1/memory/config"
    for body, code in [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b'{"memory": {"max_memory_mb": -1}}', 400),
        (b'{"memory": {"max_memory_mb": "many"}}', 400),
        (b"[" * 60_000, 400),
        (b"x" * 70_000, 413),
        (b"x" * 8_000_000, 413),
    ]:
        answer = site.ask("PUT", target, body, **WRITE)
        assert answer.status == code, (body[:40], answer.text)
        assert answer.json()["error"]
    found = site.get(target).json()
    assert found["memory"]["max_memory_mb"] == 2048


def test_bodies_in_chunks(site: Exporter) -> None:
    def chunks(size: int, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield b" " * size

    answer = site.ask("PUT", "/api/v1/memory/config", chunks(1000, 100), **WRITE)
    assert answer.status == 413
    answer = site.ask("POST", "/api/v1/memory/gc", iter([b"{", b"}"]), **WRITE)
    assert answer.status == 200


def test_what_says_to_be_endless(site: Exporter) -> None:
    start = b"PUT /api/v1/memory/config HTTP/1.1\r\nHost: localhost\r\n"
    got = said(site, start + b"Content-Length: 99999999999\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413 ")
    end = time.monotonic() + 60
    with peers(site, 1) as (peer,):
        peer.sendall(start + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < end:
                peer.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert time.monotonic() < end, "it is still read"


@pytest.mark.parametrize(
    "words",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500 + b"\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"POST /api/v1/memory/gc HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: -1\r\n\r\n",
        b"POST /api/v1/memory/gc HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: x\r\n\r\n",
        b"PUT /api/v1/memory/config HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"A" * 100_000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 200_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request(site: Exporter, words: bytes) -> None:
    """It is told so, or nothing; never that it was well."""
    got = said(site, words.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert got == b"" or re.match(rb"HTTP/1\.1 (4\d\d|505) ", got)


def test_headers_that_are_too_many(site: Exporter) -> None:
    answer = site.get("/metrics", **{f"X-{i}": "1" for i in range(150)})
    assert answer.status == 431
    assert answer.json()["error"]
    answer = site.get("/metrics", **{"X-Long": "1" * 20_000})
    assert answer.status == 431
    assert answer.json()["error"]


def test_processes_that_come_and_go(tool: Tool) -> None:
    """Nothing stays open of those that are gone."""
    with exporter() as site, host(HOLDS, "1") as stays:
        published(tool, stays)
        assert stays in site.processes()
        before = site.files()
        for _ in range(3):
            with host(HOLDS, "1") as one, host(HOLDS, "1") as two:
                until(lambda pids=(one, two): set(pids) <= set(site.processes()))
                os.kill(one, signal.SIGKILL)
                until(lambda pid=one: not site.processes()[pid]["alive"])
            assert is_gone(two)
        folder = os.environ["MEMGUARD_DIR"]
        for name in os.listdir(folder):
            if f"-{stays}-" not in name:
                os.unlink(os.path.join(folder, name))
        until(lambda: set(site.processes()) == {stays})
        until(lambda: site.files() <= before)


def test_foreign_files(site: Exporter) -> None:
    folder = Path(os.environ["MEMGUARD_DIR"])
    (path,) = [one for one in folder.iterdir() if re.fullmatch("[0-9a-f-]+", one.name)]
    whole = path.read_bytes()
    base = path.name.rpartition("-")[0].rpartition("-")[0]
    for number, content in enumerate([b"", b"x" * 1000, whole[:5000], whole[::-1]]):
        (folder / f"{base}-{4_000_000 + number}-1").write_bytes(content)
    os.mkfifo(folder / f"{base}-4000010-1")
    (folder / f"{base}-4000011-1").mkdir()
    (folder / f"{base}-4000012-1").symlink_to("/dev/zero")
    for _ in range(3):
        assert len(site.processes()) == 1
        assert site.get("/metrics").status == 200


def test_many_requests(site: Exporter) -> None:
    """From fifty at once; not one fails."""
    done = subprocess.run(
        ["wrk", "-t", "2", "-c", "50", "-d", "3s", "--timeout", "60s",
         f"http://127.0.0.1:{site.port}/metrics"],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    found = re.search(r"(\d+) requests in", done.stdout)
    assert found is not None
    assert int(found[1]) > 50
    assert "Non-2xx" not in done.stdout
    assert "Socket errors" not in done.stdout
