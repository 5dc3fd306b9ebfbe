"""RedisTransport on a real server: what arrives, in which memory, and what is said
when a connection breaks."""

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from memguard import (
    AbsentError,
    BrokenConnectionError,
    ClosedError,
    ConfigTypeError,
    InvalidError,
    MemoryPool,
    PooledBuffer,
    RangeError,
)
from memguard.serializers import MessagePackSerializer
from memguard.transports import RedisTransport
from messages import WAIT_S, Inbox, payload, run, until
from servers import Proxy, Server, proxy_to, serving

SIZES = [0, 1, 100, 16383, 16384, 65536, 70_000, 1_500_000]


# ---- what arrives ----------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_of_all_sizes(
    redis_server: Server, pool: MemoryPool, protocol: int
) -> None:
    async def main() -> None:
        inbox = Inbox()
        url = f"{redis_server.url}?protocol={protocol}"
        async with RedisTransport(url, pool) as bus:
            subscription = await bus.subscribe("sizes", inbox)
            for size in SIZES:
                await bus.publish("sizes", payload(size))
            assert await bus.publish_batch("sizes", map(payload, SIZES)) == len(SIZES)
            await until(lambda: len(inbox.got) == 2 * len(SIZES))
            assert subscription.received == 2 * len(SIZES)
        assert inbox.got == [("sizes", payload(size)) for size in SIZES * 2]

    run(main)


