"""A controller waits for ticks of a timer."""

import asyncio
from datetime import timedelta

from frequenz.channels.timer import SkipMissedAndDrift, Timer
from service import serve_async


async def main() -> None:
    timer = Timer(timedelta(milliseconds=1), SkipMissedAndDrift())

    async def wait(_number: int) -> None:
        await timer.receive()

    await serve_async(wait, per_second=100)


asyncio.run(main())
