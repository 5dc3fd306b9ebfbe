"""The site inside an application: rows of requests, what it tells, what it does."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memguard
import pytest
from memguard import _core, web
from pools import until
from web_client import TOKEN, WRITE, Response, call_asgi, call_wsgi

VECTORS = Path(__file__).parents[1] / "vectors" / "web.json"
ROWS = json.loads(VECTORS.read_text())["rows"]
JSON = "application/json; charset=utf-8"
MEMORY = {
    *("alloc_bytes", "total_alloc_bytes", "sys_bytes", "heap_alloc_bytes"),
    *("heap_sys_bytes", "heap_idle_bytes", "heap_inuse_bytes", "heap_objects"),
    *("gc_count", "gc_cpu_fraction", "usage_percent", "max_memory_mb"),
    *("high_water_mark", "low_water_mark", "alert_threshold"),
}


def site_of(row: dict[str, Any]) -> _core.Site:
    options = row.get("options", {})
    return _core.Site(
        options.get("token"),
        options.get("read_needs_token", False),
        options.get("allowed_hosts", []),
        options.get("writes_per_minute", 60),
        0.0,
    )


def filled(request: dict[str, Any], name: str) -> str:
    character, count = request.get(f"{name}_more", ["", 0])
    return str(request.get(name, "")) + character * count


def check_response(row: dict[str, Any], response: tuple[Any, ...]) -> None:
    status, reason, headers, body, is_head = response
    assert (status, is_head) == (row["status"], row["request"]["method"] == "HEAD")
    assert reason
    for name, value in row.get("headers", {}).items():
        assert dict(headers)[name] == value
    if "body" in row:
        assert body.decode() == row["body"]
    if status >= 400:
        error = json.loads(body)["error"]
        assert body.count(b"\n") == 1
        for text in row.get("error", []):
            assert text in error


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_rows(row: dict[str, Any]) -> None:
    site = site_of(row)
    request = row["request"]
    headers = [tuple(pair) for pair in request.get("headers", [["Host", "localhost"]])]
    clock_ms = request.get("clock_ms", 0.0)
    for _ in range(request.get("times", 1)):
        response, job = site.serve(
            request["method"],
            filled(request, "target"),
            headers,
            filled(request, "body").encode(),
            clock_ms,
        )
        clock_ms += request.get("clock_step_ms", 0.0)
    if "ask" not in row:
        assert response is not None
        check_response(row, response)
        return
    assert response is None
    assert job is not None
    command, arguments, key = job
    assert command == row["ask"][0]
    assert row["ask"][1] in (None, arguments)
    if "answer" in row:
        status, text = row["answer"]
        code = {
            "OK": "OK",
            **{name: getattr(memguard, error).code for name, error in ERRORS.items()},
        }[status]
        check_response(row, site.answered(key, code, text))


ERRORS = {
    "EINVAL": "InvalidError",
    "EKEY": "ConfigKeyError",
    "ETYPE": "ConfigTypeError",
    "ERANGE": "RangeError",
    "ECONFLICT": "ConflictError",
    "EHOST": "HostError",
    "ESYS": "SystemCallError",
    "EBROKEN": "BrokenConnectionError",
    "ENOMEM": "NoMemoryError",
    "EABSENT": "AbsentError",
    "ENOTFOUND": "NotFoundError",
    "ETIMEOUT": "WaitTimeoutError",
}


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("G\0T", "/", "x"),
        ("GET", "/\0", "x"),
        ("GET", "/", "x\0"),
        ("GET", "/", "\ud800"),
    ],
)
def test_what_is_no_text(method: str, target: str, name: str) -> None:
    site = _core.Site(None, False, [], 60, 0.0)
    response, job = site.serve(method, target, [("Host", "localhost"), (name, "")], b"")
    assert job is None
    assert response is not None
    assert response[0] == 400


# ---- what it tells ---------------------------------------------------------------


@pytest.fixture
def manager() -> Iterator[memguard.ResourceManager]:
    with memguard.ResourceManager(
        {"sample_interval": "20ms", "max_memory_mb": 1 << 20, "alert_threshold": 91.5}
    ) as made:
        made.memory_monitor.start_monitoring()
        until = time.monotonic() + 60
        # It is live at once; until its first sample the former one's is shown.
        stats = "/api/v1/memory/stats"
        while get(stats).json["memory"]["alert_threshold"] != 91.5:
            assert time.monotonic() < until
            time.sleep(0.005)
        yield made


def get(target: str, **options: Any) -> Response:
    return call_wsgi(web.wsgi_app(**options), "GET", target)


@pytest.mark.usefixtures("manager")
def test_stats() -> None:
    response = get("/api/v1/memory/stats")
    assert response.status == 200
    assert response.headers["content-type"] == JSON
    memory, process = response.json["memory"], response.json["process"]
    assert set(memory) == MEMORY
    assert memory["max_memory_mb"] == 1 << 20
    assert (memory["high_water_mark"], memory["low_water_mark"]) == (80, 60)
    assert memory["alert_threshold"] == 91.5
    assert memory["gc_count"] >= 0
    assert process["runtime"] == "python"
    assert process["alive"] is True
    assert process["verdict"] == "running"
    assert process["reading"]["rss_bytes"] > 1 << 20
    assert all(alert["state"] == "firing" for alert in process["alerts_active"])


@pytest.mark.usefixtures("manager")
def test_every_reading_path() -> None:
    for target, keys in {
        "/api/v1/processes": {"unix_ms", "processes"},
        "/api/v1/memory/alerts": {"active", "history"},
        "/api/v1/memory/optimizations": {"optimizations"},
        "/api/v1/memory/leaks": {"leaks", "types", "span_ms"},
        "/api/v1/memory/history": {"pid", "ring", "fields", "points"},
        "/health": {"status", "time", "services"},
        "/livez": {"status"},
        "/readyz": {"status"},
    }.items():
        response = get(target)
        assert response.status == 200, target
        assert set(response.json) == keys, target
        assert response.headers["cache-control"] == "no-store"
    assert get("/health").json["services"]["memory"] in ("ok", "warning")


@pytest.mark.usefixtures("manager")
def test_metrics() -> None:
    plain = get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nmemguard_process_up{" in plain.body
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    modern = call_wsgi(web.wsgi_app(), "GET", "/metrics", accept)
    assert modern.headers["content-type"].startswith("application/openmetrics-text;")
    assert modern.body.endswith(b"# EOF\n")
    refused = {"Accept": "text/plain, application/openmetrics-text;q=0"}
    assert b"# EOF" not in call_wsgi(web.wsgi_app(), "GET", "/metrics", refused).body


@pytest.mark.usefixtures("manager")
def test_ready_below() -> None:
    assert get("/readyz", ready_below_percent=100).status == 200
    response = get("/readyz", ready_below_percent=1e-9)
    assert response.status == 503
    assert response.json["status"] == "memory"
    assert get("/livez", ready_below_percent=1e-9).status == 200


def test_head_has_no_body() -> None:
    response = call_wsgi(web.wsgi_app(), "HEAD", "/api/v1/memory/history")
    assert response.body == b""
    assert int(response.headers["content-length"]) > 50


# ---- what it does ----------------------------------------------------------------


def test_gc_and_config(manager: memguard.ResourceManager) -> None:
    app = web.wsgi_app(token=TOKEN)
    response = call_wsgi(app, "POST", "/api/v1/memory/gc", WRITE)
    assert response.status == 200
    assert response.json["message"] == "Garbage collection completed"
    assert response.json["round"]["steps"][0]["action"] == "full"
    put = call_wsgi(
        app,
        "PUT",
        "/api/v1/memory/config",
        WRITE,
        b'{"memory": {"gc_interval": "90s"}}',
    )
    assert put.status == 200
    assert put.json["memory"]["gc_interval"] == 90
    assert manager.memory_monitor.settings["memory"]["gc_interval"] == 90
    read = call_wsgi(app, "GET", "/api/v1/memory/config")
    assert read.json == put.json
    done = call_wsgi(app, "POST", "/api/v1/memory/optimize", WRITE)
    assert done.status == 200


def test_what_is_refused_changes_nothing(manager: memguard.ResourceManager) -> None:
    app = web.wsgi_app(token=TOKEN)
    before = manager.memory_monitor.settings
    collected = manager.memory_monitor.get_reclaim_stats()["rounds"]
    for body, word in [
        (b'{"memory": {"gc_interval": "90s", "nonsense": 1}}', "nonsense"),
        (b'{"memory": {"gc_interval": -1}}', "gc_interval"),
        (b'{"memory": {"gc_interval": [1]}}', "gc_interval"),
        (
            b'{"low_water_mark_percent": 70, "high_water_mark_percent": 20}',
            "water_mark",
        ),
        (b'{"memory": ', "byte 11"),
        (b"[]", "byte 0"),
        (b"", "empty"),
    ]:
        response = call_wsgi(app, "PUT", "/api/v1/memory/config", WRITE, body)
        assert response.status == 400, body
        assert word in response.json["error"]
    for headers in ({}, {"X-Memguard": "1"}, {**WRITE, "Authorization": "Bearer no"}):
        assert call_wsgi(app, "POST", "/api/v1/memory/gc", headers).status == 401
    response = call_wsgi(app, "POST", "/api/v1/memory/gc", WRITE, b'{"kind": "huge"}')
    assert response.status == 400
    assert "young, full, release" in response.json["error"]
    assert manager.memory_monitor.settings == before
    assert manager.memory_monitor.get_reclaim_stats()["rounds"] == collected


def test_nothing_runs() -> None:
    app = web.wsgi_app(token=TOKEN)
    response = call_wsgi(app, "POST", "/api/v1/memory/gc", WRITE)
    assert response.status == 503
    assert response.json == {"error": "no monitor runs"}


# ---- options ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"token": "short"}, memguard.InvalidError, "5 characters, allowed: 16 to 256"),
        ({"token": "with space in it"}, memguard.InvalidError, "character 5"),
        ({"token": 5}, memguard.ConfigTypeError, "token is no text"),
        ({"token": TOKEN + "\0"}, memguard.InvalidError, "token"),
        ({"read_needs_token": True}, memguard.ConflictError, "read_needs_token"),
        ({"read_needs_token": 1}, memguard.ConfigTypeError, "read_needs_token is 1"),
        ({"allowed_hosts": "x"}, memguard.ConfigTypeError, "allowed_hosts is 'x'"),
        ({"allowed_hosts": ["a:80"]}, memguard.InvalidError, 'host is "a:80"'),
        ({"allowed_hosts": [1]}, memguard.ConfigTypeError, "allowed host"),
        ({"allowed_hosts": ["a"] * 17}, memguard.RangeError, "at most 16"),
        ({"writes_per_minute": 0}, memguard.RangeError, "writes_per_minute is 0"),
        ({"writes_per_minute": 1 << 40}, memguard.RangeError, "1 to 1000000"),
        ({"writes_per_minute": True}, memguard.ConfigTypeError, "writes_per_minute"),
        ({"ready_below_percent": -1}, memguard.RangeError, "ready_below_percent is -1"),
        ({"ready_below_percent": float("nan")}, memguard.RangeError, "0 to 100"),
        ({"token_file": "/nonexistent/token"}, memguard.SystemCallError, "nonexistent"),
        ({"prefix": "memguard"}, memguard.InvalidError, "prefix is 'memguard'"),
        ({"prefix": "/memguard/"}, memguard.InvalidError, "prefix is"),
    ],
)
def test_options(options: dict[str, Any], error: type[Exception], word: str) -> None:
    for make in (web.wsgi_app, web.asgi_app):
        with pytest.raises(error, match=word.replace("(", "\\(")):
            make(**options)


def test_token_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("token-in-a-file!\n")
    headers = {**WRITE, "Authorization": "Bearer token-in-a-file!"}

    def status(**options: Any) -> int:
        app = web.wsgi_app(**options)
        return call_wsgi(app, "POST", "/api/v1/memory/gc", headers).status

    assert status() == 403
    assert status(token_file=file) == 503  # no monitor runs
    monkeypatch.setenv("MEMGUARD_WEB_TOKEN_FILE", str(file))
    assert status() == 503
    assert status(token="") == 403
    monkeypatch.setenv("MEMGUARD_WEB_TOKEN", TOKEN)
    assert status() == 401
    with memguard.ResourceManager():  # which takes them for no settings
        pass


# ---- WSGI and ASGI ---------------------------------------------------------------


def other_wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"other"]


def test_wsgi_around_another() -> None:
    app = web.wsgi_app(other_wsgi)
    assert call_wsgi(app, "GET", "/memguard/livez").json["status"]
    assert call_wsgi(app, "GET", "/").body == b"other"
    assert call_wsgi(app, "GET", "/memguardian").body == b"other"
    moved = call_wsgi(app, "GET", "/memguard", SCRIPT_NAME="/app\n")
    assert moved.status == 308
    assert moved.headers["location"] == "/app%0A/memguard/"
    inner = call_wsgi(web.wsgi_app(other_wsgi, prefix="/a/b"), "GET", "/a/b/nothing")
    assert inner.status == 404
    assert inner.json["error"].startswith('path is "/nothing"')


class Endless:
    """A body that nobody may read."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("read")


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"CONTENT_LENGTH": "65537", "wsgi.input": Endless()}, 413),
        ({"CONTENT_LENGTH": "-1", "wsgi.input": Endless()}, 400),
        ({"CONTENT_LENGTH": "\u0661", "wsgi.input": Endless()}, 400),
        ({"CONTENT_LENGTH": "9" * 30, "wsgi.input": Endless()}, 400),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": Endless()}, 411),
        ({"CONTENT_LENGTH": "5"}, 400),
    ],
)
def test_wsgi_bodies(environ: dict[str, Any], status: int) -> None:
    app = web.wsgi_app(token=TOKEN)
    response = call_wsgi(app, "POST", "/api/v1/memory/gc", WRITE, b"", **environ)
    assert response.status == status
    assert response.json["error"]


