"""Messages from a program to itself over Redis: serialize, publish, receive,
deserialize; or serialize and deserialize alone.

    bus.py MEASURE SIDE FORMAT BYTES [URL]

MEASURE is `run` or `alloc`; SIDE is `pooled`, `off` (the same code, its pool switched
off) or `plain` (redis-py and msgspec as they come); FORMAT is `msgpack` or `json`;
without a URL it is serialization alone. Prints one JSON object. `alloc` is run with
bus_count.c preloaded.
"""

import asyncio
import ctypes
import gc
import json
import resource
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import msgspec

MEASURE, SIDE, FORMAT, BYTES_TEXT, *REST = sys.argv[1:]
BYTES = int(BYTES_TEXT)
URL = REST[0] if REST else ""
BATCH = 32  # messages on their way at a time
TOPIC = "bench.orders"
WARM_UP_S = 1.0
SECONDS = 3.0
ALLOC_ROUNDS = 100
ENVELOPE_BYTES = 180
LATENCIES = 20_000  # the latest ones; more would show in the resident set

# ---- the messages -------------------------------------------------------------

BODY_BYTES = max(0, BYTES - ENVELOPE_BYTES)
TEXT = ("order line, " * (BODY_BYTES // 12 + 1))[:BODY_BYTES]


class Event(msgspec.Struct):
    """The same on all sides; a body in MessagePack is a view of the message."""

    id: int
    type: str
    source: str
    at: int
    trace: str
    attempt: int
    amount: float
    tags: list[str]
    body: str if FORMAT == "json" else memoryview  # type: ignore[valid-type]


BODY: Any = TEXT if FORMAT == "json" else memoryview(TEXT.encode())


def message_of(number: int) -> Event:
    return Event(
        id=number,
        type="order.created",
        source="shop-frontend",
        at=1700000000 + number,
        trace="c0ffee00-1234-5678-9abc-def012345678",
        attempt=1,
        amount=1234.56,
        tags=["new", "web"],
        body=BODY,
    )


seen = 0


def take(event: Event) -> None:
    global seen
    if len(event.body) != BODY_BYTES or event.type != "order.created":
        raise SystemExit("a wrong message")
    seen += 1


# ---- the sides -----------------------------------------------------------------


class Pooled:
    def __init__(self) -> None:
        import memguard
        from memguard import serializers

        kind = {
            "json": serializers.JsonSerializer,
            "msgpack": serializers.MessagePackSerializer,
        }[FORMAT]
        self.pool = memguard.MemoryPool({"pool_enabled": SIDE == "pooled"})
        self.serializer = kind(self.pool, type=Event)

    async def open(self, told: Callable[[], None]) -> None:
        from memguard.transports import RedisTransport

        def receive(buffer: Any, _: str) -> None:
            self.receive(buffer)
            told()

        self.bus = RedisTransport(URL, self.pool)
        await self.bus.subscribe(TOPIC, receive)

    def receive(self, buffer: Any) -> None:
        take(self.serializer.deserialize(buffer))
        buffer.return_()

    async def publish(self, messages: list[Event]) -> None:
        serialize = self.serializer.serialize_pooled
        buffers = [serialize(message) for message in messages]
        await self.bus.publish_batch(TOPIC, buffers)
        for buffer in buffers:
            buffer.return_()

    def work(self, messages: list[Event]) -> None:
        for message in messages:
            self.receive(self.serializer.serialize_pooled(message))

    async def close(self) -> None:
        if URL:
            await self.bus.close()
        current = self.pool.stats()["current"]
        if current:
            raise SystemExit(f"{current} buffers were not returned")


class Plain:
    def __init__(self) -> None:
        library = {"json": msgspec.json, "msgpack": msgspec.msgpack}[FORMAT]
        self.encode = library.Encoder().encode
        self.decode = library.Decoder(Event).decode

    async def open(self, told: Callable[[], None]) -> None:
        import redis.asyncio

        self.client = redis.asyncio.Redis.from_url(URL)
        self.pubsub = self.client.pubsub(ignore_subscribe_messages=True)
        await self.pubsub.subscribe(TOPIC)
        await self.pubsub.get_message(timeout=5)

        async def listen() -> None:
            async for message in self.pubsub.listen():
                take(self.decode(message["data"]))
                told()

        self.listener = asyncio.ensure_future(listen())

    async def publish(self, messages: list[Event]) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for message in messages:
            pipeline.publish(TOPIC, self.encode(message))
        await pipeline.execute()

    def work(self, messages: list[Event]) -> None:
        for message in messages:
            take(self.decode(self.encode(message)))

    async def close(self) -> None:
        if URL:
            self.listener.cancel()
            await asyncio.wait([self.listener])
            await self.pubsub.aclose()
            await self.client.aclose()


side: Any = Plain() if SIDE == "plain" else Pooled()

# ---- rounds of BATCH messages ----------------------------------------------------


class Rounds:
    def __init__(self) -> None:
        self.sent = 0
        self.arrived = 0
        self.began = 0.0
        self.latencies = array("d", bytes(8 * LATENCIES))  # ms
        self.count = 0
        self.all = asyncio.Event()

    def note(self, spent_s: float) -> None:
        self.latencies[self.count % LATENCIES] = spent_s * 1000
        self.count += 1

    def told(self) -> None:
        self.note(time.perf_counter() - self.began)
        self.arrived += 1
        if self.arrived == BATCH:
            self.all.set()

    async def one(self) -> None:
        """Latency: from the start of the round to each arrival."""
        self.began = time.perf_counter()
        messages = [message_of(self.sent + i) for i in range(BATCH)]
        self.sent += BATCH
        if URL:
            self.arrived = 0
            self.all.clear()
            await side.publish(messages)
            await self.all.wait()
        else:
            side.work(messages)
            self.note((time.perf_counter() - self.began) / BATCH)

    async def many(self, seconds: float) -> float:
        """@return messages per second."""
        first, began = self.sent, time.perf_counter()
        while time.perf_counter() < began + seconds:
            await self.one()
        return (self.sent - first) / (time.perf_counter() - began)


# ---- what is measured --------------------------------------------------------------


def collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


async def run(rounds: Rounds) -> dict[str, float]:
    await rounds.many(WARM_UP_S)
    rounds.count = 0
    first, before = rounds.sent, collections()
    throughput = await rounds.many(SECONDS)
    made = collections() - before
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ordered = sorted(rounds.latencies[: rounds.count])
    return {
        "throughput": throughput,
        "p99": ordered[int(len(ordered) * 0.99)],
        "peak_rss": peak_rss,
        "gc": made * 1e6 / (rounds.sent - first),
    }


async def alloc(rounds: Rounds) -> dict[str, float]:
    """Bytes that a message takes from malloc; what is made before it is serialized
    is among them, on all sides."""
    asked = ctypes.CDLL(None).bench_allocated_bytes
    asked.restype = ctypes.c_uint64
    for _ in range(ALLOC_ROUNDS):
        await rounds.one()
    before = asked()
    for _ in range(ALLOC_ROUNDS):
        await rounds.one()
    return {"alloc": (asked() - before) / BATCH / ALLOC_ROUNDS}


async def main() -> None:
    rounds = Rounds()
    if URL:
        await side.open(rounds.told)
    figures = await (alloc if MEASURE == "alloc" else run)(rounds)
    if seen != rounds.sent:
        raise SystemExit(f"{seen} of {rounds.sent} messages arrived")
    await side.close()
    print(json.dumps(figures))


asyncio.run(main())
