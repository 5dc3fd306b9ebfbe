"""A client asks for which cookies to send with each page it crawls."""

import asyncio

from aiohttp import CookieJar
from service import serve_async
from yarl import URL


async def main() -> None:
    jar = CookieJar()
    jar.update_cookies({"session": "1"}, URL("http://shop.example/"))

    async def crawl(number: int) -> None:
        jar.filter_cookies(URL(f"http://shop.example/item/{number}"))

    await serve_async(crawl, per_second=1000)


asyncio.run(main())
