"""gunicorn: memguard in every worker, and workers replaced by their resident set.

In gunicorn.conf.py, after hooks of your own, which go on working:

    import memguard.integrations.gunicorn
    memguard.integrations.gunicorn.install(globals(), max_rss_mb=400)

A worker that stays over the limit finishes the request it is at, tells its client to
close the connection, and ends as with max_requests; gunicorn starts another one. One
that is idle ends without waiting for a request. sync, gthread and gevent workers;
uvicorn's ASGI worker calls no request hooks, there use init_app() of
memguard.integrations.fastapi or starlette.
"""

from __future__ import annotations

from memguard._core import ConfigTypeError
from memguard.integrations._worker import Limits, Worker, manager_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from typing import Any

    Settings = MutableMapping[str, Any]

__all__ = ["install"]

_HOOKS = ("post_worker_init", "pre_request", "post_request")


def install(
    settings: Settings,
    *,
    config: Mapping[str, Any] | None = None,
    max_rss_mb: float | None = None,
    sustain: float = 30.0,
    jitter: float = 30.0,
    min_age: float = 60.0,
) -> None:
    """Adds hooks to the settings of gunicorn: the globals() of gunicorn.conf.py, or
    the options of a custom application. `config` is that of the ResourceManager of
    each worker; see memguard.integrations.Limits for the rest.

    Raises ConfigTypeError, RangeError.
    """
    limits = Limits(max_rss_mb, sustain=sustain, jitter=jitter, min_age=min_age)
    known = {name: settings.get(name) for name in _HOOKS}
    for name, hook in known.items():
        if hook is not None and not callable(hook):
            raise ConfigTypeError(f"{name} is {hook!r}, allowed: a function")
    hooks = _Hooks(config, limits, known)
    # gunicorn counts their parameters: functions, no bound methods.
    settings["post_worker_init"] = lambda worker: hooks.begin(worker)
    settings["pre_request"] = lambda worker, req: hooks.before(worker, req)
    settings["post_request"] = lambda worker, req, environ, resp: hooks.after(
        worker, req, environ, resp
    )


class _Hooks:
    def __init__(
        self,
        config: Mapping[str, Any] | None,
        limits: Limits,
        known: Mapping[str, Callable[..., object] | None],
    ) -> None:
        self._config = config
        self._limits = limits
        self._known = known
        self._worker: Worker | None = None

    def begin(self, worker: Any) -> None:
        self._call("post_worker_init", worker)

        def leave(one: Worker) -> bool:
            if one.is_idle:
                worker.alive = False  # as max_requests does
            return one.is_idle

        # How many greenlets make a worker busy is not known: no load is told.
        slots = 0 if _is_async(worker) else worker.cfg.threads
        self._worker = Worker(
            manager_of(None, self._config),
            slots=slots,
            limits=self._limits,
            leave=leave,
        )

    def before(self, worker: Any, req: Any) -> None:
        if self._worker is not None:
            self._worker.began()
            if self._worker.is_due:
                worker.alive = False  # so that this answer closes its connection
        self._call("pre_request", worker, req)

    def after(self, worker: Any, req: Any, environ: Any, resp: Any) -> None:
        try:
            self._call("post_request", worker, req, environ, resp)
        finally:
            if self._worker is not None:
                self._worker.ended()

    def _call(self, name: str, *args: object) -> None:
        hook = self._known[name]
        if hook is not None:
            # post_request may have two to four parameters.
            hook(*args[: _count_of(hook, len(args))])


def _is_async(worker: Any) -> bool:
    return any(kind.__name__ == "AsyncWorker" for kind in type(worker).__mro__)


def _count_of(hook: Callable[..., object], given: int) -> int:
    import inspect

    parameters = inspect.signature(hook).parameters.values()
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return given
    return len(parameters)