def test_wsgi_chunked() -> None:
    app = web.wsgi_app(token=TOKEN)
    ended = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    large = call_wsgi(
        app,
        "POST",
        "/api/v1/memory/gc",
        WRITE,
        b" " * 65537,
        CONTENT_LENGTH="",
        **ended,
    )
    assert large.status == 413
    good = call_wsgi(
        app, "POST", "/api/v1/memory/gc", WRITE, b"{}", CONTENT_LENGTH="", **ended
    )
    assert good.status == 503  # no monitor runs


async def other_asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["type"].encode()})


@pytest.mark.usefixtures("manager")
def test_asgi() -> None:
    app = web.asgi_app(token=TOKEN)
    assert call_asgi(app, "GET", "/livez").status == 200
    assert call_asgi(app, "GET", "/app/livez", root_path="/app").status == 200
    assert call_asgi(app, "GET", "", root_path="").status == 308
    head = call_asgi(app, "HEAD", "/health")
    assert head.body == b""
    assert int(head.headers["content-length"]) > 20
    parts = [b"{", b'"kind": ', b'"young"}']
    done = call_asgi(app, "POST", "/api/v1/memory/gc", WRITE, parts)
    assert done.status == 200
    assert done.json["round"]["steps"][0]["action"] == "young"
    large = call_asgi(app, "POST", "/api/v1/memory/gc", WRITE, [b" " * 40000] * 2)
    assert large.status == 413
    around = web.asgi_app(other_asgi)
    assert call_asgi(around, "GET", "/x").body == b"http"
    assert call_asgi(around, "GET", "/memguard/nothing").status == 404


def test_asgi_of_other_kinds() -> None:
    sent: list[Any] = []
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return events.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    app = web.asgi_app()
    asyncio.run(app({"type": "lifespan"}, receive, send))
    asyncio.run(app({"type": "websocket", "path": "/"}, receive, send))
    assert sent == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
        "websocket.close",
    ]


def test_asgi_client_goes_away() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/x", "headers": []}
    asyncio.run(web.asgi_app()(scope, receive, send))
    assert sent == []


def test_import_alone_loads_nothing_of_it(run_child: Any) -> None:
    assert (
        run_child(
            """
            import sys
            import memguard
            print([name for name in sys.modules if "web" in name or name == "socket"])
            """
        )
        == "[]\n"
    )


def test_a_monitor_that_follows_another_is_live_at_once() -> None:
    with memguard.MemoryMonitor() as monitor:  # the file that the others go on with
        monitor.start_monitoring()
        until(lambda: monitor.segment_path is not None)
    for _ in range(5):
        with memguard.MemoryMonitor() as monitor:
            monitor.start_monitoring()
            assert get("/livez").status == 200
        assert get("/livez").status == 503
