"""memguard around an ASGI application."""

from __future__ import annotations

import asyncio

from memguard.integrations._worker import Limits, Worker, manager_of
from memguard.integrations.uvicorn import leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from typing import Any

    from memguard.manager import ResourceManager

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Message, Receive, Send], Awaitable[None]]


class AsgiMiddleware:
    """An ASGI application that runs another one and watches the process.

    The manager starts with the first event of the application, in the process that
    serves: the lifespan, or a request. The loop is watched for its load. A worker
    that is due has its answers close their connections, and leaves as
    memguard.integrations.uvicorn.leave() says. Websockets are served, but nobody waits
    for their end.
    """

    def __init__(
        self,
        app: Application | None = None,
        *,
        manager: ResourceManager | None = None,
        config: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.app = app
        self._manager = manager
        self._config = config
        self._limits = limits or Limits()
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _started(self) -> Worker:
        loop = asyncio.get_running_loop()
        if self._worker is None:
            self._worker = Worker(
                manager_of(self._manager, self._config),
                slots=0,
                limits=self._limits,
                leave=self._leave,
            )
        if loop is not self._loop:
            self._loop = loop
            tuner = self._worker.manager.memory_monitor._tuner
            if tuner is not None:
                tuner.watch_loop(loop)
        return self._worker

    def _leave(self, _: Worker) -> bool:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(leave)
        return True

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        assert self.app is not None
        worker = self._started()
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        worker.began()
        try:
            await self.app(scope, receive, self._closing(worker, scope, send))
        finally:
            worker.ended()

    def _closing(self, worker: Worker, scope: Message, send: Send) -> Send:
        """Tells the client of a worker that is due to connect anew."""
        if not scope.get("http_version", "").startswith("1"):
            return send

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and worker.is_due:
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        return sending
