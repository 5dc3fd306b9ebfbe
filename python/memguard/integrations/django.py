"""Django, in wsgi.py or asgi.py:

    application = memguard.integrations.django.init_app(get_wsgi_application())

The monitor starts in each worker process, the load is told, and what memguard.web
serves is found below /memguard: /memguard/metrics, /memguard/health, ... Nothing goes
into INSTALLED_APPS or MIDDLEWARE, and Django does not see requests for that path.
"""

from __future__ import annotations

from memguard._core import ConfigTypeError
from memguard.integrations._asgi import AsgiMiddleware
from memguard.integrations._site import asgi_site, wsgi_site
from memguard.integrations._worker import Limits
from memguard.integrations._wsgi import WsgiMiddleware

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Unpack

    from memguard.manager import ResourceManager
    from memguard.web import SiteOptions

__all__ = ["init_app"]

_IS_COROUTINE = 0x80  # inspect.CO_COROUTINE


def init_app(
    application: Any,
    *,
    manager: ResourceManager | None = None,
    config: Mapping[str, Any] | None = None,
    path: str | None = "/memguard",
    threads: int = 1,
    max_rss_mb: float | None = None,
    sustain: float = 30.0,
    jitter: float = 30.0,
    min_age: float = 60.0,
    **site: Unpack[SiteOptions],
) -> Any:
    """Returns an application that runs `application`, of get_wsgi_application() or
    get_asgi_application().

    `manager`: the program's own; else one is made from `config`. `path`: where memguard
    answers (None: nowhere); `site`: options of memguard.web, as allowed_hosts.
    `threads` (WSGI): requests that a process takes at a time, for the load. The rest
    (ASGI, with uvicorn) is that of memguard.integrations.Limits; WSGI workers are
    replaced by memguard.integrations.gunicorn.

    Raises ConfigTypeError, RangeError, InvalidError, and as memguard.web.
    """
    if not callable(application):
        raise ConfigTypeError(
            f"application is {application!r}, allowed: what get_wsgi_application() "
            "or get_asgi_application() returns"
        )
    limits = Limits(max_rss_mb, sustain=sustain, jitter=jitter, min_age=min_age)
    if _is_async(application):
        made = AsgiMiddleware(
            application, manager=manager, config=config, limits=limits
        )
        return asgi_site(made, path, site)
    if max_rss_mb is not None:
        raise ConfigTypeError(
            f"max_rss_mb is {max_rss_mb!r}, allowed: None for a WSGI application, "
            "whose workers memguard.integrations.gunicorn replaces"
        )
    return wsgi_site(
        WsgiMiddleware(application, manager=manager, config=config, threads=threads),
        path,
        site,
    )


def _is_async(application: Any) -> bool:
    for one in (application, type(application).__call__):
        code = getattr(one, "__code__", None)
        if code is not None and code.co_flags & _IS_COROUTINE:
            return True
    return False
