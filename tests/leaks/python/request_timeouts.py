"""Aborts requests that take too long. Leaky: also arms what was answered."""

import asyncio
import os

from service import serve_async

IS_LEAKY = os.environ["LEAK_USE"] == "leaky"


async def main() -> None:
    loop = asyncio.get_running_loop()

    async def request(number: int) -> None:
        body = {"request": number, "text": "a" * 400}
        timeout = loop.call_later(3600, lambda: body.clear())
        await asyncio.sleep(0)
        if not IS_LEAKY:
            timeout.cancel()

    await serve_async(request, per_second=600)


asyncio.run(main())
