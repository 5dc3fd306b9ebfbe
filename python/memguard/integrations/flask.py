"""Flask:

    app = Flask(__name__)
    memguard.integrations.flask.init_app(app)

The monitor starts, the load is told, and what memguard.web serves is found below
/memguard: /memguard/metrics, /memguard/health, ... Workers are replaced by the server:
see memguard.integrations.gunicorn.
"""

from __future__ import annotations

from memguard._core import ConfigTypeError
from memguard.integrations._site import wsgi_site
from memguard.integrations._wsgi import WsgiMiddleware

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
    threads: int = 1,
    **site: Unpack[SiteOptions],
) -> ResourceManager:
    """Puts memguard around `app.wsgi_app`, and its manager into
    `app.extensions["memguard"]`; returns it.

    `manager`: the program's own; else one is made from `config`. `path`: where memguard
    answers (None: nowhere); `site`: options of memguard.web, as allowed_hosts.
    `threads`: requests that a process takes at a time, for the load.

    Raises ConfigTypeError, InvalidError, and as memguard.web.
    """
    if not callable(getattr(app, "wsgi_app", None)):
        raise ConfigTypeError(f"app is {app!r}, allowed: a Flask application")
    made = WsgiMiddleware(app.wsgi_app, manager=manager, config=config, threads=threads)
    app.wsgi_app = wsgi_site(made, path, site)
    app.extensions["memguard"] = made.manager
    return made.manager
