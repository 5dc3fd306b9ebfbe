"""What memguard.web serves, around an application."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memguard.web import SiteOptions


def asgi_site(app: Any, path: str | None, options: SiteOptions) -> Any:
    """`app`, with memguard at `path`; `app` itself if that is None."""
    if path is None:
        return app
    from memguard.web import asgi_app

    return asgi_app(app, prefix=path, **options)


def wsgi_site(app: Any, path: str | None, options: SiteOptions) -> Any:
    """`app`, with memguard at `path`; `app` itself if that is None."""
    if path is None:
        return app
    from memguard.web import wsgi_app

    return wsgi_app(app, prefix=path, **options)
