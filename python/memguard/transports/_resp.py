"""Wire: one connection to Redis whose messages arrive in pooled memory.

redis-py connects, encrypts and logs in; then the connection's transport is taken
over. What arrives goes into one receive buffer. A message that is complete there is
copied once into its rental; one that is not is received into its rental by the
event loop itself. Replies come in the order of the commands (RESP2 and RESP3).
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

from memguard._core import pooled_copy
from memguard.transports._common import broken, give_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from memguard._core import PooledBuffer
    from memguard.pool import MemoryPool

RECEIVE_BYTES = 65536
DIRECT_BYTES = 16384  # from here a payload is sent from where it lies
CHUNK_BYTES = 262144  # sent before it is looked whether the server keeps up
CHUNK_MESSAGES = 512

_ARRAY, _PUSH, _BULK, _INTEGER, _STATUS, _ERROR, _NULL = b"*>$:+-_"
_MESSAGE = b"%c3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n"
_PUBLISH = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$"
_ACKNOWLEDGED = (b"subscribe", b"unsubscribe")


class RefusedError(Exception):
    """What the server said instead of doing it."""


class Request:
    """Commands sent together, and their replies."""

    __slots__ = ("cause", "confirmed", "count", "done", "refusal", "rents", "replies")

    def __init__(self, count: int, *, rents: int = -1, keeps: bool = False) -> None:
        self.count = count
        self.confirmed = 0  # replies so far, refusals too
        self.refusal: RefusedError | None = None  # the first
        self.replies: list[Any] | None = [] if keeps else None
        self.rents = rents  # which item of an array gets memory of its own
        self.cause = ""  # why the connection broke before the last reply
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(self, reply: Any) -> bool:
        """Takes one reply. @return whether it was the last."""
        self.confirmed += 1
        if self.refusal is None and isinstance(reply, RefusedError):
            self.refusal = reply
        if self.replies is not None:
            self.replies.append(reply)
        if self.confirmed < self.count:
            return False
        self.finish()
        return True

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        elif self.replies is not None:  # cancelled: nobody takes them
            drop(self.replies)


def drop(replies: list[Any]) -> None:
    """Returns the rentals among replies."""
    for reply in replies:
        if isinstance(reply, list):
            drop(reply)
        elif hasattr(reply, "return_"):
            give_back(reply)


def command(*arguments: bytes) -> bytes:
    """One command as it is sent."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in arguments]
    return b"".join(parts)


async def _uncancelled(task: asyncio.Task[None]) -> None:
    """Waits for a task that may swallow that it is cancelled, as redis-py does before
    Python 3.12 by asyncio.wait_for(): then that is not lost."""
    caller = asyncio.current_task()
    assert caller is not None
    count = caller.cancelling()
    try:
        await task
    finally:
        if caller.cancelling() > count:
            raise asyncio.CancelledError


def _scalar(kind: int, line: bytearray) -> Any:
    if kind == _INTEGER:
        return int(line)
    if kind == _STATUS:
        return bytes(line)
    if kind == _ERROR:
        return RefusedError(line.decode(errors="replace"))
    if kind == _NULL:
        return None
    raise ValueError(f"a reply of type {chr(kind)!r}")


