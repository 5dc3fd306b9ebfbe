"""Message transports over pooled memory: RedisTransport, RedisOutbox, NatsTransport.

    from memguard.transports import RedisTransport

    async def main() -> None:
        async with RedisTransport("redis://127.0.0.1:6379") as bus:
            await bus.subscribe("orders", handle)
            with serializer.serialize_pooled(order) as message:
                await bus.publish("orders", message)

    def handle(message: memguard.PooledBuffer, topic: str) -> None:
        with message:
            work(serializer.deserialize(message))

A payload is published as it lies in memory, and travels unchanged; what a handler
gets is a PooledBuffer, which the handler returns. A handler may be a coroutine
function. One that raises is logged, counted, and its buffer taken back.

An empty message arrives as a buffer of length 0.

Threads: a transport belongs to the event loop in which it was first used.

Errors: BrokenConnectionError when a connection breaks, cannot be made or does not
answer within `timeout` seconds. Its `confirmed` and `unknown` say what became of the
messages: acknowledged by the server; sent, but not answered. The others were not
sent. The next call connects anew. ConfigTypeError, RangeError and InvalidError for
wrong arguments and for what the server refuses; ClosedError after close();
AbsentError if the client library is not installed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.transports._common import Subscription
    from memguard.transports.nats import NatsTransport
    from memguard.transports.outbox import RedisOutbox
    from memguard.transports.redis import RedisTransport

__all__ = ["NatsTransport", "RedisOutbox", "RedisTransport", "Subscription"]

_MODULES = {
    "NatsTransport": "nats",
    "RedisOutbox": "outbox",
    "RedisTransport": "redis",
    "Subscription": "_common",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"{__name__}.{_MODULES[name]}", fromlist=[name])
    found: object = getattr(module, name)
    globals()[name] = found
    return found
