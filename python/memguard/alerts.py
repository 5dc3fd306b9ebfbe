"""Alerts, and the channels that carry them to people.

`monitor.alerts` tells what fires and what did; `monitor.on("alert", listener)` is
the event. A channel is told of every alert, firing and resolved:

    manager.memory_monitor.alerts.add(Webhook("https://hooks.example/memory"))

An alert is a dict: kind, severity ("info", "warning", "critical"), state ("firing",
"resolved"), since_unix_ms, last_unix_ms, resolved_unix_ms (None while it fires),
value, threshold (None if unknown), unit, summary (one line), culprit ("" if
unknown), subject (which signal leaks, which memory grows; else ""), repeats (times
the condition came back before it was over) and number (of the change).

Kinds: high_usage, critical, gc_high, memory_leak, out_of_memory, rapid_growth,
fd_leak, long_pause, unreclaimable, previous_oom. When they are raised stands with
the settings of section `alert`.

Every channel has a thread of its own, so a receiver that hangs delays nobody. What
a receiver did not accept is tried again after 1, 2, 4, ... 60 s; the latest state of
each alert is kept meanwhile. A failure is logged once until it works again.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit
from weakref import ref

from memguard import _core, _log
from memguard._core import (
    ClosedError,
    ConfigTypeError,
    InvalidError,
    MemguardError,
    RangeError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from memguard._alerting import Alerting

__all__ = [
    "KINDS",
    "Alertmanager",
    "Alerts",
    "Callback",
    "Channel",
    "Logging",
    "Webhook",
]

KINDS: tuple[str, ...] = _core.ALERTS
"""Names of the kinds of alerts."""

_POLL_S = 0.5  # a channel looks for changes so often
_LAST_TRY_S = 2.0  # for all that is left at the end
_FIRST_MS, _MOST_MS, _DAY_S = 1000.0, 60000.0, 86400.0
_RETRY_AFTER_MOST = 8  # digits of a header that is believed
_WEBHOOK, _ALERTMANAGER = 0, 1
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING}


def _now_ms() -> float:
    return time.monotonic() * 1000


def _program() -> str:
    return os.path.basename(sys.argv[0] or sys.executable) or "python"


def _seconds(name: str, value: float, least: float = 0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigTypeError(f"{name} is {value!r}, allowed: a number of seconds")
    if not least <= value <= _DAY_S:
        raise RangeError(f"{name} is {value!r}, allowed: {least:g} to {_DAY_S:g} s")
    return float(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigTypeError(f"{name} is {value!r}, allowed: a str")
    if "\0" in value or any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise InvalidError(f"{name} is {value!r}, allowed: text without NUL")
    return value


class Channel:
    """Where alerts go. Belongs to one Alerts once it is added; not used again after
    its end. Subclasses of the program override deliver()."""

    name: str
    """For the log and the statistics."""

    def __init__(self, name: str) -> None:
        self.name = _text("name", name)
        self._source: ref[Alerting] | None = None  # a thread keeps no monitor alive
        self._thread: threading.Thread | None = None
        self._complaints = _log.Complaints()
        self._delivered = self._failures = 0
        self._seen = 0
        self._last_try_s = 0.0
        self._renew()

    def _renew(self) -> None:
        self._wake = threading.Event()
        self._idle = threading.Condition()
        self._is_idle = False
        self._ends = False

    def deliver(self, alert: dict[str, Any]) -> None:
        """Carries one change out, on the channel's thread. What it raises is logged
        once and counted; this alert is not tried again."""
        raise NotImplementedError

    @property
    def stats(self) -> dict[str, int]:
        """waiting (alerts whose latest state was not delivered), sent (requests),
        delivered (alerts), failures, failures_in_a_row, overflow (given up because of
        64 newer ones)."""
        return {
            "waiting": 0,
            "sent": self._delivered,
            "delivered": self._delivered,
            "failures": self._failures,
            "failures_in_a_row": 0,
            "overflow": 0,
        }

    # ---- its thread ----------------------------------------------------------

    def _begin(self, source: Alerting, *, with_active: bool) -> None:
        self._source = ref(source)
        self._take_up(source, with_active)
        self._thread = threading.Thread(
            target=self._run, name=f"memguard {self.name}", daemon=True
        )
        self._thread.start()

    def _take_up(self, source: Alerting, with_active: bool) -> None:
        told = json.loads(source._alerts(0))
        self._seen = told["stats"]["changes"]
        self._first = told["active"] if with_active else []

    def _monitor(self) -> Alerting:
        source = self._source
        monitor = None if source is None else source()
        if monitor is None:
            raise ClosedError("the monitor of an alert channel is gone")
        return monitor

    def _run(self) -> None:
        while not self._ends:
            wait_s = _POLL_S
            try:
                wait_s = min(self._work(False), _POLL_S)
            except ClosedError:
                return
            except Exception:
                self._complaints.failed("work", "alert channel %s failed", self.name)
            self._note_idle(wait_s > 0)
            self._wake.wait(wait_s)
            self._wake.clear()
        try:
            self._work(True)
        except Exception:
            self._failures += 1
        self._note_idle(True)

    def _note_idle(self, is_idle: bool) -> None:
        with self._idle:
            self._is_idle = is_idle
            self._idle.notify_all()

    def _work(self, is_last: bool) -> float:
        """Delivers what there is. Returns seconds until it wants to be called."""
        source = self._monitor()
        changes, self._first = self._first, []
        if source._alert_number() != self._seen:
            told = json.loads(source._alerts(self._seen))
            self._seen = told["stats"]["changes"]
            changes += told["changes"]
        for change in changes:
            try:
                self.deliver(change)
            except Exception:
                self._failures += 1
                self._complaints.failed("deliver", "alert channel %s failed", self.name)
            else:
                self._delivered += 1
                self._complaints.worked("deliver")
        return _POLL_S

    def _end(self, last_try_s: float) -> None:
        """Asks the thread to end, after a last try of so long."""
        self._last_try_s = last_try_s
        self._ends = True
        self._wake.set()

    def _join(self, until: float) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))
        self._thread = None
        self._source = None

    def _flushed(self, until: float) -> bool:
        """Waits until everything so far was delivered."""
        with self._idle:
            self._is_idle = False
        while time.monotonic() < until and not self._ends:
            self._wake.set()
            with self._idle:
                self._idle.wait_for(lambda: self._is_idle, 0.05)
                if self._is_idle and self.stats["waiting"] == 0:
                    return True
        return False

    def _after_fork_in_child(self, source: Alerting) -> None:
        was_running = self._thread is not None and not self._ends
        self._thread = None
        self._complaints = _log.Complaints()
        self._renew()
        if was_running:
            self._begin(source, with_active=False)


class Callback(Channel):
    """Calls `callback(alert)` for each change."""

    def __init__(self, callback: Callable[[dict[str, Any]], object]) -> None:
        if not callable(callback):
            raise ConfigTypeError(f"callback is {callback!r}, allowed: a callable")
        super().__init__("callback")
        self._callback = callback

    def deliver(self, alert: dict[str, Any]) -> None:
        """Calls it, on the channel's thread."""
        self._callback(alert)


