"""What tests of transports share: a bounded run of asyncio, handlers, payloads."""

import asyncio
from collections.abc import Awaitable, Callable

from memguard import PooledBuffer

WAIT_S = 30.0


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await main()

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


class Inbox:
    """A handler that notes what came and returns the buffer."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []

    def __call__(self, buffer: PooledBuffer, topic: str) -> None:
        with buffer:
            self.got.append((topic, bytes(buffer.memory)))

    async def slowly(self, buffer: PooledBuffer, topic: str) -> None:
        await asyncio.sleep(0)
        self(buffer, topic)


def payload(size: int) -> bytes:
    return bytes(i % 251 for i in range(size))
