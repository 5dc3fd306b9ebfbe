"""Flask, FastAPI, Starlette and Django with memguard in a line, as servers run them."""

import asyncio
import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import memguard
import pytest
from memguard.integrations import Limits, Worker
from memguard.integrations import django as django_integration
from memguard.integrations import fastapi as fastapi_integration
from memguard.integrations import flask as flask_integration
from memguard.integrations import starlette as starlette_integration
from services import until

HOST = "localhost"


@pytest.fixture
def manager() -> Iterator[memguard.ResourceManager]:
    with memguard.ResourceManager({"sample_interval": "20ms"}) as made:
        yield made


def ask_wsgi(app: Any, path: str) -> tuple[int, str]:
    told: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": HOST,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": HOST,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    body = app(environ, lambda status, headers, info=None: told.append(status))
    try:
        text = b"".join(body).decode()
    finally:
        if hasattr(body, "close"):
            body.close()
    return int(told[0].split()[0]), text


def ask_asgi(app: Any, path: str) -> tuple[int, str, dict[bytes, bytes]]:
    sent: list[dict[str, Any]] = []

    given: list[str] = []

    async def receive() -> dict[str, Any]:
        if given:
            await asyncio.Event().wait()  # the client stays
        given.append("body")
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", HOST.encode())],
        "server": (HOST, 80),
        "client": ("127.0.0.1", 1),
        "state": {},
    }
    asyncio.run(app(scope, receive, send))
    body = b"".join(one.get("body", b"") for one in sent[1:])
    return sent[0]["status"], body.decode(), dict(sent[0]["headers"])


def check_site(ask: Callable[[str], tuple[int, str]]) -> None:
    status, text = ask("/memguard/metrics")
    assert status == 200
    assert "memguard_process_resident_memory_bytes{" in text
    status, text = ask("/memguard/health")
    assert status == 200
    assert json.loads(text)["services"]["memory"] in ("ok", "warning")
    assert ask("/memguard/nothing")[0] == 404


def test_flask(manager: memguard.ResourceManager) -> None:
    from flask import Flask

    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: "hello")
    made = flask_integration.init_app(app, manager=manager)
    assert made is manager
    assert app.extensions["memguard"] is manager
    assert ask_wsgi(app, "/") == (200, "hello")
    check_site(lambda path: ask_wsgi(app, path))
    # Nothing of it reaches the application, and nothing of that reaches us.
    assert ask_wsgi(app, "/memguards")[0] == 404


def test_flask_without_a_site(manager: memguard.ResourceManager) -> None:
    from flask import Flask

    app = Flask(__name__)
    flask_integration.init_app(app, manager=manager, path=None)
    assert ask_wsgi(app, "/memguard/metrics")[0] == 404


@pytest.mark.parametrize("kind", ["fastapi", "starlette"])
def test_asgi_frameworks(manager: memguard.ResourceManager, kind: str) -> None:
    if kind == "fastapi":
        from fastapi import FastAPI
        from fastapi.responses import PlainTextResponse

        app = FastAPI()
        app.get("/", response_class=PlainTextResponse)(lambda: "hello")
        fastapi_integration.init_app(app, manager=manager)
    else:
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("hello"))])
        starlette_integration.init_app(app, manager=manager)
    assert ask_asgi(app, "/")[:2] == (200, "hello")
    assert b"connection" not in ask_asgi(app, "/")[2]
    check_site(lambda path: ask_asgi(app, path)[:2])


DJANGO = """
import sys
sys.path.insert(0, {folder!r})
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
import memguard
from memguard.integrations.django import init_app
import test_integrations_apps as tests

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost"], SECRET_KEY="x")
urlpatterns = [path("", lambda request: HttpResponse("hello"))]
django.setup()
with memguard.ResourceManager({{"sample_interval": "20ms"}}) as manager:
    wsgi = init_app(get_wsgi_application(), manager=manager)
    assert tests.ask_wsgi(wsgi, "/") == (200, "hello")
    tests.check_site(lambda at: tests.ask_wsgi(wsgi, at))
    asgi = init_app(get_asgi_application(), manager=manager, max_rss_mb=100000)
    assert tests.ask_asgi(asgi, "/")[:2] == (200, "hello")
    tests.check_site(lambda at: tests.ask_asgi(asgi, at)[:2])
    try:
        init_app(get_wsgi_application(), manager=manager, max_rss_mb=5)
    except memguard.ConfigTypeError as error:
        assert "max_rss_mb is 5, allowed: None for a WSGI" in str(error)
    else:
        raise AssertionError("taken")
print("done")
"""


def test_django() -> None:
    # Its settings are those of a process.
    code = DJANGO.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize(
    "init_app",
    [
        flask_integration.init_app,
        starlette_integration.init_app,
        django_integration.init_app,
    ],
)
def test_what_is_no_application(init_app: Callable[[Any], object]) -> None:
    with pytest.raises(memguard.ConfigTypeError, match="is 5, allowed: "):
        init_app(5)


def test_a_bad_path_and_a_bad_token(manager: memguard.ResourceManager) -> None:
    from flask import Flask

    app = Flask(__name__)
    inner = app.wsgi_app
    for options in ({"path": "memguard"}, {"token": "short"}):
        with pytest.raises(memguard.InvalidError):
            flask_integration.init_app(app, manager=manager, **options)
    assert app.wsgi_app == inner


def test_the_load_of_a_worker_reaches_the_tuner() -> None:
    config = {"sample_interval": "20ms", "auto_tune": True}
    with memguard.ResourceManager(config) as made:
        worker = Worker(made, slots=2)
        tuner = made.gc_tuner
        until(lambda: tuner.load == 0.0, "it is idle")
        worker.began()
        until(lambda: tuner.load == 0.5, "half of its slots are busy")
        worker.began()
        until(lambda: tuner.load == 1.0, "all are")
        worker.ended()
        worker.ended()
        until(lambda: tuner.load == 0.0, "it is idle again")
        assert worker.is_idle
        worker.close()


def test_a_worker_that_is_due_leaves_when_it_can(caplog) -> None:
    asked: list[bool] = []

    def leave(worker: Worker) -> bool:
        asked.append(worker.is_idle)
        if len(asked) == 1:
            raise ValueError("not now")
        return worker.is_idle

    limits = Limits(1, sustain=0, jitter=0, min_age=0)
    with memguard.ResourceManager({"sample_interval": "20ms"}) as made:
        worker = Worker(made, limits=limits, leave=leave)
        worker.began()
        until(lambda: worker.is_due and len(asked) >= 3, "it is asked to leave")
        assert set(asked) == {False}
        worker.ended()
        until(lambda: asked[-1], "it left")
        count = len(asked)
        worker.began()
        worker.ended()
        assert len(asked) == count  # once it left, nobody asks again
        assert worker.is_due
        worker.close()
    told = [r.getMessage() for r in caplog.records if r.name == "memguard"]
    assert len([line for line in told if "makes room for a new worker" in line]) == 1
    assert len([line for line in told if "could not leave" in line]) == 1


def test_no_worker_is_due_without_a_limit(manager: memguard.ResourceManager) -> None:
    worker = Worker(manager, leave=lambda _: pytest.fail("asked to leave"))
    number = manager.memory_monitor.latest.number
    until(lambda: manager.memory_monitor.latest.number > number + 3, "samples")
    worker._tick()
    assert not worker.is_due
    worker.close()
