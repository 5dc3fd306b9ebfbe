"""gunicorn with memguard's hooks: workers are replaced, requests are not lost."""

import signal
import sys
from pathlib import Path

import memguard
import pytest
from memguard.integrations import gunicorn as hooks
from segments import files, verdict
from servers import free_port
from services import Clients, serves, service, until

BIN = Path(sys.executable).parent
APP = """
import os
kept = []

def app(environ, start_response):
    kept.append(b"x" * 524288)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['PATH_INFO']}".encode()]
"""
CONF = """
import memguard
import memguard.integrations.gunicorn as integration

workers = 3
control_socket_disable = True  # of later versions, in the user's home
seen = open("seen", "a", buffering=1)

def post_request(worker, req):
    seen.write("own\\n")

integration.install(
    globals(),
    config={"sample_interval": "20ms", "max_memory_mb": 1 << 20},
    max_rss_mb=memguard.rss_bytes() / 1048576 + 60,
    sustain=0.2,
    jitter=0.5,
    min_age=0,
)
"""


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_workers_are_replaced_and_nothing_is_lost(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf.py").write_text(CONF)
    port = free_port()
    words = ["-b", f"127.0.0.1:{port}", "-k", kind, "-c", "conf.py", "app:app"]
    if kind == "gthread":
        words[:0] = ["--threads", "4"]
    with service(tmp_path, BIN / "gunicorn", *words) as running:
        until(lambda: serves(port), "it serves")
        with Clients(port) as clients:
            until(lambda: len(clients.pids) >= 7, "workers were replaced")
        assert clients.failures == []
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        # What was replaced came to an orderly end: no kill, as far as anyone sees.
        assert {verdict(path) for path in files(folder)} == {"clean exit"}
    log = (tmp_path / "log").read_text()
    assert "makes room for a new worker" in log
    # The hook of the service itself goes on being called, with its two parameters.
    assert (tmp_path / "seen").read_text().count("own") >= clients.asked


def test_settings() -> None:
    calls = []

    def pre_request(worker: object, req: object) -> None:
        calls.append((worker, req))

    settings = {"pre_request": pre_request, "workers": 2}
    hooks.install(settings)
    assert sorted(settings) == [
        "post_request",
        "post_worker_init",
        "pre_request",
        "workers",
    ]
    settings["pre_request"]("worker", "request")
    assert calls == [("worker", "request")]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_rss_mb": 0}, memguard.RangeError, "limit_bytes is 0, allowed: 1"),
        ({"max_rss_mb": -4}, memguard.RangeError, "limit_bytes is 0, allowed: 1"),
        ({"max_rss_mb": "1G"}, memguard.ConfigTypeError, "max_rss_mb is '1G'"),
        ({"max_rss_mb": 9, "sustain": -1}, memguard.RangeError, "sustain_ms is -1000"),
        ({"max_rss_mb": 9, "jitter": 1e9}, memguard.RangeError, "jitter_ms is 1"),
        ({"max_rss_mb": 9, "min_age": None}, memguard.ConfigTypeError, "min_age is N"),
    ],
)
def test_bad_limits(options: dict[str, object], error: type, message: str) -> None:
    settings: dict[str, object] = {}
    with pytest.raises(error, match=message):
        hooks.install(settings, **options)
    assert settings == {}


def test_a_hook_that_is_none() -> None:
    with pytest.raises(memguard.ConfigTypeError, match="pre_request is 5"):
        hooks.install({"pre_request": 5})
