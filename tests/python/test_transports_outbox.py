"""RedisOutbox on a real server: all or none, in order, at least once."""

import asyncio
from typing import Any

import pytest
import redis.asyncio
from memguard import (
    BrokenConnectionError,
    ClosedError,
    ConfigTypeError,
    EncodingError,
    InvalidError,
    MemoryPool,
    PooledBuffer,
    RangeError,
)
from memguard.transports import RedisOutbox, RedisTransport
from messages import run
from servers import Server, proxy_to


class Published:
    """Notes what is published; raises at what begins with an exclamation mark."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []

    async def __call__(self, topic: str, view: memoryview) -> None:
        await asyncio.sleep(0)
        if bytes(view[:1]) == b"!":
            raise ConnectionError("refused")
        self.got.append((topic, bytes(view)))


def test_messages_are_kept_and_relayed_in_order(
    redis_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        to = Published()
        async with RedisOutbox(redis_server.url, "order", pool) as box:
            assert await box.relay(to) == 0
            assert await box.put("a", b"one") == 1
            with pool.rent(70_000) as large:
                large.memory[:] = b"x" * 70_000
                many = [("b", b""), ("täglich", large), ("a", memoryview(b"four"))]
                assert await box.put_batch(many) == [2, 3, 4]
            assert await box.pending() == 4
            assert await box.relay(to, limit=2) == 2
            assert await box.pending() == 2
            assert await box.relay(to) == 2
            assert await box.relay(to) == 0
            assert await box.put("a", b"five") == 5
        assert to.got == [
            ("a", b"one"),
            ("b", b""),
            ("täglich", b"x" * 70_000),
            ("a", b"four"),
        ]

    run(main)


def test_the_layout_in_redis(redis_server: Server, pool: MemoryPool) -> None:
    """Other languages read and write the same."""

    async def main() -> None:
        to = Published()
        prefix = "memguard:outbox:layout"
        async with redis.asyncio.Redis.from_url(redis_server.url) as client:
            box = RedisOutbox(client, "layout", pool)
            await box.put_batch([("t", b"\x00\xff"), ("u", b"2")])
            assert await client.get(f"{prefix}:sequence") == b"2"
            assert await client.hgetall(f"{prefix}:message:1") == {
                b"topic": b"t",
                b"payload": b"\x00\xff",
            }
            assert await client.zrange(f"{prefix}:pending", 0, -1, withscores=True) in (
                [(b"1", 1.0), (b"2", 2.0)],
                [[b"1", 1.0], [b"2", 2.0]],
            )
            await client.incrby(f"{prefix}:sequence", 1)
            message = {"payload": b"3", "topic": "v"}
            await client.hset(f"{prefix}:message:3", mapping=message)
            await client.zadd(f"{prefix}:pending", {"3": 3})
            assert await box.relay(to) == 3
            keys = [key async for key in client.scan_iter(f"{prefix}:*")]
            assert keys == [f"{prefix}:sequence".encode()]
            await box.close()
        assert to.got == [("t", b"\x00\xff"), ("u", b"2"), ("v", b"3")]

    run(main)


def test_relayed_by_a_transport(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        got: list[tuple[str, int]] = []
        done = asyncio.Event()

        def handle(buffer: PooledBuffer, topic: str) -> None:
            with buffer:
                got.append((topic, len(buffer)))
            if len(got) == 50:
                done.set()

        async with (
            RedisTransport(redis_server.url, pool) as bus,
            RedisOutbox(redis_server.url, "bus", pool) as box,
        ):
            await bus.subscribe("box", handle)
            await box.put_batch([("box", b"." * i * 1000) for i in range(50)])
            assert await box.relay(bus.publish) == 50
            await done.wait()
        assert got == [("box", i * 1000) for i in range(50)]

    run(main)


def test_what_was_published_before_an_error_is_removed(
    redis_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        to = Published()
        async with RedisOutbox(redis_server.url, "error", pool) as box:
            await box.put_batch([("t", b"1"), ("t", b"2"), ("t", b"!"), ("t", b"4")])
            with pytest.raises(ConnectionError, match="refused"):
                await box.relay(to)
            assert to.got == [("t", b"1"), ("t", b"2")]
            assert await box.pending() == 2
            assert (
                await box.relay(lambda topic, view: to.got.append((topic, b"?"))) == 2
            )
            assert await box.pending() == 0
        assert to.got[2:] == [("t", b"?"), ("t", b"?")]

    run(main)


def test_what_another_relay_took_is_passed_over(
    redis_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        to = Published()
        async with (
            redis.asyncio.Redis.from_url(redis_server.url) as client,
            RedisOutbox(client, "gone", pool) as box,
        ):
            await box.put_batch([("t", b"1"), ("t", b"2")])
            await client.delete("memguard:outbox:gone:message:1")
            assert await box.relay(to) == 1
            assert await box.pending() == 0
        assert to.got == [("t", b"2")]

    run(main)


# ---- broken connections ----------------------------------------------------

NUMBER = len(b":5\r\n")  # the answer to INCRBY


def test_nothing_is_kept_if_the_connection_breaks_before(
    redis_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        with proxy_to(redis_server) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with RedisOutbox(url, "before", pool) as box:
                await box.pending()
                proxy.limit(2)
                with pytest.raises(BrokenConnectionError) as caught:
                    await box.put_batch([("t", b"1"), ("t", b"2")])
                assert (caught.value.confirmed, caught.value.unknown) == ([], [])
                proxy.limit(None)
                assert await box.pending() == 0
                assert await box.put("t", b"3") == 3

    run(main)


@pytest.mark.parametrize("size", [10, 50_000])
def test_the_ids_are_unknown_if_the_answer_is_missing(
    redis_server: Server, pool: MemoryPool, size: int
) -> None:
    async def main() -> None:
        to = Published()
        with proxy_to(redis_server) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with RedisOutbox(url, f"answer-{size}", pool) as box:
                assert await box.put("t", b"1") == 1
                proxy.limit(NUMBER + 3)
                with pytest.raises(BrokenConnectionError) as caught:
                    await box.put_batch([("t", b"2" * size), ("t", b"3" * size)])
                assert (caught.value.confirmed, caught.value.unknown) == ([], [2, 3])
                proxy.limit(None)
                # All or none of it is there.
                assert await box.pending() in (1, 3)
                await box.relay(to)
        assert [data[:1] for _, data in to.got] in ([b"1"], [b"1", b"2", b"3"])

    run(main)


def test_a_relay_that_breaks_publishes_again(
    redis_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        to = Published()
        with proxy_to(redis_server) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with RedisOutbox(url, "again", pool) as box:
                await box.put_batch([("t", b"1"), ("t", b"2")])

                async def publish(topic: str, view: memoryview) -> None:
                    await to(topic, view)
                    proxy.cut()

                with pytest.raises(BrokenConnectionError) as caught:
                    await box.relay(publish)
                assert caught.value.confirmed == []
                assert caught.value.unknown in ([], [1, 2])
                assert await box.pending() == 2
                assert await box.relay(to) == 2
        assert [data for _, data in to.got] == [b"1", b"2", b"1", b"2"]

    run(main)


def test_messages_are_cut_while_they_are_read(
    redis_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        to = Published()
        with proxy_to(redis_server) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with RedisOutbox(url, "read", pool) as box:
                await box.put_batch([("t", b"x" * 100_000)] * 3)
                proxy.limit(250_000)
                with pytest.raises(BrokenConnectionError):
                    await box.relay(to)
                proxy.limit(None)
                assert to.got == []
                assert pool.stats()["current"] == 0
                assert await box.relay(to) == 3

    run(main)


# ---- wrong arguments -------------------------------------------------------


def test_wrong_arguments(redis_server: Server, pool: MemoryPool) -> None:
    for name, error in (
        (5, ConfigTypeError),
        ("", RangeError),
        ("n" * 201, RangeError),
    ):
        with pytest.raises(error):
            RedisOutbox(redis_server.url, name)  # type: ignore[arg-type]

    async def main() -> None:
        to = Published()
        async with RedisOutbox(redis_server.url, "wrong", pool) as box:
            assert await box.put_batch([]) == []
            wrong: list[tuple[Any, type[Exception]]] = [
                (("t", "text"), ConfigTypeError),
                ((5, b"1"), ConfigTypeError),
                (("", b"1"), RangeError),
                (("t", b"1", b"2"), ConfigTypeError),
                (5, ConfigTypeError),
            ]
            for message, error in wrong:
                with pytest.raises(error):
                    await box.put_batch([("t", b"1"), message])
            with pytest.raises(RangeError, match="10001 messages"):
                await box.put_batch([("t", b"")] * 10_001)
            assert await box.pending() == 0
            for limit, error in (
                ("5", ConfigTypeError),
                (0, RangeError),
                (10_001, RangeError),
            ):
                with pytest.raises(error, match="limit"):
                    await box.relay(to, limit=limit)  # type: ignore[arg-type]
            with pytest.raises(ConfigTypeError, match="publish"):
                await box.relay(5)  # type: ignore[arg-type]
        for call in (box.put("t", b"1"), box.relay(to), box.pending()):
            with pytest.raises(ClosedError):
                await call

    run(main)


def test_keys_that_hold_something_else(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        to = Published()
        prefix = "memguard:outbox:else"
        async with (
            redis.asyncio.Redis.from_url(redis_server.url) as client,
            RedisOutbox(client, "else", pool) as box,
        ):
            await client.set(f"{prefix}:pending", "text")
            with pytest.raises(InvalidError, match="WRONGTYPE"):
                await box.pending()
            with pytest.raises(InvalidError, match="WRONGTYPE"):
                await box.put("t", b"1")
            await client.delete(f"{prefix}:pending")
            message = {"topic": b"\xff", "payload": b"1"}
            await client.hset(f"{prefix}:message:9", mapping=message)
            await client.zadd(f"{prefix}:pending", {"9": 9})
            with pytest.raises(EncodingError, match="position 0"):
                await box.relay(to)

    run(main)
