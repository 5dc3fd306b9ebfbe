"""Channels: what they carry, what a failing one does, and their end."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import memguard
import pytest
from alertmanagers import Receiver, receiving, until
from memguard import MemoryMonitor, alerts

LOUD = {
    "max_memory_mb": 1,
    "sample_interval": "10ms",
    "long_pause": 60,
    "enable_auto_gc": False,
    "leak": {"leak_detection": False},
    "alert": {"high_usage_for": 0, "resolve_after": 0},
}
TIGHT = {"high_usage", "critical", "out_of_memory"}


@pytest.fixture
def monitor() -> Iterator[MemoryMonitor]:
    with MemoryMonitor({**LOUD, "max_memory_mb": 1 << 20}, environment=False) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def raise_alerts(monitor: MemoryMonitor) -> None:
    monitor.update_config({"max_memory_mb": 1})
    until(lambda: {a["kind"] for a in monitor.alerts.active} >= TIGHT)


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_active_and_history(monitor: MemoryMonitor) -> None:
    told: list[dict[str, Any]] = []
    monitor.on("alert", told.append)
    assert monitor.alerts.active == []
    assert monitor.alerts.history() == []
    raise_alerts(monitor)
    critical = next(a for a in monitor.alerts.active if a["kind"] == "critical")
    assert critical["severity"] == "critical"
    assert critical["state"] == "firing"
    assert critical["resolved_unix_ms"] is None
    assert critical["unit"] == "ratio"
    assert critical["threshold"] == 0.95
    assert critical["value"] > 1
    assert critical["summary"].startswith("Memory use is critical: ")
    monitor.update_config({"max_memory_mb": 1 << 20})
    until(lambda: monitor.alerts.active == [])
    history = monitor.alerts.history()
    assert {a["kind"] for a in history if a["state"] == "resolved"} >= TIGHT
    assert monitor.alerts.history(history[0]["number"]) == history[1:]
    stats = monitor.alerts.stats
    assert stats["changes"] == len(history)
    assert stats["fired"] == stats["resolved"] >= 3
    until(lambda: monitor.check_memory_pressure() < 2 and len(told) == len(history))
    assert told == history


def test_callbacks_and_logging(
    monitor: MemoryMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[dict[str, Any]] = []
    caplog.set_level(logging.INFO, "memguard.alerts")
    raise_alerts(monitor)  # a channel that comes later is told what fires
    monitor.alerts.add(told.append)
    monitor.alerts.add(alerts.Logging())
    assert monitor.alerts.flush(60)
    assert {a["kind"] for a in told} >= TIGHT
    monitor.update_config({"max_memory_mb": 1 << 20})
    until(lambda: monitor.alerts.active == [])
    assert monitor.alerts.flush(60)
    assert {a["kind"] for a in told if a["state"] == "resolved"} >= TIGHT
    levels = {
        (record.alert["kind"], record.alert["state"]): record.levelname  # type: ignore[attr-defined]
        for record in caplog.records
        if record.name == "memguard.alerts"
    }
    assert levels["high_usage", "firing"] == "WARNING"
    assert levels["critical", "firing"] == "CRITICAL"
    assert levels["critical", "resolved"] == "INFO"


def test_webhook(monitor: MemoryMonitor, receiver: Receiver) -> None:
    hook = alerts.Webhook(
        f"{receiver.url}/hook?x=1",
        headers={"Authorization": "Bearer t"},
        service="orders",
        instance="host-1",
    )
    assert monitor.alerts.add(hook) is hook
    raise_alerts(monitor)
    assert monitor.alerts.flush(60)
    assert receiver.kinds("/hook?x=1", "firing") >= TIGHT
    body = receiver.bodies[0][1]
    assert (body["version"], body["service"], body["runtime"]) == (
        1,
        "orders",
        "python",
    )
    assert (body["pid"], body["instance"]) == (os.getpid(), "host-1")
    assert hook.stats["delivered"] >= 3
    assert hook.stats["waiting"] == 0


def test_a_failing_channel_hurts_nobody(
    monitor: MemoryMonitor, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def fails(alert: dict[str, Any]) -> None:
        raise ValueError("broken")

    times = {"retry_first": 0.05, "retry_most": 0.1}
    broken = monitor.alerts.add(fails)
    monitor.alerts.add(lambda alert: told.append(alert["kind"]))
    receiver.status = 503
    receiver.headers = {"Retry-After": "nonsense"}
    hook = monitor.alerts.add(alerts.Webhook(receiver.url, **times))
    raise_alerts(monitor)
    until(lambda: broken.stats["failures"] >= 3)
    until(lambda: set(told) >= TIGHT)
    until(lambda: hook.stats["failures_in_a_row"] >= 3)
    assert hook.stats["waiting"] >= 3
    assert not monitor.alerts.flush(0.1)
    receiver.status = 200
    until(lambda: hook.stats["waiting"] == 0)
    assert receiver.kinds("/", "firing") >= TIGHT
    logged = [r.getMessage() for r in caplog.records if r.name == "memguard"]
    assert len([text for text in logged if "channel callback failed" in text]) == 1
    assert len([text for text in logged if "channel webhook failed" in text]) == 1


def test_nothing_is_left(monitor: MemoryMonitor, receiver: Receiver) -> None:
    before = names()
    hook = monitor.alerts.add(alerts.Webhook(receiver.url))
    monitor.alerts.add(lambda alert: None)
    assert {"memguard webhook", "memguard callback"} <= names()
    with pytest.raises(memguard.InvalidError, match="was added before"):
        monitor.alerts.add(hook)
    monitor.alerts.remove(hook)
    monitor.alerts.remove(hook)
    assert "memguard webhook" not in names()
    raise_alerts(monitor)
    late = monitor.alerts.add(alerts.Webhook(f"{receiver.url}/late"))
    monitor.close()
    assert receiver.kinds("/late", "firing") >= TIGHT  # the last try
    assert names() <= before
    assert monitor.alerts.channels == []
    with pytest.raises(memguard.ClosedError):
        monitor.alerts.add(late)
    with pytest.raises(memguard.ClosedError):
        _ = monitor.alerts.active


def test_a_receiver_that_hangs_delays_nobody(monitor: MemoryMonitor) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:  # never answers
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monitor.alerts.add(alerts.Webhook(url, timeout=600))
        raise_alerts(monitor)
        connection, _ = listener.accept()
        number = monitor.latest.number
        until(lambda: monitor.latest.number > number + 5)
        assert monitor.check_memory_pressure() > 0.9
        with connection:
            monitor.close()  # after a bounded time


CHILD = """
import sys, time
import memguard
from memguard import alerts
monitor = memguard.MemoryMonitor({loud})
monitor.alerts.add(alerts.Webhook(sys.argv[1], retry_first=3600, retry_most=3600))
end = time.monotonic() + 60
while len(monitor.alerts.active) < 3 and time.monotonic() < end:
    time.sleep(0.005)
{rest}
"""
FORK = """
import os
pid = os.fork()
if pid == 0:
    while len(monitor.alerts.active) < 3 and time.monotonic() < end:
        time.sleep(0.005)
    print(monitor.alerts.flush(60), flush=True)
    monitor.close()
    os._exit(0)
