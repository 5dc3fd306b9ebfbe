"""Opens a database for each request and checks it first; some fail the check.

Leaky: a connection that fails the check is not closed, nor is its thread.
"""

import asyncio
import os

import aiosqlite
from service import serve_async

IS_LEAKY = os.environ["LEAK_USE"] == "leaky"


async def opened(number: int) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(":memory:")
    try:
        if number % 5 == 0:
            raise PermissionError("the database is a symbolic link")
    except PermissionError:
        if not IS_LEAKY:
            await connection.close()
        raise
    return connection


async def main() -> None:
    async def request(number: int) -> None:
        try:
            connection = await opened(number)
        except PermissionError:
            return
        await connection.close()

    await serve_async(request, per_second=10)
    os._exit(0)  # threads of open connections would be waited for


asyncio.run(main())