class Logging(Channel):
    """Logs each change: its severity while it fires, INFO when it is resolved. The
    alert itself is the record's attribute `alert`."""

    def __init__(self, logger: logging.Logger | str = "memguard.alerts") -> None:
        super().__init__("logging")
        named = logging.getLogger(logger) if isinstance(logger, str) else logger
        if not isinstance(named, logging.Logger | logging.LoggerAdapter):
            raise ConfigTypeError(f"logger is {logger!r}, allowed: a Logger or a name")
        self._logger = named

    def deliver(self, alert: dict[str, Any]) -> None:
        """Logs it."""
        level = logging.INFO
        if alert["state"] == "firing":
            level = _LEVELS.get(alert["severity"], logging.CRITICAL)
        text = "%s %s: %s"
        words = (alert["kind"], alert["state"], alert["summary"])
        self._logger.log(level, text, *words, extra={"alert": alert})


class _Posting(Channel):
    """A channel that POSTs JSON, by an outbox of the core."""

    def __init__(
        self,
        url: str,
        *,
        path: str,
        headers: Mapping[str, str] | None,
        timeout: float,
        resend: float,
        least: float,
        retry_first: float,
        retry_most: float,
        service: str | None,
        instance: str | None,
        runbook: str,
        name: str,
        kind: int,
    ) -> None:
        self._url = _target(url, path)
        self._timeout = _seconds("timeout", timeout, 0.001)
        self._headers = {
            _header("a name in headers", key): _header(f"headers[{key!r}]", value)
            for key, value in (headers or {}).items()
        }
        self._options = (
            kind,
            _seconds("resend", resend) * 1000,
            _seconds("least", least) * 1000,
            _seconds("retry_first", retry_first, 0.001) * 1000,
            _seconds("retry_most", retry_most, 0.001) * 1000,
        )
        self._names = (
            _text("service", _program() if service is None else service),
            _program(),
            "python",
            _text("instance", os.uname().nodename if instance is None else instance),
            _text("runbook", runbook),
        )
        self._open()
        super().__init__(name)

    def _open(self) -> None:
        self._box = _core._outbox_open(*self._options, os.getpid(), *self._names)
        self._lock = threading.Lock()  # of the outbox
        self._has_complained = False

    def _take_up(self, source: Alerting, with_active: bool) -> None:
        with self._lock:
            _core._outbox_begin(self._box, source, with_active, _now_ms())

    @property
    def stats(self) -> dict[str, int]:
        with self._lock:
            return _core._outbox_stats(self._box)

    def _work(self, is_last: bool) -> float:
        source = self._monitor()
        with self._lock:
            now_ms = _now_ms()
            if not source.closed:
                _core._outbox_follow(self._box, source, now_ms)
            body = _core._outbox_take(self._box, now_ms, time.time() * 1000, is_last)
        if body is not None:
            accepted, wait_ms = self._post(body, is_last)
            with self._lock:
                _core._outbox_done(self._box, accepted, wait_ms, _now_ms())
        with self._lock:
            return _core._outbox_due(self._box, _now_ms()) / 1000

    def _post(self, body: str, is_last: bool) -> tuple[bool, float]:
        """Whether it was accepted, and how long the receiver asked to wait, in ms."""
        timeout = min(self._timeout, self._last_try_s) if is_last else self._timeout
        try:
            status, wait = self._request(body.encode(), max(timeout, 0.001))
            if not 200 <= status < 300:
                raise InvalidError(f"{self._url[1]} answered {status}")
        except (OSError, HTTPException, MemguardError) as error:
            if not is_last and not self._has_complained:
                self._has_complained = True
                text = "alert channel %s failed: %s (told once until it works again)"
                _log.warning(text, self.name, error)
            digits = wait if isinstance(error, MemguardError) else ""
            believed = digits.isdecimal() and len(digits) <= _RETRY_AFTER_MOST
            return False, int(digits) * 1000.0 if believed else 0.0
        self._has_complained = False
        return True, 0.0

    def _request(self, body: bytes, timeout: float) -> tuple[int, str]:
        is_secure, host, port, target = self._url
        connection = (HTTPSConnection if is_secure else HTTPConnection)(
            host, port, timeout=timeout
        )
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"memguard/{_core.version}",
            "Connection": "close",
            **self._headers,
        }
        try:
            connection.request("POST", target, body, headers)
            response = connection.getresponse()
            response.read(4096)  # rude not to; what is longer is nobody's concern
            return response.status, response.getheader("Retry-After", "") or ""
        finally:
            connection.close()

    def _after_fork_in_child(self, source: Alerting) -> None:
        self._open()
        super()._after_fork_in_child(source)


