"""NatsTransport on a real server."""

import sys
from collections.abc import Callable
from pathlib import Path

import nats
import pytest
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
from memguard.transports import NatsTransport
from messages import WAIT_S, Inbox, payload, run, until
from servers import Server, proxy_to, serving

SIZES = [0, 1, 100, 65536, 1_000_000]


def test_messages_of_all_sizes(nats_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        inbox, slow = Inbox(), Inbox()
        async with NatsTransport(nats_server.url, pool) as bus:
            subscription = await bus.subscribe("sizes", inbox)
            await bus.subscribe("sizes", slow.slowly)
            for size in SIZES:
                with pool.rent(size or 1) as buffer:
                    buffer.memory[:size] = payload(size)
                    await bus.publish("sizes", buffer.memory[:size])
            assert await bus.publish_batch("sizes", map(payload, SIZES)) == len(SIZES)
            await until(lambda: len(inbox.got) == len(slow.got) == 2 * len(SIZES))
            assert subscription.received == 2 * len(SIZES)
        assert inbox.got == slow.got == [("sizes", payload(n)) for n in SIZES * 2]

    run(main)


def test_wildcards_tell_the_subject(nats_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        inbox = Inbox()
        async with NatsTransport(nats_server.url, pool) as bus:
            subscription = await bus.subscribe("orders.*", inbox)
            await bus.publish("orders.new", b"1")
            await bus.publish("orders.old", b"2")
            await until(lambda: len(inbox.got) == 2)
            await subscription.close()
            await bus.publish("orders.new", b"3")
        assert inbox.got == [("orders.new", b"1"), ("orders.old", b"2")]

    run(main)


def test_nats_py_reads_and_writes_the_same(
    nats_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        inbox = Inbox()
        client = await nats.connect(nats_server.url)
        plain = await client.subscribe("plain")
        async with NatsTransport(client, pool) as bus:
            await bus.subscribe("plain", inbox)
            await bus.publish("plain", memoryview(b"\x00\r\n\xff"))
            assert (await plain.next_msg(WAIT_S)).data == b"\x00\r\n\xff"
            await client.publish("plain", b"back")
            await until(lambda: len(inbox.got) == 2)
        assert client.is_connected  # a client that was given stays
        await client.close()
        assert inbox.got == [("plain", b"\x00\r\n\xff"), ("plain", b"back")]

    run(main)


def test_a_handler_that_fails_is_told_once(
    nats_server: Server, pool: MemoryPool, logged: Callable[[], list[str]]
) -> None:
    def fails(buffer: PooledBuffer, topic: str) -> None:
        raise ValueError("no")

    async def main() -> None:
        async with NatsTransport(nats_server.url, pool) as bus:
            subscription = await bus.subscribe("fails", fails)
            await bus.publish_batch("fails", [b"1", b"2", b"3"])
            await until(lambda: subscription.failures == 3)

    run(main)
    assert logged() == [
        "the handler of topic 'fails' failed (told once until it works again)"
    ]


def test_a_closed_pool_drops_messages_and_tells_once(
    nats_server: Server, logged: Callable[[], list[str]]
) -> None:
    async def main() -> None:
        inbox = Inbox()
        pool = MemoryPool()
        async with NatsTransport(nats_server.url, pool) as bus:
            subscription = await bus.subscribe("dropped", inbox)
            pool.close()
            await bus.publish_batch("dropped", [b"1", b"2"])
            await until(lambda: subscription.failures == 2)
        assert inbox.got == []

    run(main)
    said = "messages of 'dropped' are dropped (told once until it works again)"
    assert logged() == [said]


def test_a_connection_breaks_in_the_middle_of_a_batch(
    nats_server: Server, pool: MemoryPool
) -> None:
    async def main() -> None:
        with proxy_to(nats_server) as proxy:
            url = f"nats://127.0.0.1:{proxy.port}"
            async with NatsTransport(url, pool) as bus:
                await bus.publish("cut", b"the connection is made")
                proxy.limit(2)  # of the PONG
                with pytest.raises(BrokenConnectionError) as caught:
                    await bus.publish_batch("cut", [payload(5000)] * 20)
                assert (caught.value.confirmed, caught.value.unknown) == (0, 20)
                assert caught.value.code == "ERR_MEMGUARD_BROKEN"
                proxy.limit(None)
                await until(lambda: bus.connected)
                assert await bus.publish_batch("cut", [b"1", b"2"]) == 2

    run(main)


def test_a_server_that_dies_and_comes_back(pool: MemoryPool, tmp_path: Path) -> None:
    async def main() -> None:
        inbox = Inbox()
        with serving("nats", tmp_path) as server:
            bus = NatsTransport(server.url, pool)
            await bus.subscribe("dies", inbox)
            await bus.publish("dies", b"before")
            await until(lambda: len(inbox.got) == 1)
            server.kill()
            with pytest.raises(BrokenConnectionError) as caught:
                await bus.publish_batch("dies", [b"lost"] * 3)
            assert caught.value.confirmed == 0
            assert caught.value.unknown in (0, 3)
            await until(lambda: not bus.connected)
        with serving("nats", tmp_path, server.port):
            await until(lambda: bus.connected)
            await bus.publish("dies", b"after")
            await until(lambda: inbox.got[-1][1] == b"after")
            await bus.close()
        # What nats-py still held it sends: `unknown` says so.
        assert {data for _, data in inbox.got} <= {b"before", b"lost", b"after"}

    run(main)


def test_nobody_listens(pool: MemoryPool, tmp_path: Path) -> None:
    async def main() -> None:
        with serving("nats", tmp_path) as server:
            server.kill()
            async with NatsTransport(server.url, pool, timeout=1) as bus:
                with pytest.raises(BrokenConnectionError) as caught:
                    await bus.publish("nobody", b"1")
                assert (caught.value.confirmed, caught.value.unknown) == (0, 0)
                with pytest.raises(BrokenConnectionError):
                    await bus.subscribe("nobody", Inbox())

    run(main)


def test_wrong_arguments(nats_server: Server, pool: MemoryPool) -> None:
    async def main() -> None:
        async with NatsTransport(nats_server.url, pool) as bus:
            assert await bus.publish_batch("nothing", []) == 0
            for topic, error in (
                (5, ConfigTypeError),
                ("", RangeError),
                ("a b", InvalidError),
                ("a\r\nPUB x 0", InvalidError),
            ):
                with pytest.raises(error, match="topic"):
                    await bus.publish(topic, b"")  # type: ignore[arg-type]
                with pytest.raises(error, match="topic"):
                    await bus.subscribe(topic, Inbox())  # type: ignore[arg-type]
            with pytest.raises(ConfigTypeError, match="payload is of type str"):
                await bus.publish("t", "text")
            with pytest.raises(RangeError, match=r"1048577 bytes, .* allows 1048576"):
                await bus.publish_batch("t", [b"1", bytes(1_048_577)])
        with pytest.raises(ClosedError):
            await bus.publish("t", b"1")

    run(main)
    with pytest.raises(ConfigTypeError, match="client is 5"):
        NatsTransport(5)
    with pytest.raises(RangeError, match="timeout"):
        NatsTransport(nats_server.url, timeout=0)


def test_without_nats_py_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "nats.aio.client", None)
    with pytest.raises(AbsentError, match=r"pip install 'memguard\[nats\]'"):
        NatsTransport("nats://127.0.0.1")
