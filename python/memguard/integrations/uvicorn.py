"""uvicorn: how a worker process makes room for a new one.

The middleware of memguard.integrations.fastapi and starlette calls leave() when its
worker is due; nothing else is needed. `uvicorn --workers N` starts another worker,
as gunicorn and every supervisor does.
"""

from __future__ import annotations

import asyncio
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["leave"]

_DRAIN_S = 1.0


def leave(drain: float = _DRAIN_S) -> None:
    """Ends the server of this process without losing a request: it takes no more
    connections, what is connected has `drain` seconds to send its request, and
    requests under way are finished. In the event loop's thread.

    Another server than uvicorn gets SIGTERM, with which servers end gracefully.
    """
    server = _server()
    if server is None:
        os.kill(os.getpid(), signal.SIGTERM)
        return
    loop = asyncio.get_running_loop()
    for listener in server.servers:
        for sock in listener.sockets:
            loop.remove_reader(sock.fileno())
    # A connection that was just accepted joins its listener in a task of the loop, and
    # is lost without a word if that has been closed: those tasks run before this.
    loop.call_soon(_close, server)
    loop.call_later(drain, _end, server)


def _close(server: Any) -> None:
    for listener in server.servers:
        listener.close()


def _end(server: Any) -> None:
    server.should_exit = True


def _server() -> Any:
    """The uvicorn.Server that runs in this process, which listens to SIGTERM."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    is_known = hasattr(server, "should_exit") and hasattr(server, "servers")
    return server if is_known else None