class Wire(asyncio.BufferedProtocol):
    """See above. `listener(topic, buffer)` is called with each message that is
    published to a subscribed topic, `on_lost()` once a connection is gone."""

    def __init__(
        self,
        pool: MemoryPool,
        listener: Callable[[bytes, PooledBuffer], None] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._pool = pool
        self._listener = listener
        self._on_lost = on_lost
        self._connection: Any = None
        self._transport: Any = None
        self._data = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._data)
        self._start = self._end = 0  # of what is not parsed yet
        self._skip = 0  # bytes of an end of line still to come
        self._items: list[Any] | None = None  # of the array under way
        self._missing = 0  # items of it
        self._is_push = False
        self._topic = b""  # of the latest message
        self._prefix = b"none yet"  # how it began, up to its length
        self._kind = _ARRAY  # of arrays with messages
        self._payload: PooledBuffer | None = None  # being received
        self._rest: memoryview | None = None  # what is missing of it
        self._is_kept = False  # the payload stays a rental
        self._waiting: deque[Request] = deque()
        self._writable = asyncio.Event()  # the server takes what is sent
        self._writable.set()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.cause = ""  # why it broke

    # ---- life ------------------------------------------------------------------

    async def connect(self, client: Any, timeout_s: float) -> None:
        """Connects as `client` is set up to. Raises BrokenConnectionError."""
        from redis.exceptions import RedisError

        self._connection = client.connection_pool.make_connection()
        try:
            async with asyncio.timeout(timeout_s):
                # A task, because redis-py leaves exceptions in cycles, and these
                # would keep the frames of our callers, with the views they hold.
                connecting = asyncio.ensure_future(self._connection.connect())
                await _uncancelled(connecting)
        except (RedisError, OSError) as error:
            await self._connection.disconnect(nowait=True)
            why = str(error) or f"no answer for {timeout_s:g} s"
            raise broken(f"no connection to Redis: {why}", 0, 0) from error
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise
        # There is no public name for it; TLS is on this side of it.
        self._transport = self._connection._writer.transport
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    @property
    def is_lost(self) -> bool:
        return self._ended.done() or bool(self.cause)

    def abort(self, cause: str) -> None:
        """Ends the connection at once."""
        self.cause = self.cause or cause
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.cause = self.cause or (str(error) if error else "closed by the server")
        if self._payload is not None and self._rest is not None:
            self._rest.release()
            give_back(self._payload)
        drop(self._items or [])
        self._items = self._payload = self._rest = None
        self.resume_writing()
        for request in self._waiting:
            request.cause = self.cause
            drop(request.replies or [])
            request.finish()
        self._waiting.clear()
        self._ended.set_result(None)
        if self._on_lost is not None:
            self._on_lost()

    async def close(self) -> None:
        """Ends the connection, if it is there, and what redis-py has of it."""
        if self._transport is not None and not self._ended.done():
            self._on_lost = None
            self.abort("closed")
            await asyncio.shield(self._ended)
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            self._connection = None

    # ---- receiving -------------------------------------------------------------

    def get_buffer(self, _: int) -> memoryview:
        if self._rest is not None:
            return self._rest
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == RECEIVE_BYTES:
            size = self._end - self._start
            self._view[:size] = self._view[self._start :]
            self._start, self._end = 0, size
        return self._view[self._end :]

    def buffer_updated(self, count: int) -> None:
        try:
            if self._rest is None:
                self._end += count
            elif count < len(self._rest):
                self._rest = self._rest[count:]
                return
            else:
                self._end_payload()
            self._parse()
        except Exception as error:
            self.abort(f"what the server sent cannot be taken: {error!r}")

    def _parse(self) -> None:
        data = self._data
        while self._start < self._end and self._rest is None:
            if self._skip:
                step = min(self._skip, self._end - self._start)
                self._start += step
                self._skip -= step
                continue
            start = self._start
            is_known = self._items is None and data.startswith(
                self._prefix, start, self._end
            )
            if is_known:
                start += len(self._prefix)
            stop = data.find(b"\r\n", start, self._end)
            if stop < 0:
                if self._end - self._start == RECEIVE_BYTES:
                    raise ValueError("a line without end")
                return
            kind, line = data[start], data[start + 1 : stop]
            self._start = stop + 2
            if is_known:
                self._items, self._missing = [b"message", self._topic], 1
            if kind == _BULK:
                self._take_bulk(int(line))
            elif kind in (_ARRAY, _PUSH):
                self._begin_array(kind, int(line))
            else:
                self._take_item(_scalar(kind, line))

    def _begin_array(self, kind: int, count: int) -> None:
        if self._items is not None:
            raise ValueError("an array in an array")
        if count <= 0:
            self._take_item([] if count == 0 else None)
            return
        self._items, self._missing, self._kind = [], count, kind
        self._is_push = kind == _PUSH or self._listener is not None

    def _rents_here(self) -> bool:
        """Whether a string that comes now gets memory of its own."""
        if self._items is None:
            return False
        if self._is_push:
            return len(self._items) == 2
        return bool(self._waiting) and self._waiting[0].rents == len(self._items)

    def _take_bulk(self, size: int) -> None:
        if size < 0:
            self._take_item(None)
            return
        there = self._end - self._start
        is_kept = self._rents_here()
        if there < size:
            payload = self._pool.rent(size)
            memory = payload.memory
            memory[:there] = self._view[self._start : self._end]
            self._start = self._end = 0
            self._payload, self._rest = payload, memory[there:]
            self._is_kept = is_kept
            return
        found = self._view[self._start : self._start + size]
        self._start += size
        self._skip = 2
        self._take_item(pooled_copy(self._pool, found) if is_kept else bytes(found))

    def _end_payload(self) -> None:
        payload = self._payload
        assert payload is not None
        assert self._rest is not None
        # The event loop still has it: it must not hold back the rental's memory.
        self._rest.release()
        self._rest = self._payload = None
        self._skip = 2
        if self._is_kept:
            self._take_item(payload)
        else:
            with payload:
                self._take_item(bytes(payload.memory))

    def _take_item(self, item: Any) -> None:
        if self._items is None:
            self._take_reply(item)
            return
        self._items.append(item)
        self._missing -= 1
        if self._missing:
            return
        items, self._items = self._items, None
        if not self._is_push:
            self._take_reply(items)
        elif self._listener is None:
            drop(items)
        elif items[0] == b"message" and len(items) == 3:
            self._take_message(items[1], items[2])
        elif items[0] in _ACKNOWLEDGED:
            self._take_reply(items)
        else:
            drop(items)

    def _take_message(self, topic: bytes, payload: PooledBuffer) -> None:
        if topic != self._topic:
            self._topic = topic
            self._prefix = _MESSAGE % (self._kind, len(topic), topic)
        assert self._listener is not None
        self._listener(topic, payload)

    def _take_reply(self, reply: Any) -> None:
        if not self._waiting:
            raise ValueError("a reply that was not asked for")
        if self._waiting[0].add(reply):
            self._waiting.popleft()

    # ---- sending ---------------------------------------------------------------

    async def publish(
        self, topic: bytes, views: Sequence[memoryview], sent: list[Request]
    ) -> None:
        """Sends each view, in parts; `sent` gets what has been sent."""
        head = _PUBLISH % (len(topic), topic)
        next_head = b"\r\n" + head
        at = 0
        while at < len(views):
            items: list[bytes | memoryview] = []
            size = -1
            total = 0
            began = at
            while total < CHUNK_BYTES and at < min(len(views), began + CHUNK_MESSAGES):
                view = views[at]
                if len(view) != size or at == began + 1:
                    size = len(view)
                    line = b"%b%d\r\n" % (head if at == began else next_head, size)
                items += (line, view)
                total += size
                at += 1
            items.append(b"\r\n")
            if not await self.send(items, Request(at - began), sent):
                return

    async def send(
        self,
        items: Sequence[bytes | memoryview],
        request: Request,
        sent: list[Request],
    ) -> bool:
        """Sends commands as soon as the server takes them. The items must not
        change until the replies are there. @return False if the connection broke."""
        await self._writable.wait()
        if self.is_lost or self._transport.is_closing():
            return False
        room = sum([len(item) for item in items if len(item) < DIRECT_BYTES])
        with self._pool.rent_writer(room) as writer:
            parts: list[memoryview] = []
            begin = 0
            for item in items:
                if len(item) < DIRECT_BYTES:
                    writer.write(item)
                    continue
                parts += (writer.written[begin:], memoryview(item))
                begin = writer.written_count
            parts.append(writer.written[begin:])
            # From here on nothing fails: what is waited for is sent.
            sent.append(request)
            self._waiting.append(request)
            self._write(parts)
            parts.clear()
        return True

    def _write(self, parts: list[memoryview]) -> None:
        # Before 3.12 writelines() would copy everything into one.
        if len(parts) > 1 and sys.version_info >= (3, 12):
            self._transport.writelines(parts)
            return
        for part in parts:
            if not self._transport.is_closing():
                self._transport.write(part)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def complete(
        self, sending: Awaitable[object], sent: list[Request], timeout_s: float
    ) -> None:
        """Sends, then waits until each request is answered or the connection is
        gone; after `timeout_s` it is ended."""
        try:
            async with asyncio.timeout(timeout_s):
                await sending
                for request in sent:
                    await request.done
        except TimeoutError:
            self.abort(f"no answer for {timeout_s:g} s")
            await asyncio.shield(self._ended)

    def set_reading(self, is_on: bool) -> None:
        """Whether to take more from the server."""
        if not self.is_lost:
            if is_on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