class Webhook(_Posting):
    """POSTs JSON: version (1), service, program, runtime, pid, instance, and alerts: a
    list of them. Any answer of 2xx accepts; redirects are not followed.

    `url`: http or https. `headers` are added, for a token. `timeout` of a request and
    `retry_first`, `retry_most` (back-off after a failure) in seconds. `service`: None
    is the program's name; `instance`: None is that of the host. Raises InvalidError,
    ConfigTypeError, RangeError.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
        retry_first: float = _FIRST_MS / 1000,
        retry_most: float = _MOST_MS / 1000,
        service: str | None = None,
        instance: str | None = None,
        name: str = "webhook",
    ) -> None:
        super().__init__(
            url,
            path="",
            headers=headers,
            timeout=timeout,
            resend=0.0,
            least=0.0,
            retry_first=retry_first,
            retry_most=retry_most,
            service=service,
            instance=instance,
            runbook="",
            name=name,
            kind=_WEBHOOK,
        )


class Alertmanager(_Posting):
    """POSTs to /api/v2/alerts of a Prometheus Alertmanager at `url`. Labels: alertname,
    severity, service, program, runtime, pid, instance, subject if it has one;
    annotations: summary, description, culprit, runbook_url.

    What fires is sent again every `resend` seconds and ends by itself 4 times that
    after the last; what is over is told so when Alertmanager has known it as firing
    for `least` seconds, which should be above its group_wait. `runbook`: a URL; '#'
    and the kind are added. The rest as with Webhook.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
        resend: float = 60.0,
        least: float = 60.0,
        retry_first: float = _FIRST_MS / 1000,
        retry_most: float = _MOST_MS / 1000,
        service: str | None = None,
        instance: str | None = None,
        runbook: str = "",
        name: str = "alertmanager",
    ) -> None:
        super().__init__(
            url,
            path="/api/v2/alerts",
            headers=headers,
            timeout=timeout,
            resend=resend,
            least=least,
            retry_first=retry_first,
            retry_most=retry_most,
            service=service,
            instance=instance,
            runbook=runbook,
            name=name,
            kind=_ALERTMANAGER,
        )


