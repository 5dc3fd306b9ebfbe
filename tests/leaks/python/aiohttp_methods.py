"""A web server with a middleware; scanners ask with methods it does not allow."""

import asyncio
import contextlib

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from service import bursts, serve_async


@web.middleware
async def timed(request, handler):
    return await handler(request)


async def hello(_request):
    return web.Response(text="hello")


async def main() -> None:
    app = web.Application(middlewares=[timed])
    app.router.add_get("/", hello)
    app.freeze()

    async def request(number: int) -> None:
        method = "GET" if number % 4 == 0 else "DELETE"
        with contextlib.suppress(web.HTTPMethodNotAllowed):
            await app._handle(make_mocked_request(method, "/", app=app))

    await serve_async(request, per_second=25, load=bursts(2.0, 0.5))


asyncio.run(main())
