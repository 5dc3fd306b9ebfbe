"""Flask:

    app = Flask(__name__)
    memguard.integrations.flask.init_app(app)

The monitor starts, the load is told, and what memguard.web serves is found below
/memguard: /memguard/metrics, /memguard/health, ... Workers are replaced by the server:
see memguard.integrations.gunicorn.
"""

from __future__ import annotations

from memguard._core import ConfigTypeError
from memguard.integrations._site import path_of, wsgi_site
from memguard.integrations._wsgi import WsgiMiddleware

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from memguard.manager import ResourceManager

__all__ = ["init_app"]


def init_app(
    app: Any,
    *,
    manager: ResourceManager | None = None,
    config: Mapping[str, Any] | None = None,
    path: str | None = "/memguard",
    token: str | None = None,
    hosts: tuple[str, ...] = (),
    threads: int = 1,
) -> ResourceManager:
    """Puts memguard around `app.wsgi_app`, and its manager into
    `app.extensions["memguard"]`; returns it.

    `manager`: the program's own; else one is made from `config`. `path`: where memguard
    answers (None: nowhere); `token` and `hosts` are those of memguard.web. `threads`:
    requests that a process takes at a time, for the load.

    Raises ConfigTypeError, InvalidError.
    """
    if not callable(getattr(app, "wsgi_app", None)):
        raise ConfigTypeError(f"app is {app!r}, allowed: a Flask application")
    made = WsgiMiddleware(app.wsgi_app, manager=manager, config=config, threads=threads)
    app.wsgi_app = wsgi_site(made, path, site)
    app.extensions["memguard"] = made.manager
    return made.manager
