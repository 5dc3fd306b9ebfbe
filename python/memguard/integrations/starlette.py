"""Starlette, FastAPI and whatever else is made of them:

    app = FastAPI()
    memguard.integrations.fastapi.init_app(app, max_rss_mb=400)

The monitor starts in each worker process, the event loop's load is told, and what
memguard.web serves is found below /memguard: /memguard/metrics, /memguard/health, ...
"""

from __future__ import annotations

from memguard._core import ConfigTypeError
from memguard.integrations._asgi import AsgiMiddleware
from memguard.integrations._site import asgi_site
from memguard.integrations._worker import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Unpack

    from memguard.manager import ResourceManager
    from memguard.web import SiteOptions

__all__ = ["init_app"]


def init_app(
    app: Any,
    *,
    manager: ResourceManager | None = None,
    config: Mapping[str, Any] | None = None,
    path: str | None = "/memguard",
    max_rss_mb: float | None = None,
    sustain: float = 30.0,
    jitter: float = 30.0,
    min_age: float = 60.0,
    **site: Unpack[SiteOptions],
) -> None:
    """Adds a middleware to a Starlette or FastAPI application that has not started.

    `manager`: the program's own; else one is made from `config`, in the process that
    serves. `path`: where memguard answers (None: nowhere); `site`: options of
    memguard.web, as allowed_hosts. The rest is that of memguard.integrations.Limits:
    with `uvicorn --workers N` a worker that stays over max_rss_mb makes room for a new
    one.

    Raises ConfigTypeError, RangeError, InvalidError, and as memguard.web.
    """
    if not callable(getattr(app, "add_middleware", None)):
        raise ConfigTypeError(f"app is {app!r}, allowed: a Starlette application")
    inner = AsgiMiddleware(
        manager=manager,
        config=config,
        limits=Limits(max_rss_mb, sustain=sustain, jitter=jitter, min_age=min_age),
    )
    whole = asgi_site(inner, path, site)

    def around(app: Any) -> Any:
        inner.app = app
        return whole

    app.add_middleware(around)
