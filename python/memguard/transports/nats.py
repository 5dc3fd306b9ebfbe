"""NatsTransport: publish and subscribe on NATS, for asyncio, over nats-py.

nats-py copies: it joins subject and payload into one bytes object, and makes one of
each message that arrives. That is copied once more, into the rental, so that a
handler sees the same as on Redis; its own copy is garbage at once.
"""

from __future__ import annotations

import asyncio
import contextlib

from memguard._core import (
    ClosedError,
    ConfigTypeError,
    InvalidError,
    MemguardError,
    RangeError,
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
    require_timeout,
    require_topic,
    require_view,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from memguard.pool import MemoryPool
    from memguard.transports._common import Handler

_FORBIDDEN = " \t\r\n"
_CHECK_S = 0.05  # how often it is looked whether a connection still lives


class NatsTransport(AsyncClosing):
    """Messages over NATS subjects.

    `client` is a URL or a connected nats.aio.client.Client; `pool` is where messages
    are received, by default the shared one; a call takes at most `timeout` seconds.

    NATS does not acknowledge messages one by one: a publish is done when the server
    has answered a ping sent after it, so of a batch that breaks all that was sent
    is `unknown`. nats-py connects anew by itself, restores subscriptions and sends
    what it still holds.
    """

    def __init__(
        self,
        client: object = "nats://127.0.0.1:4222",
        pool: MemoryPool | None = None,
        *,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self._timeout_s = require_timeout(timeout)
        try:
            import nats.aio.client
        except ImportError:
            raise absent("nats-py", "nats") from None
        self._is_own = isinstance(client, str)
        if not self._is_own and not isinstance(client, nats.aio.client.Client):
            raise ConfigTypeError(
                f"client is {client!r}, allowed: a URL or a nats.aio.client.Client"
            )
        self._url = client
        self._client: Any = None if self._is_own else client
        self._pool = shared_pool() if pool is None else pool
        self._connecting = asyncio.Lock()
        self._subscriptions: dict[Subscription, Any] = {}
        self.closed = False

    async def _connected(self) -> Any:
        self._require_open()
        async with self._connecting:
            if self._client is None or (self._is_own and self._client.is_closed):
                self._client = await self._connect()
        self._require_open()
        return self._client

    async def _connect(self) -> Any:
        import nats

        async def ignore(_: Exception) -> None:
            """Calls that fail say so themselves."""

        try:
            async with asyncio.timeout(self._timeout_s):
                return await nats.connect(
                    str(self._url),
                    error_cb=ignore,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.1,
                )
        except ValueError as error:
            raise InvalidError(f"the URL of NATS is not valid: {error}") from None
        except (nats.errors.Error, OSError) as error:
            why = str(error) or f"no answer for {self._timeout_s:g} s"
            raise broken(f"no connection to NATS: {why}", 0, 0) from error

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedError("NatsTransport is closed")

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client is not None and bool(self._client.is_connected)

    async def publish(self, topic: str, payload: Any) -> None:
        """Publishes bytes. Raises BrokenConnectionError (`unknown` is 0 or 1)."""
        await self.publish_batch(topic, (payload,))

    async def publish_batch(self, topic: str, payloads: Iterable[Any]) -> int:
        """Publishes all with one wait. @return how many. Raises
        BrokenConnectionError (`confirmed` is 0, `unknown` how many were sent),
        RangeError if the server takes no message that large: none was sent."""
        self._require_open()
        require_topic(topic, _FORBIDDEN)
        views = [require_view(payload) for payload in payloads]
        if not views:
            return 0
        client = await self._connected()
        for view in views:
            if len(view) > client.max_payload:
                raise RangeError(
                    f"payload has {len(view)} bytes, this server allows "
                    f"{client.max_payload}"
                )
        sent = 0
        import nats.errors

        try:
            async with asyncio.timeout(self._timeout_s):
                if not client.is_connected:
                    raise ConnectionError("it is being made anew")
                for view in views:
                    await client.publish(topic, view)
                    sent += 1
                await self._flush(client)
        # AttributeError: nats-py uses a transport that is going away.
        except (nats.errors.Error, OSError, AttributeError) as error:
            raise broken(
                f"the connection to NATS broke ({_why(error)}): none of {len(views)} "
                f"messages is confirmed, {sent} are unknown",
                0,
                sent,
            ) from error
        return sent

    async def _flush(self, client: Any) -> None:
        """Waits for the answer to a ping, or for the connection to break."""
        reconnects = client.stats["reconnects"]
        answer = asyncio.ensure_future(client.flush(self._timeout_s))
        try:
            while not (await asyncio.wait([answer], timeout=_CHECK_S))[0]:
                if not client.is_connected or client.stats["reconnects"] > reconnects:
                    raise ConnectionError("lost")
            await answer
        finally:
            if not answer.done():
                answer.cancel()
                await asyncio.wait([answer])

    async def subscribe(self, topic: str, handler: Handler) -> Subscription:
        """Has `handler(buffer, topic)` called with each message on the topic, from
        when this is done; `topic` is the subject of the message, which differs from
        what was subscribed to if that has wildcards."""
        self._require_open()
        require_topic(topic, _FORBIDDEN)
        require_callable("handler", handler)
        import nats.errors

        client = await self._connected()
        subscription = Subscription(topic, handler, self._unsubscribe)

        async def take(message: Any) -> None:
            if subscription.closed:
                return
            try:
                buffer = pooled_copy(self._pool, message.data)
            except MemguardError:
                subscription.drop()
                return
            answer = subscription.deliver(buffer, message.subject)
            if answer is not None:
                await subscription.complete(answer, buffer)

        try:
            async with asyncio.timeout(self._timeout_s):
                inner = await client.subscribe(topic, cb=take)
                self._subscriptions[subscription] = inner
                await self._flush(client)
        except (nats.errors.Error, OSError) as error:
            self._subscriptions.pop(subscription, None)
            raise broken(
                f"the connection to NATS broke ({_why(error)})", 0, 0
            ) from error
        return subscription

    async def _unsubscribe(self, subscription: Subscription) -> None:
        inner = self._subscriptions.pop(subscription, None)
        if inner is None or self._client.is_closed:
            return
        import nats.errors

        # Once that broke, it is not subscribed any more.
        with contextlib.suppress(nats.errors.Error):
            await inner.unsubscribe()

    async def close(self) -> None:
        """Ends subscriptions, and the connection unless it was given."""
        if self.closed:
            return
        self.closed = True
        for subscription in list(self._subscriptions):
            await subscription.close()
        if self._is_own and self._client is not None:
            await self._client.close()


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__
