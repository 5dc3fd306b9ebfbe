"""The HTTP site of this process: dashboard, metrics, health, API.

Inside an application that is there:

    app.wsgi_app = memguard.web.wsgi_app(app.wsgi_app)      # Flask
    application = memguard.web.wsgi_app(application)         # Django, wsgi.py
    app.mount("/memguard", memguard.web.asgi_app())          # FastAPI, Starlette
    application = memguard.web.asgi_app(application)         # Django, asgi.py

or on a port of its own, for as long as the process runs or until close():

    server = memguard.serve(port=9478)

Reading is free for whoever reaches the site by one of its host names (loopback, and
`allowed_hosts`). Host is the client's word: in an application that others reach, set
`read_needs_token`. POST and PUT need a token: the argument `token`, the first line of
`token_file`, $MEMGUARD_WEB_TOKEN or the file $MEMGUARD_WEB_TOKEN_FILE. The paths,
and who may do what: include/memguard/web.h. Imported by the first use only.

Options of all of these, by keyword:
    token, token_file     where the token is; "" for none, whatever the environment says
    read_needs_token      GET needs it too, but for /livez and the dashboard's files
    allowed_hosts         names that the Host header may have besides those of
                          loopback, without port; "*": any, for an application that
                          checks Host itself
    writes_per_minute     POST and PUT, of all clients together; 1 to 1 000 000
    ready_below_percent   /readyz fails from this usage of the limit on; 0: never
InvalidError, RangeError, ConflictError or ConfigTypeError tell what of them is wrong,
SystemCallError that the file cannot be read.
"""

from __future__ import annotations

import os

from memguard import _core
from memguard._core import ConfigTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
    from typing import Any, TypedDict, Unpack

    from memguard._core import WebResponse
    from memguard._web_server import Server

    class SiteOptions(TypedDict, total=False):
        """Who may read and ask: told at the top of this module."""

        token: str | None
        token_file: str | os.PathLike[str] | None
        read_needs_token: bool
        allowed_hosts: Sequence[str]
        writes_per_minute: int
        ready_below_percent: float

    Environ = dict[str, Any]
    StartResponse = Callable[..., Any]
    WSGI = Callable[[Environ, StartResponse], Iterable[bytes]]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]
    Headers = list[tuple[str, str]]

__all__ = ["asgi_app", "serve", "wsgi_app"]

_PREFIX = "/memguard"
_WITH_BODY = ("POST", "PUT")
_DEFAULT_PORT = 9478
_WRITES_PER_MINUTE = 60


def _checked(name: str, value: object, kind: type | tuple[type, ...], what: str) -> Any:
    """A number is no bool here, and the other way round."""
    if isinstance(value, kind) and (isinstance(value, bool) == (kind is bool)):
        return value
    raise ConfigTypeError(f"{name} is {value!r}, allowed: {what}")


def _site(
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    read_needs_token: bool = False,
    allowed_hosts: Sequence[str] = (),
    writes_per_minute: int = _WRITES_PER_MINUTE,
    ready_below_percent: float = 0.0,
) -> Site:
    if token is None:
        token = _core._web_find_token(token_file)
    elif not isinstance(token, str):
        raise ConfigTypeError("token is no text, allowed: a text or None")
    _checked("read_needs_token", read_needs_token, bool, "true or false")
    _checked("allowed_hosts", allowed_hosts, (list, tuple), "a list of names")
    _checked("ready_below_percent", ready_below_percent, (int, float), "0 to 100")
    _checked("writes_per_minute", writes_per_minute, int, "1 to 1000000")
    if not 1 <= writes_per_minute <= 1_000_000:
        raise _core.RangeError(
            f"writes_per_minute is {writes_per_minute}, allowed: 1 to 1000000"
        )
    return Site(
        token, read_needs_token, allowed_hosts, writes_per_minute, ready_below_percent
    )


def refusal(status: int, text: str) -> WebResponse:
    """What a server answers to what is no request."""
    return _core._web_refuse(status, text)


