"""The connection pool of asyncio: limits, order, cancellation, ends."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import memguard
import pytest
from memguard import _caches

pytestmark = pytest.mark.usefixtures("unhurried")


class AsyncConnection:
    """As those of asyncio clients."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


async def connect() -> AsyncConnection:
    await asyncio.sleep(0)
    return AsyncConnection()


def test_connections_are_used_again_and_closed() -> None:
    async def main() -> None:
        async with memguard.AsyncManagedConnectionPool(connect, 2) as pool:
            first, second = await pool.acquire(), await pool.acquire()
            with pytest.raises(memguard.WaitTimeoutError):
                await pool.acquire(0.01)
            pool.release(first)
            async with pool.connection() as again:
                assert again is first
            pool.release(second)
            assert await asyncio.to_thread(_caches.trim_pools, 0.5) == 1
        assert first.closed
        assert second.closed
        assert pool.get_stats()["closed"] == 2
        await pool.close()
        with pytest.raises(memguard.ClosedError):
            await pool.acquire()

    asyncio.run(main())


def test_waiters_in_order_and_cancelled() -> None:
    async def main() -> None:
        order: list[int] = []

        async def use(number: int) -> None:
            async with pool.connection(20):
                order.append(number)
                await asyncio.sleep(0)

        async with memguard.AsyncManagedConnectionPool(connect, 1) as pool:
            held = await pool.acquire()
            tasks = [asyncio.create_task(use(number)) for number in range(5)]
            await asyncio.sleep(0)
            assert pool.get_stats()["waiting"] == 5
            tasks[1].cancel()
            pool.release(held)
            tasks[0].cancel()  # it has been given the connection already
            await asyncio.gather(*tasks, return_exceptions=True)
            assert order == [2, 3, 4]
            stats = pool.get_stats()
            assert (stats["active"], stats["idle"], stats["created"]) == (0, 1, 1)

    asyncio.run(main())


def test_factory_fails_or_is_cancelled() -> None:
    async def main() -> None:
        async def refuse() -> AsyncConnection:
            await asyncio.sleep(0)
            raise OSError("refused")

        async def hang() -> AsyncConnection:
            await asyncio.sleep(100)
            raise AssertionError

        async with memguard.AsyncManagedConnectionPool(refuse, 1) as pool:
            for _ in range(2):
                with pytest.raises(OSError, match="refused"):
                    await pool.acquire(1)
        async with memguard.AsyncManagedConnectionPool(hang, 1) as pool:
            task = asyncio.create_task(pool.acquire())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert pool.get_stats()["active"] == 0

    asyncio.run(main())


def test_close_ends_all_waiting() -> None:
    async def main() -> None:
        pool = memguard.AsyncManagedConnectionPool(connect, 1)
        held = await pool.acquire()
        task = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        await pool.close()
        with pytest.raises(memguard.ClosedError):
            await task
        pool.release(held)
        await pool.close()
        assert held.closed

    asyncio.run(main())


def test_pools_serve_one_loop(logged: Callable[[], list[str]]) -> None:
    pool = memguard.AsyncManagedConnectionPool(connect, 1)

    async def use() -> None:
        async with pool.connection():
            pass

    asyncio.run(use())
    with pytest.raises(memguard.ConflictError, match="serves one event loop"):
        asyncio.run(use())
    assert pool.trim() == 1  # with no loop to close it in
    assert len(logged()) == 1


def test_streams(server: socket.socket) -> None:
    async def main() -> None:
        async def connect() -> Any:
            return await asyncio.open_connection(*server.getsockname())

        async def close(pair: Any) -> None:
            pair[1].close()
            await pair[1].wait_closed()

        pool = memguard.AsyncManagedConnectionPool(
            connect, 2, close=close, is_closed=lambda pair: pair[1].is_closing()
        )
        async with pool:

            async def ask(number: int) -> bytes:
                async with pool.connection(20) as (reader, writer):
                    writer.write(b"%d" % number)
                    return bytes(await reader.read(100))

            answers = await asyncio.gather(*(ask(number) for number in range(20)))
            assert answers == [b"%d" % number for number in range(20)]
            assert pool.get_stats()["created"] == 2

    asyncio.run(main())
