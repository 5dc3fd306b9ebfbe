"""RedisOutbox: messages kept in Redis until they are published, for asyncio.

Under the prefix `memguard:outbox:<name>`:

    :sequence      the latest id
    :message:<id>  hash {topic, payload}
    :pending       sorted set of ids, score = id

A message is put with one MULTI/EXEC, so it is there as a whole or not at all. It
leaves with another one after it was published: at least once, in order.
"""

from __future__ import annotations

from inspect import isawaitable

from memguard._core import ConfigTypeError, EncodingError, InvalidError, RangeError
from memguard.reuse import require_callable, require_count
from memguard.transports._common import (
    TIMEOUT_S,
    broken,
    give_back,
    require_topic,
    require_view,
)
from memguard.transports._resp import RefusedError, Request, command, drop
from memguard.transports.redis import Commander

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any

    from memguard.pool import MemoryPool

    Publish = Callable[[str, memoryview], Awaitable[object] | object]

_HSET = (
    b"*6\r\n$4\r\nHSET\r\n$%d\r\n%b\r\n"
    b"$5\r\ntopic\r\n$%d\r\n%b\r\n$7\r\npayload\r\n$%d\r\n"
)
BATCH = 10_000


class RedisOutbox(Commander):
    """An outbox with a name, shared by everyone who uses the name on that server.

        ids = await outbox.put_batch([("orders", message), ("stock", other)])
        ...
        count = await outbox.relay(bus.publish)

    `client`, `pool` and `timeout` are those of RedisTransport. `name` has 1 to 200
    characters. Raises what the transports raise, with ids in `confirmed` and
    `unknown` of BrokenConnectionError.
    """

    def __init__(
        self,
        client: object = "redis://127.0.0.1:6379",
        name: str = "default",
        pool: MemoryPool | None = None,
        *,
        timeout: float = TIMEOUT_S,
    ) -> None:
        prefix = require_topic(name)
        if len(name) > 200:
            raise RangeError(f"name has {len(name)} characters, allowed: 1 to 200")
        super().__init__(client, pool, timeout)
        self.name = name
        self._prefix = b"memguard:outbox:" + prefix
        self._pending = self._prefix + b":pending"

    async def put(self, topic: str, payload: Any) -> int:
        """Keeps one message. @return its id."""
        return (await self.put_batch([(topic, payload)]))[0]

    async def put_batch(self, messages: Iterable[tuple[str, Any]]) -> list[int]:
        """Keeps all or none. @return their ids, rising. Raises
        BrokenConnectionError: `unknown` has the ids if the last answer is missing,
        else both lists are empty, and nothing was kept."""
        self._require_open()
        kept = [_checked(message) for message in messages]
        if not kept:
            return []
        if len(kept) > BATCH:
            raise RangeError(f"{len(kept)} messages, allowed: 1 to {BATCH}")
        count = len(kept)
        (last,) = await self._run(
            [command(b"INCRBY", self._prefix + b":sequence", b"%d" % count)],
            Request(1, keeps=True),
            [],
        )
        ids = list(range(last - count + 1, last + 1))
        items: list[bytes | memoryview] = [command(b"MULTI")]
        pending = [b"ZADD", self._pending]
        for number, (topic, view) in zip(ids, kept, strict=True):
            key = self._key(b"%d" % number)
            items += (_HSET % (len(key), key, len(topic), topic, len(view)), view)
            items.append(b"\r\n")
            pending += (b"%d" % number, b"%d" % number)
        items.append(command(*pending) + command(b"EXEC"))
        await self._run(items, Request(count + 3, keeps=True), ids)
        return ids

    async def relay(self, publish: Publish, limit: int = 100) -> int:
        """Publishes the oldest messages, at most `limit` (1 to 10 000), with
        `publish(topic, view)`, which may be a coroutine function; the view ends
        with the call. What was published is removed; if `publish` raises, that is
        what was published before, and the error goes on.
        @return how many were published and removed. Raises BrokenConnectionError:
        `confirmed` is empty, `unknown` has the ids that were published and may
        come again."""
        require_callable("publish", publish)
        require_count("limit", limit, 1)
        if limit > BATCH:
            raise RangeError(f"limit is {limit}, allowed: 1 to {BATCH}")
        self._require_open()
        (ids,) = await self._run(
            [command(b"ZRANGE", self._pending, b"0", b"%d" % (limit - 1))],
            Request(1, keeps=True),
            [],
        )
        if not ids:
            return 0
        # HGETALL would give the fields in an order of its own.
        wanted = [command(b"HMGET", self._key(i), b"topic", b"payload") for i in ids]
        request = Request(len(ids), rents=1, keeps=True)
        found = await self._run([b"".join(wanted)], request, [])
        done: list[bytes] = []
        published = 0
        try:
            for number, (topic, payload) in zip(ids, found, strict=True):
                if topic is not None and payload is not None:
                    await _publish(publish, topic, payload)
                    published += 1
                done.append(number)
        finally:
            drop(found)
            if done:
                await self._remove(done)
        return published

    async def pending(self) -> int:
        """How many messages wait."""
        self._require_open()
        request = Request(1, keeps=True)
        (count,) = await self._run([command(b"ZCARD", self._pending)], request, [])
        return int(count)

    def _key(self, number: bytes) -> bytes:
        return self._prefix + b":message:" + number

    async def _remove(self, ids: list[bytes]) -> None:
        items = [
            command(b"MULTI"),
            command(b"ZREM", self._pending, *ids),
            command(b"DEL", *[self._key(number) for number in ids]),
            command(b"EXEC"),
        ]
        request = Request(4, keeps=True)
        await self._run([b"".join(items)], request, [int(number) for number in ids])

    async def _run(
        self, items: list[Any], request: Request, ids: list[int]
    ) -> list[Any]:
        """Sends commands. @return the replies. Raises BrokenConnectionError with
        `ids` as unknown once they were sent, InvalidError for a refusal."""
        wire = await self._command_wire()
        sent: list[Request] = []
        await wire.complete(wire.send(items, request, sent), sent, self._timeout_s)
        if request.confirmed < request.count:
            raise broken(
                f"the connection to Redis broke ({wire.cause}); unknown: {ids}",
                [],
                ids if sent else [],
            )
        replies = request.replies or []
        refusal = request.refusal or _refusal_inside(replies)
        if refusal is not None:
            drop(replies)
            raise InvalidError(f"Redis refused: {refusal}")
        return replies


def _checked(message: Any) -> tuple[bytes, memoryview]:
    if not isinstance(message, tuple) or len(message) != 2:
        kind = type(message).__name__
        raise ConfigTypeError(f"message is of type {kind}, allowed: (topic, payload)")
    return require_topic(message[0]), require_view(message[1])


def _refusal_inside(replies: list[Any]) -> RefusedError | None:
    """What went wrong inside of an EXEC."""
    for reply in replies:
        for item in reply if isinstance(reply, list) else ():
            if isinstance(item, RefusedError):
                return item
    return None


async def _publish(publish: Publish, topic: bytes, payload: Any) -> None:
    try:
        name = topic.decode()
    except UnicodeDecodeError as error:
        raise EncodingError(
            f"a topic in the outbox is not UTF-8, at position {error.start}"
        ) from None
    with payload.memory as view:
        answer = publish(name, view)
        if isawaitable(answer):
            await answer
    give_back(payload)
