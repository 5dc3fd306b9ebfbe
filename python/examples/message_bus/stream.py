"""RedisStream: messages over Redis streams, with redis-py.

It is used like the transports of memguard. A message stays in its stream until the
handler is done with it and `settled` was awaited, then it is removed: each arrives at
least once, also when a connection, a process or Redis ends in between.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import memguard
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as BrokenError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as LateError

FIELD = b"payload"
AT_ONCE = 64  # messages of one read
BLOCK_MS = 200
RETRY_S = 0.2

Handler = Callable[[Any, str], None]
Settled = Callable[[], Awaitable[None]]
Failed = Callable[[Exception], None]


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """Errors of redis-py become those that memguard's transports raise."""
    try:
        yield
    except (BrokenError, LateError, OSError) as error:
        raise memguard.BrokenConnectionError(f"Redis: {error}") from None
    except RedisError as error:
        raise memguard.InvalidError(f"Redis refused: {error}") from None


async def stopped(*tasks: "asyncio.Task[None]") -> None:
    """Cancels them and waits for their ends. Raises what one has died of."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


class RedisStream:
    """`group` is who reads: of several groups each gets every message."""

    def __init__(self, url: str, group: str, timeout: float = 10.0) -> None:
        self._client = redis.asyncio.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )  # fmt: skip
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []
        # Before Python 3.12 redis-py may swallow that a task is cancelled.
        self._is_closed = False

    async def publish(self, topic: str, view: Any) -> None:
        await self.publish_batch(topic, [view])

    async def publish_batch(
        self, topic: str, views: list[Any], keep: int | None = None
    ) -> int:
        """`keep`: about so many messages stay in the stream, older ones go. Raises
        BrokenConnectionError: any of the messages may be there; InvalidError."""
        with typed():
            async with self._client.pipeline(transaction=False) as batch:
                for view in views:
                    batch.xadd(topic, {FIELD: memoryview(view)}, maxlen=keep)
                await batch.execute()
        return len(views)

    async def subscribe(
        self, topic: str, handler: Handler, settled: Settled, failed: Failed
    ) -> None:
        """Has `handler(bytes, topic)` called with each message. Those of a read are
        acknowledged when `settled` has returned; while it raises it is called again.
        Raises BrokenConnectionError, InvalidError; later ones `failed` is told."""
        await self._make_group(topic)
        reading = self._read(topic, handler, settled, failed)
        self._tasks.append(asyncio.create_task(reading))

    async def _make_group(self, topic: str) -> None:
        with typed():
            try:
                await self._client.xgroup_create(topic, self._group, "0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):  # it is there
                    raise

    async def _read(
        self, topic: str, handler: Handler, settled: Settled, failed: Failed
    ) -> None:
        begin = "0"  # first what was handed to us and is not acknowledged
        while not self._is_closed:
            try:
                entries = await self._next(topic, begin)
                if not entries:
                    begin = ">"
                    continue
                for _, fields in entries:
                    handler((fields or {}).get(FIELD, b""), topic)
                await self._settle(settled, failed)
                if not self._is_closed:
                    await self._acknowledge(topic, [number for number, _ in entries])
            except memguard.MemguardError as error:
                failed(error)
                begin = "0"
                await asyncio.sleep(RETRY_S)
                if "NOGROUP" in str(error):  # a Redis that has forgotten
                    with contextlib.suppress(memguard.MemguardError):
                        await self._make_group(topic)

    async def _next(self, topic: str, begin: str) -> list[Any]:
        """@return the next messages, (number, fields) each."""
        with typed():
            found = await self._client.xreadgroup(
                self._group, self._group, {topic: begin}, AT_ONCE, BLOCK_MS
            )
        if isinstance(found, dict):  # of the newer protocol
            return [entry for part in found.values() for entry in part[0]]
        return list(found[0][1]) if found else []

    async def _settle(self, settled: Settled, failed: Failed) -> None:
        while not self._is_closed:
            try:
                await settled()
                return
            except memguard.MemguardError as error:
                failed(error)
                await asyncio.sleep(RETRY_S)

    async def _acknowledge(self, topic: str, numbers: list[bytes]) -> None:
        with typed():
            async with self._client.pipeline(transaction=False) as batch:
                batch.xack(topic, self._group, *numbers)
                batch.xdel(topic, *numbers)
                await batch.execute()

    async def close(self, *keys: str) -> None:
        """Reads no more, and deletes these streams and other keys. Raises as
        publish_batch(), and what the reading has died of."""
        self._is_closed = True
        try:
            await stopped(*self._tasks)
            if keys:
                with typed():
                    await self._client.delete(*keys)
        finally:
            await self._client.aclose()