def test_a_long_batch_keeps_its_order(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        inbox, slow = Inbox(), Inbox()
        async with RedisTransport(redis_server.url, pool) as bus:
            await bus.subscribe("order", inbox)
            await bus.subscribe("order", slow.slowly)
            parts = [b"%d" % i + b"." * (i % 3 * 300) for i in range(3000)]
            assert await bus.publish_batch("order", parts) == 3000
            await until(lambda: len(inbox.got) == len(slow.got) == 3000)
        assert [part for _, part in inbox.got] == parts
        assert [part for _, part in slow.got] == parts

    run(main)


def test_rented_memory_is_published_and_received(
    redis_server: Server, pool: MemoryPool
) -> None:
    order = {"id": 5, "lines": ["a" * 3000] * 40}

    async def main() -> None:
        got: list[Any] = []
        serializer = MessagePackSerializer(pool)

        def handle(buffer: PooledBuffer, _: str) -> None:
            with buffer:
                got.append(serializer.deserialize(buffer))

        async with RedisTransport(redis_server.url, pool) as bus:
            await bus.subscribe("orders", handle)
            for _ in range(3):
                with serializer.serialize_pooled(order) as message:
                    await bus.publish("orders", message)
            await until(lambda: len(got) == 3)
        assert got == [order] * 3

    gc.disable()  # nothing waits for a collection
    try:
        run(main)
        assert pool.stats()["current"] == 0
    finally:
        gc.enable()


def test_redis_py_reads_and_writes_the_same(
    redis_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        inbox = Inbox()
        async with redis.asyncio.Redis.from_url(redis_server.url) as client:
            pubsub = client.pubsub(ignore_subscribe_messages=True)
            await pubsub.subscribe("plain")
            await pubsub.get_message(timeout=WAIT_S)
            async with RedisTransport(client, pool) as bus:
                await bus.subscribe("plain", inbox)
                await bus.publish("plain", memoryview(b"\x00\r\n\xff"))
                message = await pubsub.get_message(timeout=WAIT_S)
                assert message is not None
                assert message["data"] == b"\x00\r\n\xff"
                assert await client.publish("plain", b"back") == 2
                await until(lambda: len(inbox.got) == 2)
            assert await client.ping()  # a client that was given stays
            await pubsub.aclose()
        assert inbox.got == [("plain", b"\x00\r\n\xff"), ("plain", b"back")]

    run(main)


def test_topics_and_handlers(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        first, second, other = Inbox(), Inbox(), Inbox()
        async with RedisTransport(redis_server.url, pool) as bus:
            subscription = await bus.subscribe("täglich", first)
            await bus.subscribe("täglich", second)
            await bus.subscribe("message", other)
            await bus.publish("täglich", b"1")
            await bus.publish("message", b"2")
            await until(lambda: len(second.got) == len(other.got) == 1)
            await subscription.close()
            await subscription.close()
            await bus.publish("täglich", b"3")
            await until(lambda: len(second.got) == 2)
        assert first.got == [("täglich", b"1")]
        assert second.got == [("täglich", b"1"), ("täglich", b"3")]
        assert other.got == [("message", b"2")]

    run(main)


def test_many_tasks_publish_at_once(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        inbox = Inbox()
        async with RedisTransport(redis_server.url, pool) as bus:
            await bus.subscribe("tasks", inbox)
            await asyncio.gather(
                *[bus.publish("tasks", b"%d" % i) for i in range(200)],
                *[bus.publish_batch("tasks", [payload(20_000)] * 20) for _ in "12345"],
            )
            await until(lambda: len(inbox.got) == 300)
        small = [int(data) for _, data in inbox.got if len(data) < 20]
        assert sorted(small) == list(range(200))

    run(main)


# ---- handlers --------------------------------------------------------------


def test_a_handler_that_fails_is_told_once(
    redis_server: Server, pool: MemoryPool, logged: Callable[[], list[str]]
) -> None:
    def fails(buffer: PooledBuffer, topic: str) -> None:
        raise ValueError("no")

    async def fails_later(buffer: PooledBuffer, topic: str) -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def main() -> None:
        async with RedisTransport(redis_server.url, pool) as bus:
            one = await bus.subscribe("fails", fails)
            two = await bus.subscribe("fails", fails_later)
            await bus.publish_batch("fails", [b"1", b"2", b"3"])
            await until(lambda: one.failures == two.failures == 3)

    run(main)
    said = "the handler of topic 'fails' failed (told once until it works again)"
    assert logged() == [said, said]


def test_a_handler_that_waits_holds_the_server_back(
    redis_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        go = asyncio.Event()
        got: list[int] = []

        async def waits(buffer: PooledBuffer, _: str) -> None:
            with buffer:
                await go.wait()
                got.append(buffer.memory[0])

        async with RedisTransport(redis_server.url, pool) as bus:
            await bus.subscribe("waits", waits)
            await bus.publish_batch(
                "waits", [bytes([i % 256]) * 9000 for i in range(3000)]
            )
            # Not all of it is here: a part of 27 MB waits in sockets and in Redis.
            assert pool.stats()["current"] < 1000
            other = Inbox()
            await bus.subscribe("other", other)  # works all the same
            await bus.publish("other", b"1")
            go.set()
            await until(lambda: other.got)
            await until(lambda: len(got) == 3000)
            assert got == [i % 256 for i in range(3000)]

    run(main)


def test_closing_returns_what_waits(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        began = asyncio.Event()

        async def waits(buffer: PooledBuffer, _: str) -> None:
            with buffer:
                began.set()
                await asyncio.sleep(0.05)

        bus = RedisTransport(redis_server.url, pool)
        await bus.subscribe("ends", waits)
        await bus.publish_batch("ends", [payload(500)] * 50)
        await began.wait()
        await bus.close()
        await bus.close()

    run(main)


def test_a_handler_may_close_its_own_subscription(
    redis_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        got = 0

        async def only_once(buffer: PooledBuffer, _: str) -> None:
            nonlocal got
            with buffer:
                got += 1
            await subscription.close()

        async with RedisTransport(redis_server.url, pool) as bus:
            subscription = await bus.subscribe("once", only_once)
            await bus.publish_batch("once", [b"1", b"2", b"3"])
            await until(lambda: subscription.closed)
            await bus.publish("once", b"4")
        assert got == 1

    run(main)


# ---- broken connections ----------------------------------------------------

ANSWER = len(b":0\r\n")


async def broken_batch(
    bus: RedisTransport, proxy: Proxy, sizes: list[int], answers: int
) -> BrokenConnectionError:
    """A batch whose connection is cut after so many answers."""
    await bus.publish("cut", b"the connection is made")
    proxy.limit(answers * ANSWER)
    with pytest.raises(BrokenConnectionError) as caught:
        await bus.publish_batch("cut", [payload(size) for size in sizes])
    proxy.limit(None)
    return caught.value


@pytest.mark.parametrize("answers", [1, 7, 19])
@pytest.mark.parametrize("size", [10, 40_000])
def test_a_connection_breaks_in_the_middle_of_a_batch(
    redis_server: Server, pool: MemoryPool, answers: int, size: int
) -> None:
    async def main() -> None:
        with proxy_to(redis_server) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with RedisTransport(url, pool) as bus:
                error = await broken_batch(bus, proxy, [size] * 20, answers)
                if size == 10:
                    assert (error.confirmed, error.unknown) == (answers, 20 - answers)
                else:
                    # It is sent in parts: some may not have been. An answer that
                    # came when sending failed may not have been read.
                    assert error.confirmed <= answers
                    assert answers <= error.confirmed + error.unknown <= 20
                assert error.code == "ERR_MEMGUARD_BROKEN"
                assert f"{error.confirmed} of 20 messages are confirmed" in str(error)
                # The next call connects anew.
                assert await bus.publish_batch("cut", [b"1", b"2"]) == 2

    run(main)


def test_a_server_that_dies_and_comes_back(
    pool: MemoryPool, tmp_path: Path, logged: Callable[[], list[str]]
) -> None:
    async def main() -> None:
        inbox = Inbox()
        with serving("redis", tmp_path) as server:
            bus = RedisTransport(server.url, pool, timeout=5)
            subscription = await bus.subscribe("dies", inbox)
            await bus.publish("dies", b"before")
            await until(lambda: len(inbox.got) == 1)
            server.kill()
            with pytest.raises(BrokenConnectionError) as caught:
                await bus.publish_batch("dies", [b"lost"] * 3)
            assert caught.value.confirmed == 0
            assert caught.value.unknown in (0, 3)
        with serving("redis", tmp_path, server.port):
            await until(lambda: subscription.gaps == 1)
            await bus.publish("dies", b"after")
            await until(lambda: len(inbox.got) == 2)
            await bus.close()
        assert [data for _, data in inbox.got] == [b"before", b"after"]

    run(main)
    assert [line.split(" (")[0] for line in logged()] == ["connection to Redis lost"]


def test_a_message_is_cut_in_the_middle(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        inbox = Inbox()
        with proxy_to(redis_server) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with (
                RedisTransport(url, pool) as bus,
                RedisTransport(redis_server.url, pool) as other,
            ):
                subscription = await bus.subscribe("half", inbox)
                proxy.limit(300_000)
                await other.publish("half", payload(1_000_000))
                await until(lambda: subscription.gaps == 0 and proxy.is_over)
                proxy.limit(None)
                await until(lambda: subscription.gaps == 1)
                assert pool.stats()["current"] == 0
                await other.publish("half", b"whole")
                await until(lambda: inbox.got)
        assert inbox.got == [("half", b"whole")]

    run(main)


def test_a_closed_pool_ends_the_connection_and_tells_once(
    redis_server: Server, logged: Callable[[], list[str]]
) -> None:
    async def main() -> None:
        inbox = Inbox()
        pool, other = MemoryPool(), MemoryPool()
        async with (
            RedisTransport(redis_server.url, pool) as bus,
            RedisTransport(redis_server.url, other) as alone,
            redis.asyncio.Redis.from_url(redis_server.url) as client,
        ):
            await alone.subscribe("nothing", inbox)
            other.close()
            await bus.subscribe("closed", inbox)
            await bus.publish("other", b"1")
            pool.close()
            with pytest.raises(ClosedError):
                await bus.publish("closed", b"1")
            assert await client.publish("closed", b"1") == 1
            while await client.publish("closed", b"1"):
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.3)  # it goes on trying
        assert inbox.got == []

    run(main)
    assert [line.split(" (")[0] for line in logged()] == ["connection to Redis lost"]


def test_a_server_that_does_not_answer(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        async with (
            redis.asyncio.Redis.from_url(redis_server.url) as client,
            RedisTransport(client, pool, timeout=2) as bus,
        ):
            await bus.publish("late", b"1")
            await client.client_pause(30_000, all=False)
            with pytest.raises(BrokenConnectionError, match="no answer for 2 s") as e:
                await bus.publish_batch("late", [b"2", b"3"])
            assert (e.value.confirmed, e.value.unknown) == (0, 2)
            await client.client_unpause()

    run(main)


def test_nobody_listens(pool: MemoryPool, tmp_path: Path) -> None:
    async def main() -> None:
        with serving("redis", tmp_path) as server:
            server.kill()
            async with RedisTransport(server.url, pool, timeout=1) as bus:
                with pytest.raises(BrokenConnectionError) as caught:
                    await bus.publish("nobody", b"1")
                assert (caught.value.confirmed, caught.value.unknown) == (0, 0)
                with pytest.raises(BrokenConnectionError):
                    await bus.subscribe("nobody", Inbox())

    run(main)


def test_a_publisher_that_is_cancelled(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        async with (
            redis.asyncio.Redis.from_url(redis_server.url) as client,
            RedisTransport(client, pool) as bus,
        ):
            await bus.publish("stop", b"1")
            await client.client_pause(30_000, all=False)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await bus.publish_batch("stop", [payload(30_000)] * 100)
            await client.client_unpause()
            assert await bus.publish_batch("stop", [b"2", b"3"]) == 2

    run(main)


class Deaf(redis.asyncio.Connection):
    """Goes on also when it is cancelled meanwhile, as redis-py sometimes does."""

    begun: asyncio.Event
    is_refused: bool

    async def connect(self) -> None:
        self.begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(WAIT_S)
            raise AssertionError("nobody has cancelled it")
        if self.is_refused:
            raise redis.exceptions.ConnectionError("refused")
        await super().connect()


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_cancelled_publish_ends_though_redis_py_does_not_notice(
    redis_server: Server, pool: MemoryPool, is_refused: bool
) -> None:
    async def main() -> None:
        Deaf.begun = asyncio.Event()
        Deaf.is_refused = is_refused
        connections = redis.asyncio.ConnectionPool(
            connection_class=Deaf, host="127.0.0.1", port=redis_server.port
        )
        client = redis.asyncio.Redis(connection_pool=connections)
        async with RedisTransport(client, pool) as bus:
            publishing = asyncio.create_task(bus.publish("a", b"x"))
            await Deaf.begun.wait()
            assert publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
        await client.aclose()

    run(main)


def test_nothing_stays_behind(redis_server: Server, pool: MemoryPool) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def once() -> None:
        inbox = Inbox()
        async with RedisTransport(redis_server.url, pool) as bus:
            await bus.subscribe("often", inbox.slowly)
            await bus.publish_batch("often", [b"1", payload(70_000)])
            await until(lambda: len(inbox.got) == 2)

    async def main() -> None:
        await once()
        tasks, before = len(asyncio.all_tasks()), descriptors()
        for _ in range(10):
            await once()
        # The loop closes a socket in one of its next turns.
        await until(lambda: descriptors() == before)
        await until(lambda: len(asyncio.all_tasks()) == tasks)

    run(main)


# ---- what the server refuses, wrong arguments ------------------------------


def test_what_the_server_refuses(pool: MemoryPool, tmp_path: Path) -> None:
    async def main() -> None:
        with serving("redis", tmp_path) as server:
            async with redis.asyncio.Redis.from_url(server.url) as client:
                await client.acl_setuser(  # type: ignore[no-untyped-call]
                    "some",
                    enabled=True,
                    passwords=["+p"],
                    commands=["+@all"],
                    channels=["allowed"],
                    keys=["*"],
                )
            url = server.url.replace("//", "//some:p@")
            async with RedisTransport(url, pool) as bus:
                await bus.publish("allowed", b"1")
                with pytest.raises(InvalidError, match="NOPERM"):
                    await bus.publish_batch("forbidden", [b"1", b"2"])
                with pytest.raises(InvalidError, match="NOPERM"):
                    await bus.subscribe("forbidden", Inbox())
            wrong = server.url.replace("//", "//some:wrong@")
            async with RedisTransport(wrong, pool) as bus:
                with pytest.raises(BrokenConnectionError, match="password"):
                    await bus.publish("allowed", b"1")

    run(main)


def test_wrong_arguments(redis_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        async with RedisTransport(redis_server.url, pool) as bus:
            assert await bus.publish_batch("nothing", []) == 0
            for topic, error in (
                (5, ConfigTypeError),
                ("", RangeError),
                ("t" * 16385, RangeError),
                ("\ud800", InvalidError),
            ):
                with pytest.raises(error, match="topic"):
                    await bus.publish(topic, b"")  # type: ignore[arg-type]
                with pytest.raises(error, match="topic"):
                    await bus.subscribe(topic, Inbox())  # type: ignore[arg-type]
            with pytest.raises(ConfigTypeError, match="payload is of type str"):
                await bus.publish_batch("t", [b"1", "2"])
            with pytest.raises(ConfigTypeError, match="payload has gaps"):
                await bus.publish("t", memoryview(b"1234")[::2])
            with pytest.raises(ConfigTypeError, match="handler"):
                await bus.subscribe("t", 5)  # type: ignore[arg-type]
        with pytest.raises(ClosedError):
            await bus.publish("t", b"1")
        with pytest.raises(ClosedError):
            await bus.subscribe("t", Inbox())

    run(main)
    with pytest.raises(ConfigTypeError, match="client is 5"):
        RedisTransport(5)
    with pytest.raises(InvalidError, match="URL"):
        RedisTransport("http://127.0.0.1")
    with pytest.raises(ConfigTypeError, match="timeout is '1'"):
        RedisTransport(redis_server.url, timeout="1")  # type: ignore[arg-type]
    for timeout in (0, -1, float("inf"), float("nan")):
        with pytest.raises(RangeError, match="timeout"):
            RedisTransport(redis_server.url, timeout=timeout)


def test_without_redis_py_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(AbsentError, match=r"pip install 'memguard\[redis\]'"):
        RedisTransport("redis://127.0.0.1")
