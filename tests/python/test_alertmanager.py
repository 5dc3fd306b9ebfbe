"""Each kind of alert through a real Alertmanager to a webhook, also after an outage."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alertmanagers import Alertmanager, Receiver, alertmanager, receiving, until
from memguard import MemoryMonitor, alerts
from servers import program

ROOT = Path(__file__).parents[2]
HOST = Path(__file__).parent / "alert_host.py"
PEOPLE = "/alertmanager"
KINDS = {
    "high_usage",
    "critical",
    "gc_high",
    "memory_leak",
    "out_of_memory",
    "rapid_growth",
    "fd_leak",
    "long_pause",
    "unreclaimable",
    "previous_oom",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def manager(tmp_path: Path, receiver: Receiver) -> Iterator[Alertmanager]:
    with alertmanager(tmp_path, receiver) as made:
        yield made


@contextmanager
def running(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """A host whose former run ended out of memory."""
    env = {**os.environ, "ALERT_HOST": "oom"}
    oom = subprocess.run(command, env=env, timeout=120)
    assert oom.returncode == -9
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        try:
            yield host
        finally:
            host.kill()


def say(host: "subprocess.Popen[str]") -> None:
    assert host.stdin is not None
    host.stdin.write("\n")
    host.stdin.flush()


def hear(host: "subprocess.Popen[str]") -> str:
    assert host.stdout is not None
    return host.stdout.readline().strip()


def check_every_kind(
    host: "subprocess.Popen[str]", manager: Alertmanager, receiver: Receiver
) -> None:
    """Alertmanager is down until everything has fired once."""
    assert hear(host) == "ready"
    until(
        lambda: receiver.kinds("/webhook", "firing") == KINDS,
        lambda: KINDS - receiver.kinds("/webhook", "firing"),
    )
    assert receiver.kinds(PEOPLE, "firing") == set()
    manager.start()
    until(
        lambda: receiver.kinds(PEOPLE, "firing") == KINDS,
        lambda: KINDS - receiver.kinds(PEOPLE, "firing"),
    )
    say(host)
    assert hear(host) == "calm"
    for path in ("/webhook", PEOPLE):
        until(
            lambda at=path: receiver.kinds(at, "resolved") == KINDS,
            lambda at=path: (at, KINDS - receiver.kinds(at, "resolved")),
        )
    say(host)
    assert host.wait(60) == 0


def test_every_kind_is_delivered(manager: Alertmanager, receiver: Receiver) -> None:
    assert set(alerts.KINDS) == KINDS
    command = [sys.executable, str(HOST), manager.url, f"{receiver.url}/webhook"]
    with running(command) as host:
        check_every_kind(host, manager, receiver)
    leak = next(
        alert
        for path, body in receiver.bodies
        if path == PEOPLE
        for alert in body["alerts"]
        if alert["labels"]["alertname"] == "memory_leak"
        and alert["labels"]["subject"] == "connections"
    )
    assert leak["labels"]["service"] == "alert host"
    assert leak["labels"]["program"] == "alert_host.py"
    assert leak["labels"]["runtime"] == "python"
    assert leak["labels"]["pid"] == str(host.pid)
    assert leak["annotations"]["runbook_url"] == "https://r.example#memory_leak"
    assert leak["annotations"]["summary"].startswith("Memory leaks (connections): ")


def test_an_outage_loses_nothing(manager: Alertmanager, receiver: Receiver) -> None:
    """One alert ends while Alertmanager is down, another one begins and ends."""
    manager.start()
    config = {
        "max_memory_mb": 1 << 20,
        "sample_interval": "10ms",
        "leak": {"leak_detection": False, "fd_warning_count": 1},
        "alert": {"high_usage_for": 0, "resolve_after": 0, "cooldown": 0},
    }
    with MemoryMonitor(config, environment=False) as monitor:
        channel = monitor.alerts.add(
            alerts.Alertmanager(
                manager.url, resend=5, least=10, retry_first=0.1, retry_most=0.5
            )
        )
        until(lambda: "fd_leak" in receiver.kinds(PEOPLE, "firing"))
        manager.stop()
        monitor.update_config({"fd_warning_count": 1_000_000})
        until(lambda: not monitor.alerts.active)
        monitor.update_config({"max_memory_mb": 1})
        until(lambda: monitor.alerts.active)
        monitor.update_config({"max_memory_mb": 1 << 20})
        until(lambda: not monitor.alerts.active)
        until(lambda: channel.stats["failures_in_a_row"] >= 5)
        assert channel.stats["waiting"] >= 3
        assert "high_usage" not in receiver.kinds(PEOPLE, "firing")
        manager.start()
        lost = {"high_usage", "critical", "out_of_memory"}
        until(lambda: lost <= receiver.kinds(PEOPLE, "firing"))
        until(lambda: lost | {"fd_leak"} <= receiver.kinds(PEOPLE, "resolved"))
        until(lambda: channel.stats["waiting"] == 0)
        assert channel.stats["overflow"] == 0


@pytest.mark.parametrize("which", ["example", "test"])
def test_amtool_accepts(which: str, manager: Alertmanager) -> None:
    file = ROOT / "docs/alertmanager.yml" if which == "example" else manager.config
    done = subprocess.run(
        [program("amtool"), "check-config", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HOME": "/nonexistent"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