class Site:
    """Turns requests into responses: (status, reason, headers, body, is_head)."""

    __slots__ = ("_site", "has_token")

    def __init__(
        self,
        token: str | None,
        read_needs_token: bool,
        hosts: Sequence[str],
        *rest: Any,
    ) -> None:
        self._site = _core.Site(token, read_needs_token, hosts, *rest)
        self.has_token = bool(token)

    def plan(
        self, method: str, target: str, headers: Headers, body: bytes
    ) -> tuple[WebResponse | None, tuple[str, str, int] | None]:
        """The response, or what ask() has to do for it."""
        return self._site.serve(method, target, headers, body)

    def ask(self, job: tuple[str, str, int]) -> WebResponse:
        """Has this process do something: may take seconds."""
        from memguard import _control

        command, arguments, key = job
        return self._site.answered(key, *_control.run(command, arguments))

    def respond(
        self, method: str, target: str, headers: Headers, body: bytes
    ) -> WebResponse:
        """The response; where a process has to act first, after it did."""
        response, job = self.plan(method, target, headers, body)
        if response is not None:
            return response
        assert job is not None
        return self.ask(job)


def _lines(response: WebResponse) -> Headers:
    """Its headers with that of its length."""
    status, _, headers, body, _ = response
    if status == 304:
        return headers
    return [*headers, ("Content-Length", str(len(body)))]


# ---- paths ----------------------------------------------------------------------


def _check_prefix(prefix: str) -> str:
    if (
        not isinstance(prefix, str)
        or not prefix.startswith("/")
        or prefix.endswith("/")
        or not all("!" <= c <= "~" and c not in "%?#" for c in prefix)
    ):
        raise _core.InvalidError(
            f"prefix is {prefix!r}, allowed: a path such as /memguard, with no / at "
            "its end"
        )
    return prefix


def _rest(path: str, prefix: str) -> str | None:
    """What follows the prefix: "" or a path; None if it is not there."""
    if path == prefix or path.startswith(prefix + "/"):
        return path[len(prefix) :]
    return None


def _target(path: str, query: str) -> str:
    """As it stands in a request: a server has decoded the path."""
    plain = "".join(
        c if "!" <= c <= "~" and c not in "%?#" else f"%{ord(c) & 0xFF:02X}"
        for c in path
    )
    return f"{plain}?{query}" if query else plain


def _moved(path: str) -> WebResponse:
    """To the dashboard, whose own addresses are relative to a path that ends in /."""
    status, reason, headers, _, is_head = refusal(308, "see Location")
    return status, reason, [*headers, ("Location", _target(path, ""))], b"", is_head


# ---- WSGI -----------------------------------------------------------------------


def _wsgi_headers(environ: Environ) -> Headers:
    return [
        (key[5:].replace("_", "-"), value)
        for key, value in environ.items()
        if key.startswith("HTTP_") and isinstance(value, str)
    ]


def _wsgi_body(environ: Environ) -> bytes | WebResponse:
    """The body, or why it is none."""
    text = environ.get("CONTENT_LENGTH", "")
    most = _core.WEB_BODY_BYTES
    if environ.get("HTTP_TRANSFER_ENCODING"):
        if not environ.get("wsgi.input_terminated"):
            return refusal(411, "the body has no length, allowed: Content-Length")
        length = most + 1
    elif not text:
        return b""
    elif not (text.isascii() and text.isdigit() and len(text) < 16):
        return refusal(400, "header Content-Length is no number of bytes")
    else:
        length = int(text)
        if length > most:
            return refusal(413, f"the body is too large, allowed: {most} bytes")
    body = b""
    while len(body) < length:
        part = environ["wsgi.input"].read(length - len(body))
        if not part:
            break
        body += part
    if len(body) > most:
        return refusal(413, f"the body is too large, allowed: {most} bytes")
    if text and len(body) < length:
        return refusal(400, "the body is shorter than Content-Length says")
    return body