os.waitpid(pid, 0)
print(pid)
"""


def run(rest: str, url: str) -> list[str]:
    source = CHILD.format(loud=LOUD, rest=rest)
    done = subprocess.run(
        [sys.executable, "-c", source, url],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_at_exit_there_is_a_last_try(receiver: Receiver) -> None:
    receiver.status = 500
    # Its first try fails; the next one would come in an hour.
    rest = """
channel = monitor.alerts.channels[0]
while channel.stats["failures"] == 0 and time.monotonic() < end:
    time.sleep(0.005)
print("ready", flush=True)
sys.stdin.readline()
"""
    source = CHILD.format(loud=LOUD, rest=rest)
    command = [sys.executable, "-c", source, receiver.url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        receiver.status = 200
        child.communicate("\n", timeout=60)
    assert child.returncode == 0
    assert receiver.kinds("/", "firing") >= TIGHT


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_channels_of_its_own(receiver: Receiver) -> None:
    flushed, pid = run(FORK, receiver.url)
    assert flushed == "True"
    of_child = {
        alert["kind"]
        for _, body in receiver.bodies
        for alert in body["alerts"]
        if body["pid"] == int(pid)
    }
    assert of_child >= TIGHT


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: alerts.Webhook("ftp://host"), memguard.InvalidError, "http://HOST"),
        (lambda: alerts.Webhook("http://"), memguard.InvalidError, "http://HOST"),
        (lambda: alerts.Webhook("http://h/a b"), memguard.InvalidError, "http://HOST"),
        (lambda: alerts.Webhook("http://h:99999"), memguard.InvalidError, "Port"),
        (lambda: alerts.Webhook("http://u:p@h"), memguard.InvalidError, "headers"),
        (lambda: alerts.Webhook(5), memguard.ConfigTypeError, "url is 5"),
        (
            lambda: alerts.Webhook("http://h", headers={"X": "a\r\nb"}),
            memguard.InvalidError,
            "one line",
        ),
        (
            lambda: alerts.Webhook("http://h", timeout=0),
            memguard.RangeError,
            "timeout is 0",
        ),
        (
            lambda: alerts.Webhook("http://h", timeout=float("nan")),
            memguard.RangeError,
            "timeout is nan",
        ),
        (
            lambda: alerts.Webhook("http://h", service="a\0b"),
            memguard.InvalidError,
            "service",
        ),
        (
            lambda: alerts.Alertmanager("http://h", resend=-1),
            memguard.RangeError,
            "resend is -1",
        ),
        (lambda: alerts.Callback(3), memguard.ConfigTypeError, "callback is 3"),
        (lambda: alerts.Logging(3), memguard.ConfigTypeError, "logger is 3"),
    ],
)
def test_bad_input(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def test_bad_questions(monitor: MemoryMonitor) -> None:
    with pytest.raises(memguard.RangeError, match="after is -1"):
        monitor.alerts.history(-1)
    with pytest.raises(memguard.ConfigTypeError, match="after is 'x'"):
        monitor.alerts.history("x")  # type: ignore[arg-type]
    with pytest.raises(memguard.ConfigTypeError, match="callback is 5"):
        monitor.alerts.add(5)  # type: ignore[arg-type]


def test_json_is_not_needed_before_an_alert() -> None:
    source = "import sys, memguard; m = memguard.MemoryMonitor(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True
    )
    modules = done.stdout.split()
    assert "memguard.monitor" in modules
    assert "memguard.alerts" not in modules


def test_time_goes_on(monitor: MemoryMonitor) -> None:
    """A channel that sleeps does not stop samples."""
    gate = threading.Event()
    monitor.alerts.add(lambda alert: gate.wait(60))
    raise_alerts(monitor)
    number, end = monitor.latest.number, time.monotonic() + 60
    while monitor.latest.number < number + 5 and time.monotonic() < end:
        time.sleep(0.01)
    assert monitor.latest.number >= number + 5
    gate.set()
