"""A TLS server that port scanners knock at: each leaves a large cycle as garbage."""

import asyncio
import ssl

from service import serve_async


async def handle(_reader, writer) -> None:
    writer.close()


async def main() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    async def knock(_number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        try:
            await reader.read()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            pass

    await serve_async(knock, per_second=80)


asyncio.run(main())
