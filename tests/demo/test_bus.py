"""Messages between a Python and a Node process, over real servers."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import memguard
import pytest
from memguard import serializers, transports

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from servers import serving

PEER = Path(__file__).resolve().parent / "bus_peer.js"
SECONDS = 60.0  # bound of each wait
MESSAGE = {
    "id": 7,
    "text": "Zoë 日本 😀",
    "price": 12.5,
    "tags": ["a", ""],
    "none": None,
    "yes": True,
    "large": 2**40,
    "deep": {"list": [{"b": -1}]},
}


class Peer:
    """The Node process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def told(self) -> Any:
        """The next line it prints."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), SECONDS)
        assert line, "the Node process has ended"
        return json.loads(line)

    async def ask(self, word: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        return await self.told()

    async def end(self) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.close()
        last = await self.told()
        assert await asyncio.wait_for(self._process.wait(), SECONDS) == 0
        return last


async def with_peer(
    arguments: list[str], body: Callable[[Peer], Awaitable[None]]
) -> None:
    process = await asyncio.create_subprocess_exec(
        "node",
        str(PEER),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        peer = Peer(process)
        assert await peer.told() == "ready"
        await body(peer)
        assert await peer.end() == {"current": 0, "findings": []}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)


def transport_of(kind: str, url: str, pool: memguard.MemoryPool) -> Any:
    if kind == "nats":
        return transports.NatsTransport(url, pool)
    return transports.RedisTransport(url, pool)


@pytest.mark.parametrize("kind", ["redis", "nats"])
@pytest.mark.parametrize("format_", ["JsonSerializer", "MessagePackSerializer"])
def test_there_and_back(kind: str, format_: str, tmp_path: Path) -> None:
    pool = memguard.MemoryPool({"leak_check": "paranoid"})
    serializer = getattr(serializers, format_)(pool)
    texts = ["", "a", "é" * 300, "日本" * 2000, "x" * 70_000, "😀" * 50_000]
    answered = []

    def receive(message: memguard.PooledBuffer, topic: str) -> None:
        assert topic == "to-python"
        with message:
            answered.append(serializer.deserialize(message))

    async def talk(peer: Peer) -> None:
        async with transport_of(kind, url, pool) as bus:
            await bus.subscribe("to-python", receive)
            for text in texts:
                with serializer.serialize_pooled({**MESSAGE, "text": text}) as message:
                    await bus.publish("to-node", message)
            await until(lambda: len(answered) == len(texts))

    with serving(kind, tmp_path) as server:
        url = server.url
        asyncio.run(with_peer([kind, format_, url], talk))
    for text, value in zip(texts, answered, strict=True):
        units = len(text.encode("utf-16-le")) // 2  # as JavaScript counts
        expected = {**MESSAGE, "text": text, "seenBy": "node", "length": units}
        assert value == expected
    assert pool.stats()["current"] == 0
    pool.close()


def test_one_outbox_of_both(tmp_path: Path) -> None:
    pool = memguard.MemoryPool()
    serializer = serializers.MessagePackSerializer(pool)
    seen: list[tuple[str, Any]] = []

    def receive(message: memguard.PooledBuffer, topic: str) -> None:
        with message:
            seen.append((topic, serializer.deserialize(message)))

    async def talk(peer: Peer) -> None:
        async with (
            transports.RedisTransport(url, pool) as bus,
            transports.RedisOutbox(url, "both", pool) as outbox,
        ):
            await bus.subscribe("from-node", receive)
            await bus.subscribe("from-python", receive)
            # Node keeps, Python passes on.
            assert await peer.ask("put") == [1, 2, 3]
            assert await outbox.pending() == 3
            assert await outbox.relay(bus.publish) == 3
            # Python keeps, Node passes on.
            rows = [serializer.serialize({"number": number}) for number in (4, 5)]
            kept = [("from-python", row) for row in rows]
            assert await outbox.put_batch(kept) == [4, 5]
            assert await peer.ask("relay") == 2
            assert await outbox.pending() == 0
            await until(lambda: len(seen) == 5)

    with serving("redis", tmp_path) as server:
        url = server.url
        asyncio.run(with_peer(["redis", "MessagePackSerializer", url], talk))
    assert seen == [
        ("from-node", {"number": 1, "text": "é" * 1000}),
        ("from-node", {"number": 2, "text": "é" * 2000}),
        ("from-node", {"number": 3, "text": "é" * 3000}),
        ("from-python", {"number": 4}),
        ("from-python", {"number": 5}),
    ]
    assert pool.stats()["current"] == 0
    pool.close()
