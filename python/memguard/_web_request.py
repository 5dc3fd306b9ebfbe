"""HTTP/1.1 as far as memguard's own server speaks it: bytes in, requests out. Pure.

Strict where leniency has hurt others: lines end in CR LF, one length of a body, no
folded lines.
"""

from __future__ import annotations

import re

from memguard._core import WEB_BODY_BYTES, WEB_HEADER_BYTES

_LINE_BYTES = 4096  # longer request lines have a target that is too long
_HEAD_BYTES = WEB_HEADER_BYTES + _LINE_BYTES
_HEADERS = 100
_CHUNK_LINE_BYTES = 256
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,8}")


class RefusedError(Exception):
    """(status, text): what is no request. Nothing after it can be read."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


class Request:
    """A whole one."""

    __slots__ = ("body", "headers", "keep_alive", "method", "target")

    def __init__(self, method: str, target: str, is_old: bool) -> None:
        self.method = method
        self.target = target
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.keep_alive = not is_old

    def all(self, name: str) -> list[str]:
        """The values of a header, in small letters."""
        return [value.lower() for key, value in self.headers if key.lower() == name]


def _read_line(line: str) -> Request:
    parts = line.split(" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or _CONTROL.search(line):
        raise RefusedError(
            400, "the request line is wrong, allowed: METHOD TARGET HTTP/1.1"
        )
    method, target, version = parts
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise RefusedError(505, "the version is unknown, allowed: HTTP/1.0, HTTP/1.1")
    return Request(method, target, version == "HTTP/1.0")


def _read_head(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    request = _read_line(first)
    if len(lines) > _HEADERS:
        raise RefusedError(431, f"the headers are too many, allowed: {_HEADERS}")
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            raise RefusedError(400, "a header line is wrong, allowed: NAME: VALUE")
        request.headers.append((name, value.strip(" \t")))
    words = ",".join(request.all("connection"))
    request.keep_alive = request.keep_alive and "close" not in words
    return request


class Reader:
    """Takes bytes as they come; next() gives the requests in them."""

    __slots__ = ("_body", "_data", "_left", "_request", "is_waiting")

    def __init__(self) -> None:
        self._data = bytearray()
        self._request: Request | None = None
        self._body = bytearray()
        self._left: int | None = 0  # bytes of the body; None: in chunks
        self.is_waiting = False  # for its body, of which the client wants to be told

    @property
    def has_begun(self) -> bool:
        """Whether a part of a request is there."""
        return self._request is not None or len(self._data) > 0

    def feed(self, data: bytes) -> None:
        self._data += data

    def next(self) -> Request | None:
        """A whole request, or None as long as there is none. Raises RefusedError."""
        if self._request is None and not self._take_head():
            return None
        whole = self._take_chunks() if self._left is None else self._take_body()
        if not whole:
            return None
        request, self._request = self._request, None
        assert request is not None
        request.body = bytes(self._body)
        self._body.clear()
        self.is_waiting = False
        return request

    def _take_head(self) -> bool:
        while self._data.startswith(b"\r\n"):  # some clients end a body so
            del self._data[:2]
        end = self._data.find(b"\r\n\r\n", 0, _HEAD_BYTES)
        if end < 0:
            self._refuse_long_head()
            return False
        head = bytes(self._data[:end])
        del self._data[: end + 4]
        request = _read_head(head)
        self._left = self._length(request)
        self.is_waiting = "100-continue" in request.all("expect") and self._left != 0
        self._request = request
        return True

    def _refuse_long_head(self) -> None:
        line = self._data.find(b"\r\n", 0, _LINE_BYTES)
        if line < 0 and len(self._data) >= _LINE_BYTES:
            raise RefusedError(414, "the target is too long, allowed: 2048 bytes")
        if len(self._data) >= _HEAD_BYTES:
            raise RefusedError(431, "the headers are too large, allowed: 16384 bytes")

    @staticmethod
    def _length(request: Request) -> int | None:
        codings = request.all("transfer-encoding")
        lengths = request.all("content-length")
        if codings:
            if codings != ["chunked"] or lengths:
                raise RefusedError(400, "the body has no one length, allowed: chunked")
            return None
        if not lengths:
            return 0
        text = lengths[0]
        if len(lengths) > 1 or not (text.isascii() and text.isdigit()):
            raise RefusedError(400, "header Content-Length is no number of bytes")
        if len(text) > 15 or int(text) > WEB_BODY_BYTES:
            raise RefusedError(
                413, f"the body is too large, allowed: {WEB_BODY_BYTES} bytes"
            )
        return int(text)

    def _take_body(self) -> bool:
        assert self._left is not None
        part = self._data[: self._left]
        del self._data[: self._left]
        self._body += part
        self._left -= len(part)
        return self._left == 0

    def _take_chunks(self) -> bool:
        while True:
            end = self._data.find(b"\r\n", 0, _CHUNK_LINE_BYTES)
            if end < 0:
                if len(self._data) >= _CHUNK_LINE_BYTES:
                    raise RefusedError(400, "the line of a chunk is too long")
                return False
            word = bytes(self._data[:end]).partition(b";")[0].strip(b" \t")
            if not _HEX.fullmatch(word):
                raise RefusedError(
                    400, "the size of a chunk is wrong, allowed: hex digits"
                )
            size = int(word, 16)
            if len(self._body) + size > WEB_BODY_BYTES:
                raise RefusedError(
                    413, f"the body is too large, allowed: {WEB_BODY_BYTES} bytes"
                )
            whole = end + 2 + size + 2
            if len(self._data) < whole:
                return False
            if self._data[whole - 2 : whole] != b"\r\n":
                # After the last chunk there may be headers: we take none.
                raise RefusedError(400, "a chunk does not end where its size says")
            self._body += self._data[end + 2 : whole - 2]
            del self._data[:whole]
            if size == 0:
                return True