def wsgi_app(
    app: WSGI | None = None, *, prefix: str = _PREFIX, **options: Unpack[SiteOptions]
) -> WSGI:
    """The site as a WSGI application, to be mounted; or, around another application,
    one that has it under `prefix` and hands all else on."""
    site = _site(**options)
    _check_prefix(prefix)

    def respond(environ: Environ, mount: str, path: str) -> WebResponse:
        if not path:
            return _moved(environ.get("SCRIPT_NAME", "") + mount + "/")
        method = environ["REQUEST_METHOD"]
        body = _wsgi_body(environ) if method in _WITH_BODY else b""
        if isinstance(body, tuple):
            return body
        target = _target(path, environ.get("QUERY_STRING", ""))
        return site.respond(method, target, _wsgi_headers(environ), body)

    def memguard_site(
        environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        rest = path if app is None else _rest(path, prefix)
        if rest is None:
            assert app is not None
            return app(environ, start_response)
        response = respond(environ, "" if app is None else prefix, rest)
        status, reason, _, body, is_head = response
        start_response(f"{status} {reason}", _lines(response))
        return [] if is_head else [body]

    return memguard_site


# ---- ASGI -----------------------------------------------------------------------


class _GoneError(Exception):
    """The client went away."""


async def _asgi_body(receive: Receive) -> bytes | WebResponse:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _GoneError
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _core.WEB_BODY_BYTES:
            most = _core.WEB_BODY_BYTES
            return refusal(413, f"the body is too large, allowed: {most} bytes")
    return body


async def _ask(site: Site, job: tuple[str, str, int]) -> WebResponse:
    """Off the event loop, which goes on meanwhile. (One that is not asyncio's has no
    thread for us.)"""
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return site.ask(job)
    return await loop.run_in_executor(None, site.ask, job)


async def _asgi_respond(
    site: Site, scope: Scope, path: str, receive: Receive
) -> WebResponse:
    method = scope["method"]
    body = await _asgi_body(receive) if method in _WITH_BODY else b""
    if isinstance(body, tuple):
        return body
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in scope["headers"]
    ]
    query = scope.get("query_string", b"").decode("latin-1")
    response, job = site.plan(method, _target(path, query), headers, body)
    if response is None:
        assert job is not None
        response = await _ask(site, job)
    return response


async def _asgi_life(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


def _asgi_path(scope: Scope) -> str:
    """Below where it is mounted; older frameworks cut that off themselves."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    rest = _rest(path, root) if root else None
    return path if rest is None else rest


def asgi_app(
    app: ASGI | None = None, *, prefix: str = _PREFIX, **options: Unpack[SiteOptions]
) -> ASGI:
    """The same as an ASGI application."""
    site = _site(**options)
    _check_prefix(prefix)

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        if app is not None:
            await app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _asgi_life(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def memguard_site(scope: Scope, receive: Receive, send: Send) -> None:
        rest = _asgi_path(scope) if scope["type"] == "http" else None
        if rest is not None and app is not None:
            rest = _rest(rest, prefix)
        if rest is None:
            await other(scope, receive, send)
            return
        try:
            response = (
                await _asgi_respond(site, scope, rest, receive)
                if rest
                else _moved(scope["path"] + "/")
            )
        except _GoneError:
            return
        status, _, _, body, is_head = response
        lines = [
            (name.lower().encode(), value.encode()) for name, value in _lines(response)
        ]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": b"" if is_head else body})

    return memguard_site


# ---- a server of its own ----------------------------------------------------------


def serve(
    host: str = "127.0.0.1",
    port: int = _DEFAULT_PORT,
    *,
    allow_remote: bool = False,
    **options: Unpack[SiteOptions],
) -> Server:
    """Serves the site from a thread of its own; see the options above.

    `port` 0: any that is free, see Server.address. A host that is not loopback needs
    `allow_remote` and a token, which GET then needs as well; add the names that
    clients use to `allowed_hosts`. A forked child has no server. Raises InvalidError
    (host), RangeError (port), ConflictError (remote without a token) and OSError
    (the address cannot be had)."""
    from memguard._web_server import open_server

    return open_server(host, port, allow_remote, options)
