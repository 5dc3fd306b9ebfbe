"""memguard around a WSGI application."""

from __future__ import annotations

from memguard.integrations._worker import Worker, manager_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from memguard.manager import ResourceManager

    Environ = dict[str, Any]
    Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class WsgiMiddleware:
    """A WSGI application that runs another one and watches the process. `threads`:
    requests that it takes at a time."""

    def __init__(
        self,
        app: Application,
        *,
        manager: ResourceManager | None = None,
        config: Mapping[str, Any] | None = None,
        threads: int = 1,
    ) -> None:
        self.app = app
        self.manager = manager_of(manager, config)
        self._worker = Worker(self.manager, slots=threads)

    def __call__(
        self, environ: Environ, start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        self._worker.began()
        try:
            body = self.app(environ, start_response)
        except BaseException:
            self._worker.ended()
            raise
        return _Body(body, self._worker)


class _Body:
    """The body of an answer; the request is over when the server closes it."""

    __slots__ = ("_body", "_worker")

    def __init__(self, body: Iterable[bytes], worker: Worker) -> None:
        self._body = body
        self._worker: Worker | None = worker

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.ended()
