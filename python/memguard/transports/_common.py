"""What the transports share: Subscription, checks of arguments, broken connections."""

from __future__ import annotations

import asyncio
from collections import deque
from inspect import isawaitable

from memguard._core import (
    AbsentError,
    BrokenConnectionError,
    ConfigTypeError,
    InvalidError,
    RangeError,
)
from memguard._life import AsyncClosing
from memguard._log import Complaints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from memguard._core import PooledBuffer

    Handler = Callable[[PooledBuffer, str], Awaitable[object] | None]

TIMEOUT_S = 10.0
TOPIC_BYTES = 16384
INBOX = 128
INBOX_BYTES = 8 * 1048576


def broken(message: str, confirmed: Any, unknown: Any) -> BrokenConnectionError:
    """A BrokenConnectionError that says what became of the messages."""
    error = BrokenConnectionError(message)
    error.confirmed = confirmed
    error.unknown = unknown
    return error


def absent(package: str, extra: str) -> AbsentError:
    return AbsentError(f"needs the package {package}: pip install 'memguard[{extra}]'")


def require_timeout(timeout: object) -> float:
    """Seconds, above 0 and finite. Raises ConfigTypeError, RangeError."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ConfigTypeError(f"timeout is {timeout!r}, allowed: seconds")
    if not 0 < timeout < float("inf"):
        raise RangeError(f"timeout is {timeout}, allowed: seconds above 0")
    return float(timeout)


def require_topic(topic: object, forbidden: str = "") -> bytes:
    """The topic in UTF-8. Raises ConfigTypeError, RangeError, InvalidError."""
    if not isinstance(topic, str):
        raise ConfigTypeError(f"topic is {topic!r}, allowed: a str")
    try:
        name = topic.encode()
    except UnicodeEncodeError as error:
        raise InvalidError(
            f"topic {topic!r} cannot be encoded, at position {error.start}"
        ) from None
    if not 0 < len(name) <= TOPIC_BYTES:
        raise RangeError(f"topic has {len(name)} bytes, allowed: 1 to {TOPIC_BYTES}")
    wrong = [character for character in forbidden if character in topic]
    if wrong:
        raise InvalidError(f"topic {topic!r} contains {wrong[0]!r}")
    return name


def require_view(payload: Any) -> memoryview:
    """The bytes of a payload, not copied. Raises ConfigTypeError."""
    try:
        view = memoryview(payload)
    except TypeError:
        kind = type(payload).__name__
        raise ConfigTypeError(
            f"payload is of type {kind}, allowed: bytes and what offers their view"
        ) from None
    if not view.c_contiguous:
        raise ConfigTypeError("payload has gaps, allowed: contiguous bytes")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


class Subscription(AsyncClosing):
    """What subscribe() of a transport returns; ends with close().

    received   messages for this handler so far
    failures   calls of the handler that raised, the first of a row is logged; and
               messages for which there was no memory (NATS)
    gaps       times the connection was lost and made anew: what was published in
               between is missed

    A handler that is a coroutine function is called again when it is done; what
    comes meanwhile waits, and beyond 128 messages or 8 MB of it the server is not
    read.
    """

    def __init__(
        self,
        topic: str,
        handler: Handler,
        end: Callable[[Subscription], Awaitable[None]],
        hold: Callable[[Subscription, bool], None] | None = None,
    ) -> None:
        self.topic = topic
        self.received = 0
        self.failures = 0
        self.gaps = 0
        self.closed = False
        self._handler = handler
        self._end = end
        self._hold = hold
        self._is_held = False
        self._inbox: deque[PooledBuffer] = deque()
        self._inbox_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._complaints = Complaints()

    def push(self, buffer: PooledBuffer) -> None:
        """Has a message handled, in its turn."""
        if self.closed:
            give_back(buffer)
            return
        if self._task is None:
            answer = self.deliver(buffer)
            if answer is not None:
                self._task = asyncio.ensure_future(self._work(buffer, answer))
            return
        self._inbox.append(buffer)
        self._inbox_bytes += len(buffer)
        is_full = len(self._inbox) >= INBOX or self._inbox_bytes >= INBOX_BYTES
        if is_full and not self._is_held and self._hold is not None:
            self._is_held = True
            self._hold(self, True)

    async def _work(self, buffer: PooledBuffer, answer: Awaitable[object]) -> None:
        """Awaits the handler's answer, then handles what has come meanwhile."""
        try:
            await self.complete(answer, buffer)
            while self._inbox:
                buffer = self._inbox.popleft()
                self._inbox_bytes -= len(buffer)
                is_low = self._inbox_bytes <= INBOX_BYTES // 2
                if is_low and len(self._inbox) <= INBOX // 2:
                    self._release()
                next_answer = self.deliver(buffer)
                if next_answer is not None:
                    await self.complete(next_answer, buffer)
        finally:
            self._task = None
            self._release()

    def _release(self) -> None:
        if self._is_held and self._hold is not None:
            self._is_held = False
            self._hold(self, False)

    def deliver(
        self, buffer: PooledBuffer, topic: str | None = None
    ) -> Awaitable[object] | None:
        """Calls the handler. @return what is to be awaited, by complete()."""
        self.received += 1
        try:
            answer = self._handler(buffer, topic or self.topic)
        except Exception:
            self._failed(buffer)
            return None
        if isawaitable(answer):
            return answer
        self._complaints.worked(None)
        return None

    async def complete(self, answer: Awaitable[object], buffer: PooledBuffer) -> None:
        """Waits for what an asynchronous handler began; its failure is counted."""
        try:
            await answer
        except Exception:
            self._failed(buffer)
        except BaseException:  # cancelled: the buffer must not be lost
            give_back(buffer)
            raise
        else:
            self._complaints.worked(None)

    def drop(self) -> None:
        """Tells of a message for which there was no memory."""
        self.failures += 1
        self._complaints.failed("memory", "messages of %r are dropped", self.topic)

    def _failed(self, buffer: PooledBuffer) -> None:
        self.failures += 1
        give_back(buffer)
        self._complaints.failed(None, "the handler of topic %r failed", self.topic)

    async def close(self) -> None:
        """Ends it: the handler is not called any more; one that is under way may
        go on for 10 seconds. May be called again."""
        if self.closed:
            return
        self.closed = True
        try:
            await self._end(self)
        finally:
            while self._inbox:
                give_back(self._inbox.popleft())
            task = self._task
            if task is not None and task is not asyncio.current_task():
                await asyncio.wait([task], timeout=TIMEOUT_S)
                task.cancel()
                await asyncio.wait([task])


def give_back(buffer: PooledBuffer) -> None:
    """Returns a buffer whose owner may or may not have done so."""
    if not buffer.returned:
        buffer.return_()
