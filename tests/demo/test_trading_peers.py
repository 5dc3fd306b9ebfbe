"""The trading engine and feeds that are broken, or enemies."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import memguard
import pytest
from market import fds, feeding, trades_of, trading, until_async
from trading import guard, messages, session
from trading.store import Store
from websockets.asyncio.server import serve

Peer = Callable[[Any], Awaitable[None]]
GOOD = json.dumps(trades_of("AAPL.0", 1))


def saying(*frames: Any) -> Peer:
    """A websocket server that says this to whoever subscribes."""

    async def handle(link: Any) -> None:
        await link.recv()
        for frame in frames:
            await link.send(frame)
        await link.wait_closed()

    return handle


def changed(**fields: Any) -> str:
    message = trades_of("AAPL.0", 1, 1)
    message["data"][0].update(fields)
    return json.dumps(message)


GARBAGE = {
    "no JSON": ("hello", "no JSON"),
    "bytes": (b"\x00\xff" * 9, "a binary frame of 18 bytes"),
    "deep": ("[" * 100_000, "no JSON: RecursionError"),
    "a number": ("7", "no message: 7"),
    "no type": ("{}", "no message: {}"),
    "unknown type": ('{"type": "gossip"}', "type is 'gossip'"),
    "no data": ('{"type": "trades"}', "trades: KeyError: 'data'"),
    "data is text": ('{"type": "trades", "data": "ab"}', "trades: TypeError"),
    "unknown instrument": (changed(s="EVIL"), "trades: KeyError: 'EVIL'"),
    "instrument is a list": (changed(s=[]), "trades: TypeError"),
    "a gap": (changed(n=5), "AAPL.0: trade 5 after a gap"),
    "number is text": (changed(n="0"), "trades: TypeError"),
    "price NaN": (changed(p=float("nan")), "price is nan, not a number above 0"),
    "price below 0": (changed(p=-1), "price is -1, not a number above 0"),
    "price is text": (changed(p="1" * 999), "price is '111"),
    "quantity is huge": (changed(q=10**400), "quantity is 1000"),
    "time is infinite": (changed(t=float("inf")), "time is inf"),
    "time is null": (changed(t=None), "trades: TypeError"),
    "book of 10 000 levels": (
        json.dumps({"type": "book", "s": "IBM.0", "bids": [[1, 1]] * 9999, "asks": []}),
        "bids is [[1, 1], [1",
    ),
    "crossed book": (
        '{"type": "book", "s": "IBM.0", "bids": [[2, 1]], "asks": [[1, 1]]}',
        "IBM.0: a bid above the best ask",
    ),
    "a level of three": (
        '{"type": "book", "s": "IBM.0", "bids": [[2, 1, 1]], "asks": []}',
        "bids has a level that is no pair",
    ),
    "refusal": ('{"type": "error", "reason": "no"}', "the feed refuses: 'no'"),
    "a frame of a megabyte": ("x" * (1 << 20), "it broke the rules"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_a_typed_error(name: str, store: Store) -> None:
    frame, complaint = GARBAGE[name]

    async def run() -> session.Session:
        async with serve(saying(GOOD, frame), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"ws://127.0.0.1:{port}"
            async with trading(url, store, attempts=1) as (day, links):
                with pytest.raises(messages.FeedGarbageError) as caught:
                    await day.run()
                assert str(caught.value).find(complaint) >= 0, str(caught.value)
                assert len(str(caught.value)) < 300
                assert links.get_stats()["idle"] == 0
        return day

    before = fds()
    day = asyncio.run(run())
    assert fds() == before
    assert day.engine.trades == 1  # what was good before it counts
    assert day.failures["FeedGarbageError"] >= 1


def test_a_server_that_speaks_no_websocket(store: Store) -> None:
    async def answer(reader: Any, writer: Any) -> None:
        writer.write(b"\x16\x03\x01 what? \r\n" * 99)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with trading(url, store, attempts=2) as (day, _):
                with pytest.raises(messages.FeedGarbageError, match="no websocket"):
                    await day.run()

    asyncio.run(run())


@pytest.mark.parametrize("half", [False, True], ids=["closes", "half-closes"])
def test_a_peer_that_hangs_up(half: bool, store: Store) -> None:
    async def handle(link: Any) -> None:
        await link.recv()
        await link.send(GOOD)
        if half:
            link.transport.write_eof()
            await asyncio.sleep(0)
            await link.wait_closed()
        else:
            link.transport.abort()

    async def run() -> session.Session:
        async with serve(handle, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with trading(url, store, attempts=3) as (day, _):
                with pytest.raises(messages.FeedLostError, match="connection ended"):
                    await day.run()
        return day

    before = fds()
    assert asyncio.run(run()).failures["FeedLostError"] >= 3
    assert fds() == before


def test_a_peer_that_falls_silent(store: Store) -> None:
    async def run() -> None:
        async with serve(saying(GOOD), "127.0.0.1", 0, close_timeout=0.1) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            options = {"attempts": 2, "silence_seconds": 0.2}
            async with trading(url, store, **options) as (day, _):
                with pytest.raises(messages.FeedSilentError, match=r"for 0\.2 s"):
                    await day.run()

    asyncio.run(run())


def test_nobody_there(store: Store) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        async with trading(url, store, attempts=3) as (day, links):
            with pytest.raises(messages.FeedLostError, match="cannot be reached"):
                await day.run()
            assert links.get_stats()["failures"] >= 3

    asyncio.run(run())


def test_a_flood_is_held_back_and_the_loop_goes_on(store: Store) -> None:
    """More than the engine can take: the sender waits, memory stays bounded."""
    sent = 0
    side = [[100.0 - n / 10, 1] for n in range(50)]
    book = json.dumps({"type": "book", "s": "IBM.0", "bids": side, "asks": []})

    async def flood(link: Any) -> None:
        nonlocal sent
        await link.recv()
        with contextlib.suppress(Exception):
            while True:
                await link.send(book)
                sent += 1

    async def run() -> None:
        async with serve(flood, "127.0.0.1", 0, close_timeout=0.1) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with trading(url, store) as (day, _):
                running = asyncio.create_task(day.run())
                await until_async(lambda: sent > 1000)
                before = memguard.rss_bytes()
                await until_async(lambda: sent > 20_000)  # 20 MB
                assert memguard.rss_bytes() - before < 10 << 20
                assert len(day.engine.markets["IBM.0"].bids) == 50
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running

    asyncio.run(run())


def test_an_order_that_is_answered_wrongly_is_refused(store: Store) -> None:
    async def handle(link: Any) -> None:
        async for frame in link:
            message = json.loads(frame)
            if message["type"] == "order":
                await link.send(json.dumps({"type": "fill", "id": -1, "price": 1.0}))

    async def run() -> None:
        async with serve(handle, "127.0.0.1", 0, close_timeout=0.1) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with trading(url, store) as (day, links):
                running = asyncio.create_task(day.run())
                assert day._queue(session.Order(7, "IBM.0", 1, 10, 0.0))
                await until_async(lambda: day.failures["FeedGarbageError"])
                assert (day.engine.refused, day.engine.fills) == (1, 0)
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                assert links.get_stats()["idle"] == 0

    asyncio.run(run())


def test_more_orders_than_can_wait_are_refused(store: Store) -> None:
    async def run() -> None:
        async with trading("ws://127.0.0.1:1", store) as (day, _):
            orders = [session.Order(n, "IBM.0", 1, 10, 0.0) for n in range(101)]
            assert [day._queue(order) for order in orders] == [True] * 100 + [False]

    asyncio.run(run())


def test_many_descriptors_trim_the_idle_connections(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "FD_THRESHOLD", 1)

    async def run(url: str) -> None:
        async with trading(url, store) as (_, links):
            async with links.connection(), links.connection():
                pass
            assert links.get_stats()["idle"] == 2
            with guard.Guard(links, {"sample_interval": "50ms"}) as watched:
                await until_async(lambda: watched.fds.warnings > 0)
                await until_async(lambda: links.get_stats()["idle"] == 0)

    with feeding() as (_, url):
        asyncio.run(run(url))
