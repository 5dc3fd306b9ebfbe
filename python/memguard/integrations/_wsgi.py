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
    """A WSGI application that runs another one, watches the process and answers at
    `path` itself. `threads`: requests that the process takes at a time."""

    def __init__(
        self,
        app: Application,
        *,
        manager: ResourceManager | None = None,
        config: Mapping[str, Any] | None = None,
        threads: int = 1,
        path: str | None = None,
        site: Application | None = None,
    ) -> None:
        self.app = app
        self.manager = manager_of(manager, config)
        self._worker = Worker(self.manager, slots=threads)
        self._path = path
        self._site = site

    def __call__(
        self, environ: Environ, start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if self._site is not None and self._is_ours(environ.get("PATH_INFO", "")):
            assert self._path is not None
            inner = {
                **environ,
                "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + self._path,
                "PATH_INFO": environ["PATH_INFO"][len(self._path) :],
            }
            return self._site(inner, start_response)
        self._worker.began()
        try:
            body = self.app(environ, start_response)
        except BaseException:
            self._worker.ended()
            raise
        return _Body(body, self._worker)

    def _is_ours(self, path: str) -> bool:
        ours = self._path
        return ours is not None and (path == ours or path.startswith(ours + "/"))


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
