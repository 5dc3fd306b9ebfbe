"""Ways to the other side. A road has

    is_durable              whether the broker keeps what it has acknowledged
    open(...)               connects, and has what comes in handled
    send(views)             publishes messages that are to arrive
    reply(views)            publishes answers
    set_aside(views)        publishes what nobody could read, for who wants to look
    pending()               messages that wait in the outbox; None if there is none
    close(forgets)          forgets: deletes what both sides made in the broker, but
                            not what was set aside

Each raises memguard.MemguardError: BrokenConnectionError and others; close() also what
a task of the road has died of."""

import asyncio
from collections.abc import Callable
from typing import Any

import memguard
from memguard import transports

from .stream import RETRY_S, Failed, Handler, RedisStream, Settled, stopped

RELAY = 100  # messages at a time
ASIDE = 100  # unreadable messages that a stream of them keeps


class StreamRoad:
    """Outbox -> stream -> the other side."""

    is_durable = True

    def __init__(self, url: str, name: str, me: str, peer: str, pool: Any) -> None:
        self._out, self._in = f"{name}.{peer}", f"{name}.{me}"
        self._aside = f"{name}.aside"
        self._stream = RedisStream(url, me)
        # Both ways have an outbox of their own: who fills it empties it.
        self._outbox = transports.RedisOutbox(url, self._out, pool)
        self._kept = asyncio.Event()
        self._failed: Failed = lambda _: None
        self._relay: asyncio.Task[None] | None = None
        self._is_closed = False

    async def open(self, handler: Handler, settled: Settled, failed: Failed) -> None:
        self._failed = failed
        await self._stream.subscribe(self._in, handler, settled, failed)
        await self._outbox.pending()
        self._relay = asyncio.create_task(self._pass_on())

    async def send(self, views: list[Any]) -> None:
        await self._outbox.put_batch([(self._out, view) for view in views])
        self._kept.set()

    async def _pass_on(self) -> None:
        while not self._is_closed:
            self._kept.clear()
            try:
                if await self._outbox.relay(self._stream.publish, RELAY):
                    continue
            except memguard.MemguardError as error:
                self._failed(error)
                await asyncio.sleep(RETRY_S)
                continue
            if not self._is_closed:
                await self._kept.wait()

    async def reply(self, views: list[Any]) -> None:
        await self._stream.publish_batch(self._out, views)

    async def set_aside(self, views: list[Any]) -> None:
        await self._stream.publish_batch(self._aside, views, ASIDE)

    async def pending(self) -> int | None:
        return await self._outbox.pending()

    async def close(self, forgets: bool) -> None:
        self._is_closed = True
        ways = (self._in, self._out) if forgets else ()
        numbers = [f"memguard:outbox:{way}:sequence" for way in ways]
        try:
            if self._relay is not None:
                await stopped(self._relay)
        finally:
            await self._outbox.close()
            await self._stream.close(*ways, *numbers)


class TransportRoad:
    """One of memguard's transports, to who listens at that moment."""

    is_durable = False

    def __init__(self, bus: Any, name: str, me: str, peer: str) -> None:
        self._out, self._in = f"{name}.{peer}", f"{name}.{me}"
        self._aside = f"{name}.aside"
        self._bus = bus
        self._due = asyncio.Event()
        self._replies: asyncio.Task[None] | None = None
        self._is_closed = False

    async def open(self, handler: Handler, settled: Settled, failed: Failed) -> None:
        def take(message: memguard.PooledBuffer, topic: str) -> None:
            with message:
                handler(message, topic)
            self._due.set()

        await self._bus.subscribe(self._in, take)
        self._replies = asyncio.create_task(self._settle(settled, failed))

    async def _settle(self, settled: Settled, failed: Failed) -> None:
        while not self._is_closed:
            await self._due.wait()
            self._due.clear()
            try:
                await settled()
            except memguard.MemguardError as error:
                failed(error)
                self._due.set()
                await asyncio.sleep(RETRY_S)

    async def send(self, views: list[Any]) -> None:
        await self._bus.publish_batch(self._out, views)

    async def reply(self, views: list[Any]) -> None:
        await self._bus.publish_batch(self._out, views)

    async def set_aside(self, views: list[Any]) -> None:
        await self._bus.publish_batch(self._aside, views)

    async def pending(self) -> int | None:
        return None

    async def close(self, forgets: bool) -> None:
        self._is_closed = True
        self._due.set()
        try:
            if self._replies is not None:
                await stopped(self._replies)
        finally:
            await self._bus.close()


def channels(url: str, name: str, me: str, peer: str, pool: Any) -> TransportRoad:
    return TransportRoad(transports.RedisTransport(url, pool), name, me, peer)


def nats(url: str, name: str, me: str, peer: str, pool: Any) -> TransportRoad:
    return TransportRoad(transports.NatsTransport(url, pool), name, me, peer)


ROADS: dict[str, Callable[..., Any]] = {
    "redis": StreamRoad,
    "redis-channels": channels,
    "nats": nats,
}
