"""The site inside real applications: Flask, Starlette, Django; gunicorn, uvicorn."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import flask
import memguard
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from memguard import web
from servers import free_port
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from web_client import TOKEN, WAIT_S, WRITE, call_asgi, call_wsgi, fetch

urlpatterns = [path("own", lambda request: HttpResponse("own"))]


@pytest.fixture(autouse=True)
def _running() -> Iterator[None]:
    with memguard.ResourceManager() as manager:
        manager.memory_monitor.start_monitoring()
        yield


@pytest.fixture(scope="module")
def _django() -> None:
    settings.configure(
        ALLOWED_HOSTS=["localhost"], ROOT_URLCONF=__name__, SECRET_KEY="of the test"
    )
    django.setup()


def check(call: Any, app: Any) -> None:
    """Both sides of an application answer."""
    assert call(app, "GET", "/own").body == b"own"
    assert call(app, "GET", "/memguard").status in (307, 308)
    stats = call(app, "GET", "/memguard/api/v1/memory/stats")
    assert stats.status == 200
    assert stats.json["process"]["runtime"] == "python"
    assert call(app, "GET", "/memguard/nothing").status == 404
    history = call(app, "GET", "/memguard/api/v1/memory/history?ring=minute&max=5")
    assert history.json["ring"] == "minute"
    assert call(app, "HEAD", "/memguard/metrics").body == b""
    assert call(app, "POST", "/memguard/api/v1/memory/gc").status == 401
    assert call(app, "GET", "/memguard/livez", {"Host": "evil.com"}).status == 421
    assert call(app, "POST", "/memguard/api/v1/memory/gc", WRITE).status == 200


def test_flask() -> None:
    app = flask.Flask("own")
    app.add_url_rule("/own", view_func=lambda: "own")
    app.wsgi_app = web.wsgi_app(app.wsgi_app, token=TOKEN)  # type: ignore[method-assign]
    check(call_wsgi, app)


def test_flask_dispatcher() -> None:
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    app = flask.Flask("own")
    app.add_url_rule("/own", view_func=lambda: "own")
    check(
        call_wsgi,
        DispatcherMiddleware(app.wsgi_app, {"/memguard": web.wsgi_app(token=TOKEN)}),
    )


def test_starlette() -> None:
    async def own(request: Any) -> PlainTextResponse:
        return PlainTextResponse("own")

    routes = [Route("/own", own), Mount("/memguard", web.asgi_app(token=TOKEN))]
    check(call_asgi, Starlette(routes=routes))
    check(call_asgi, web.asgi_app(Starlette(routes=routes[:1]), token=TOKEN))


@pytest.mark.usefixtures("_django")
def test_django_wsgi() -> None:
    check(call_wsgi, web.wsgi_app(get_wsgi_application(), token=TOKEN))


@pytest.mark.usefixtures("_django")
def test_django_asgi() -> None:
    check(call_asgi, web.asgi_app(get_asgi_application(), token=TOKEN))


# ---- who reads a mounted site --------------------------------------------------------

STATS = "/memguard/api/v1/memory/stats"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PUBLIC = {"Host": "shop.example"}


def stranger(mounted: str, **options: Any) -> Any:
    """Statuses of reading, by who is on another machine, with some headers."""
    if mounted == "wsgi":
        from_elsewhere = {"REMOTE_ADDR": "203.0.113.7"}
        app = web.wsgi_app(flask.Flask("own"), **options)
        return lambda headers: (
            call_wsgi(app, "GET", STATS, headers, **from_elsewhere).status
        )
    own = web.asgi_app(Starlette(), **options)
    client = ("203.0.113.7", 1)
    return lambda headers: call_asgi(own, "GET", STATS, headers, client=client).status


@pytest.mark.parametrize("mounted", ["wsgi", "asgi"])
def test_who_reaches_the_application_reads(mounted: str) -> None:
    """Host is the client's word, or that of the proxy before us."""
    read = stranger(mounted, token=TOKEN)
    assert [read({}), read(PUBLIC)] == [200, 421]
    read = stranger(mounted, token=TOKEN, allowed_hosts=["shop.example"])
    assert [read({}), read(PUBLIC)] == [200, 200]


@pytest.mark.parametrize("mounted", ["wsgi", "asgi"])
def test_reading_needs_the_token_where_told(mounted: str) -> None:
    read = stranger(
        mounted, token=TOKEN, read_needs_token=True, allowed_hosts=["shop.example"]
    )
    assert [read({}), read(PUBLIC)] == [401, 401]
    assert read({"Authorization": "Bearer wrong-0123456789"}) == 401
    assert [read(BEARER), read({**PUBLIC, **BEARER})] == [200, 200]


# ---- real servers ------------------------------------------------------------------

APPLICATION = """
import memguard
from memguard import web

manager = memguard.ResourceManager({"segment_enabled": False})
manager.memory_monitor.start_monitoring()

def own(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return [b"own"]

async def own_asgi(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"content-length", b"3")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"own"})

wsgi = web.wsgi_app(own)
asgi = web.asgi_app(own_asgi)
"""


@contextlib.contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[str, int]]:
    (folder / "own_app.py").write_text(APPLICATION)
    address = ("127.0.0.1", free_port())
    command = [word.replace("PORT", str(address[1])) for word in words]
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={"MEMGUARD_WEB_TOKEN": TOKEN, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            end = time.monotonic() + WAIT_S
            while True:
                assert process.poll() is None
                assert time.monotonic() < end
                with contextlib.suppress(OSError):
                    if fetch(address, "GET", "/own").body == b"own":
                        break
                time.sleep(0.05)
            yield address
        finally:
            process.terminate()
            process.wait(WAIT_S)


def check_server(address: tuple[str, int]) -> None:
    gc = "/memguard/api/v1/memory/gc"
    assert fetch(address, "GET", "/memguard/metrics").status == 200
    assert fetch(address, "HEAD", "/memguard/health").status == 200
    assert fetch(address, "POST", gc, WRITE, b"{}").status == 200
    assert fetch(address, "POST", gc, WRITE, b" " * 70000).status == 413
    assert fetch(address, "POST", gc, WRITE, b'{"kind": 1}').status == 400
    assert fetch(address, "GET", "/memguard/..%2f..%2fetc").status == 404
    chunked = {**WRITE, "Transfer-Encoding": "chunked"}
    whole = b'10\r\n{"kind":"young"}\r\n0\r\n\r\n'
    from web_client import connected, receive, request_bytes

    with connected(address) as sock:
        sock.sendall(request_bytes("POST", gc, chunked) + whole)
        assert receive(sock).json["round"]["steps"][0]["action"] == "young"


def test_gunicorn(tmp_path: Path) -> None:
    words = ["gunicorn", "--bind", "127.0.0.1:PORT", "--threads", "2", "own_app:wsgi"]
    with running(tmp_path, *words) as address:
        check_server(address)


def test_uvicorn(tmp_path: Path) -> None:
    words = ["uvicorn", "--port", "PORT", "--lifespan", "off", "own_app:asgi"]
    with running(tmp_path, *words) as address:
        check_server(address)
