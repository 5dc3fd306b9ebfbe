"""A web server with a middleware; scanners ask with methods it does not allow."""

import asyncio

from aiohttp import web
from service import bursts, serve_async


@web.middleware
async def timed(request, handler):
    return await handler(request)


async def hello(_request):
    return web.Response(text="hello")


async def main() -> None:
    app = web.Application(middlewares=[timed])
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])

    async def request(number: int) -> None:
        method = "GET" if number % 4 == 0 else "DELETE"
        writer.write(f"{method} / HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))

    await serve_async(request, per_second=100, load=bursts(2.0, 0.5))
    writer.close()
    await runner.cleanup()


asyncio.run(main())
