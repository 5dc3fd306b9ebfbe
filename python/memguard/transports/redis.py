"""RedisTransport: publish and subscribe on Redis, for asyncio.

redis-py makes the connections; what they carry is read and written here, because
redis-py would make a bytes object of every message (see _resp.py).
"""

from __future__ import annotations

import asyncio
import contextlib

from memguard import _log
from memguard._core import (
    ClosedError,
    ConfigTypeError,
    InvalidError,
    MemguardError,
    pooled_copy,
)
from memguard._life import AsyncClosing
from memguard.pool import shared_pool
from memguard.reuse import require_callable
from memguard.transports._common import (
    TIMEOUT_S,
    Subscription,
    absent,
    broken,
    give_back,
    require_timeout,
    require_topic,
    require_view,
)
from memguard.transports._resp import Request, Wire, command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from memguard._core import PooledBuffer
    from memguard.pool import MemoryPool
    from memguard.transports._common import Handler

RETRY_S = 0.1  # doubled with each attempt, up to
RETRY_MOST_S = 5.0


def client_of(client: object) -> tuple[Any, bool]:
    """A client of redis-py and whether it was made here."""
    try:
        import redis.asyncio
    except ImportError:
        raise absent("redis", "redis") from None
    if isinstance(client, redis.asyncio.Redis):
        return client, False
    if not isinstance(client, str):
        raise ConfigTypeError(
            f"client is {client!r}, allowed: a URL or a redis.asyncio.Redis"
        )
    try:
        return redis.asyncio.Redis.from_url(client), True
    except ValueError as error:
        raise InvalidError(f"the URL of Redis is not valid: {error}") from None


class Commander(AsyncClosing):
    """What transport and outbox share: a connection for commands, made when it is
    first needed, and made anew after it broke."""

    def __init__(self, client: object, pool: MemoryPool | None, timeout: float) -> None:
        self._timeout_s = require_timeout(timeout)
        self._client, self._is_own = client_of(client)
        self._pool = shared_pool() if pool is None else pool
        self._commands: Wire | None = None
        self._connecting = asyncio.Lock()
        self.closed = False

    async def _command_wire(self) -> Wire:
        if self._commands is None or self._commands.is_lost:
            async with self._connecting:
                self._require_open()
                if self._commands is not None and self._commands.is_lost:
                    old, self._commands = self._commands, None
                    await old.close()
                if self._commands is None:
                    wire = Wire(self._pool)
                    await wire.connect(self._client, self._timeout_s)
                    self._commands = wire
        self._require_open()
        return self._commands

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedError(f"{type(self).__name__} is closed")

    async def close(self) -> None:
        """Ends the connections; a client that was given stays as it is."""
        if self.closed:
            return
        self.closed = True
        async with self._connecting:
            if self._commands is not None:
                await self._commands.close()
        if self._is_own:
            await self._client.aclose()


