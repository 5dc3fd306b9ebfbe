"""What memguard.web serves, inside an application."""

from __future__ import annotations

from memguard._core import ConfigTypeError, InvalidError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def path_of(path: str | None) -> str | None:
    """Where the site is mounted: "/memguard". Raises ConfigTypeError, InvalidError."""
    if path is None:
        return None
    if not isinstance(path, str):
        raise ConfigTypeError(f"path is {path!r}, allowed: a str, or None")
    if not path.startswith("/") or not path.strip("/"):
        raise InvalidError(f"path is {path!r}, allowed: one like '/memguard'")
    return path.rstrip("/")


def asgi_site(path: str | None, token: str | None, hosts: tuple[str, ...]) -> Any:
    """The ASGI application for `path`; None if there is none."""
    return None


def wsgi_site(path: str | None, token: str | None, hosts: tuple[str, ...]) -> Any:
    """The WSGI application for `path`; None if there is none."""
    return None