class Alerts:
    """The alerts of a monitor: `monitor.alerts`. Any thread."""

    def __init__(self, monitor: Alerting) -> None:
        self._monitor = monitor
        self._channels: list[Channel] = []
        self._is_closed = False

    @property
    def active(self) -> list[dict[str, Any]]:
        """What fires now, in order of its beginning. Raises ClosedError."""
        active: list[dict[str, Any]] = self._read()["active"]
        return active

    def history(self, after: int = 0) -> list[dict[str, Any]]:
        """The changes after number `after` that are still kept (alert_history_size),
        oldest first. Raises ClosedError, RangeError."""
        changes: list[dict[str, Any]] = self._read(after)["changes"]
        return changes

    @property
    def stats(self) -> dict[str, int]:
        """changes (number of the newest), evicted (no longer in the history), fired,
        resolved, repeats (a condition came back to an alert that was not over), held
        (it came back within the cooldown) and overflow (subjects that found no room
        to be followed). Raises ClosedError."""
        stats: dict[str, int] = self._read()["stats"]
        return stats

    @property
    def channels(self) -> list[Channel]:
        """Those that were added, in a new list."""
        return list(self._channels)

    def _read(self, after: int = 0) -> dict[str, Any]:
        if isinstance(after, bool) or not isinstance(after, int):
            raise ConfigTypeError(f"after is {after!r}, allowed: an int")
        if not 0 <= after < 2**53:
            raise RangeError(f"after is {after}, allowed: 0 to 2**53 - 1")
        told: dict[str, Any] = json.loads(self._monitor._alerts(after))
        return told

    def add(self, channel: Channel | Callable[[dict[str, Any]], object]) -> Channel:
        """Has a channel, or a callable, told of what fires now and all that changes
        from now on. Returns the channel. Raises ConfigTypeError, InvalidError (it was
        added before), ClosedError, SystemCallError (no thread could be started)."""
        made = channel if isinstance(channel, Channel) else Callback(channel)
        if self._is_closed or self._monitor.closed:
            raise ClosedError("alerts of a monitor that is closed")
        if made._source is not None or made._ends:
            raise InvalidError(f"channel {made.name!r} was added before")
        try:
            made._begin(self._monitor, with_active=True)
        except RuntimeError as error:
            made._source = made._thread = None
            raise _core.SystemCallError(
                f"thread of an alert channel: {error}"
            ) from None
        self._channels.append(made)
        return made

    def remove(self, channel: Channel) -> None:
        """Ends a channel, after one last try of 2 s at most. Nothing if it is not
        here."""
        if channel in self._channels:
            self._channels.remove(channel)
            _end([channel])

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until every channel has delivered what there is, `timeout` seconds at
        most. Returns whether it has. Not from inside a channel."""
        until = time.monotonic() + _seconds("timeout", timeout)
        flushed = [channel._flushed(until) for channel in self.channels]
        return all(flushed)

    def close(self) -> None:
        """Ends all channels, after one last try of 2 s at most. Idempotent; what the
        monitor's shutdown() and the end of the interpreter do."""
        self._is_closed = True
        channels, self._channels = self._channels, []
        _end(channels)

    def _after_fork_in_child(self) -> None:
        for channel in self._channels:
            channel._after_fork_in_child(self._monitor)


def _end(channels: list[Channel]) -> None:
    until = time.monotonic() + _LAST_TRY_S
    for channel in channels:
        channel._end(_LAST_TRY_S)
    for channel in channels:
        channel._join(until + 0.5)


def _header(what: str, value: object) -> str:
    text = _text(what, value)
    if "\r" in text or "\n" in text or not text.isascii():
        raise InvalidError(f"{what} is {text!r}, allowed: ASCII in one line")
    return text


def _target(url: str, path: str) -> tuple[bool, str, int | None, str]:
    """(whether https, host, port, target of the request)"""
    allowed = "allowed: http://HOST[:PORT][/PATH] or https://..."
    text = _text("url", url)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidError(f"url {text!r}: {error}, {allowed}") from None
    plain = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise InvalidError(f"url is {text!r}, {allowed}")
    if parts.username is not None:
        raise InvalidError(
            "url has a password, allowed: headers={'Authorization': ...}"
        )
    target = parts.path.rstrip("/") + path if path else parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    return parts.scheme == "https", parts.hostname, port, target