class RedisTransport(Commander):
    """Messages over Redis publish/subscribe.

    `client` is a URL or a redis.asyncio.Redis, whose settings are used for two
    connections, one for publishing and one for subscriptions; `pool` is where
    messages are received, by default the shared one; a call takes at most
    `timeout` seconds besides connecting.

    Subscriptions survive a broken connection: it is made anew, at first after 0.1
    and at last every 5 seconds, and each Subscription counts the gap.
    """

    def __init__(
        self,
        client: object = "redis://127.0.0.1:6379",
        pool: MemoryPool | None = None,
        *,
        timeout: float = TIMEOUT_S,
    ) -> None:
        super().__init__(client, pool, timeout)
        self._listening: Wire | None = None
        self._turn = asyncio.Lock()  # of subscribing and unsubscribing
        self._topics: dict[bytes, list[Subscription]] = {}
        self._held: set[Subscription] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._is_told = False  # of the loss

    async def publish(self, topic: str, payload: Any) -> None:
        """Publishes bytes; they must not change until this is done.
        Raises BrokenConnectionError (`confirmed` and `unknown` are 0 or 1)."""
        await self.publish_batch(topic, (payload,))

    async def publish_batch(self, topic: str, payloads: Iterable[Any]) -> int:
        """Publishes all with one wait. @return how many. Raises
        BrokenConnectionError with the numbers `confirmed` and `unknown`; the
        payloads are confirmed and sent in order."""
        self._require_open()
        name = require_topic(topic)
        views = [require_view(payload) for payload in payloads]
        if not views:
            return 0
        wire = await self._command_wire()
        sent: list[Request] = []
        await wire.complete(wire.publish(name, views, sent), sent, self._timeout_s)
        confirmed = sum([request.confirmed for request in sent])
        if confirmed < len(views):
            unknown = sum([request.count for request in sent]) - confirmed
            raise broken(
                f"the connection to Redis broke ({wire.cause}): {confirmed} of "
                f"{len(views)} messages are confirmed, {unknown} are unknown",
                confirmed,
                unknown,
            )
        for request in sent:
            if request.refusal is not None:
                raise InvalidError(f"Redis refused messages: {request.refusal}")
        return confirmed

    # ---- subscribing -----------------------------------------------------------

    async def subscribe(self, topic: str, handler: Handler) -> Subscription:
        """Has `handler(buffer, topic)` called with each message on the topic, from
        when this is done. Each handler of a topic gets a buffer of its own."""
        self._require_open()
        name = require_topic(topic)
        require_callable("handler", handler)
        subscription = Subscription(topic, handler, self._unsubscribe, self._hold)
        async with self._turn:
            self._require_open()
            self._topics.setdefault(name, []).append(subscription)
            try:
                wire = await self._listening_wire()
                await self._tell(wire, b"SUBSCRIBE", [name])
            except BaseException:
                self._forget(subscription)
                raise
        return subscription

    async def _listening_wire(self) -> Wire:
        if self._listening is not None and self._listening.is_lost:
            old, self._listening = self._listening, None
            await old.close()
        if self._listening is None:
            wire = Wire(self._pool, self._deliver, self._lost)
            await wire.connect(self._client, self._timeout_s)
            self._listening = wire
        return self._listening

    async def _tell(self, wire: Wire, word: bytes, names: list[bytes]) -> None:
        request = Request(len(names))
        sent: list[Request] = []
        wire.set_reading(True)  # or there would be no answer
        sending = wire.send([command(word, *names)], request, sent)
        await wire.complete(sending, sent, self._timeout_s)
        wire.set_reading(not self._held)
        if request.refusal is not None:
            raise InvalidError(f"Redis refused: {request.refusal}")
        if request.confirmed < len(names):
            raise broken(f"the connection to Redis broke ({wire.cause})", 0, 0)

    def _deliver(self, name: bytes, buffer: PooledBuffer) -> None:
        subscriptions = self._topics.get(name)
        if not subscriptions:
            give_back(buffer)
            return
        first, *others = subscriptions
        try:
            for other in others:
                other.push(pooled_copy(self._pool, buffer))
        except BaseException:
            give_back(buffer)
            raise
        first.push(buffer)
        self._is_told = False

    def _hold(self, subscription: Subscription, is_on: bool) -> None:
        if is_on:
            self._held.add(subscription)
        else:
            self._held.discard(subscription)
        if self._listening is not None:
            self._listening.set_reading(not self._held)

    def _forget(self, subscription: Subscription) -> bool:
        """@return whether it was the last of its topic."""
        name = subscription.topic.encode()
        left = [s for s in self._topics.get(name, []) if s is not subscription]
        if left:
            self._topics[name] = left
            return False
        return self._topics.pop(name, None) is not None

    async def _unsubscribe(self, subscription: Subscription) -> None:
        async with self._turn:
            was_last = self._forget(subscription)
            if self._held and subscription in self._held:
                self._hold(subscription, False)
            wire = self._listening
            if was_last and wire is not None and not wire.is_lost:
                # Broken, it is not subscribed any more; closing may not fail.
                with contextlib.suppress(MemguardError):
                    name = subscription.topic.encode()
                    await self._tell(wire, b"UNSUBSCRIBE", [name])

    # ---- a broken connection ---------------------------------------------------

    def _lost(self) -> None:
        if not self.closed and self._recovery is None:
            self._recovery = asyncio.ensure_future(self._recover())

    async def _recover(self) -> None:
        wait_s = RETRY_S
        cause = self._listening.cause if self._listening is not None else ""
        if self._topics and not self._is_told:
            # Again when it has worked in between.
            self._is_told = True
            _log.warning("connection to Redis lost (%s), subscriptions wait", cause)
        try:
            while self._topics and not await self._is_recovered():
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MOST_S)
        finally:
            self._recovery = None

    async def _is_recovered(self) -> bool:
        async with self._turn:
            try:
                wire = await self._listening_wire()
                await self._tell(wire, b"SUBSCRIBE", list(self._topics))
            except MemguardError:
                return False
            for subscriptions in self._topics.values():
                for subscription in subscriptions:
                    subscription.gaps += 1
            return True

    async def close(self) -> None:
        """Ends subscriptions and connections; a client that was given stays."""
        if self.closed:
            return
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait([self._recovery])
        for subscriptions in list(self._topics.values()):
            for subscription in list(subscriptions):
                await subscription.close()
        if self._listening is not None:
            await self._listening.close()
        await super().close()
