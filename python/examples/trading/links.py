"""The engine's connections to the feed: a pool that memguard manages."""

from typing import Any

from memguard import AsyncManagedConnectionPool
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.protocol import State

from .messages import LONGEST_FRAME, FeedGarbageError, FeedLostError

MAX_CONNECTIONS = 8
IDLE_SECONDS = 300.0
OPEN_SECONDS = 5.0
FRAMES_WAITING = 16  # a peer that sends faster than we read has to wait
_TOO_BIG = 1009


async def open_link(url: str) -> ClientConnection:
    """A new connection. Raises FeedLostError, FeedGarbageError."""
    try:
        return await connect(
            url, max_size=LONGEST_FRAME, max_queue=FRAMES_WAITING, compression=None,
            open_timeout=OPEN_SECONDS, close_timeout=1, proxy=None,
        )  # fmt: skip
    except (InvalidMessage, InvalidHandshake) as error:
        raise FeedGarbageError(f"{url} speaks no websocket: {error}") from None
    except (OSError, TimeoutError) as error:
        raise FeedLostError(f"{url} cannot be reached: {error}") from None


def is_closed(link: ClientConnection) -> bool:
    return link.state is not State.OPEN


def lost(error: ConnectionClosed) -> Exception:
    """The typed error for a connection that ended."""
    sent = error.sent
    if sent is not None and sent.code in (_TOO_BIG, 1002, 1007):
        return FeedGarbageError(f"it broke the rules: {error}")
    return FeedLostError(f"the connection ended: {error}")


class Links(AsyncManagedConnectionPool):
    """At most MAX_CONNECTIONS; idle ones that are closed or stale are removed."""

    def __init__(self, url: str) -> None:
        async def make() -> Any:
            return await open_link(url)

        super().__init__(
            make, MAX_CONNECTIONS, is_closed=is_closed, idle_timeout=IDLE_SECONDS,
            name="links",
        )  # fmt: skip
