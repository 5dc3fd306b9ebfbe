"""Text and base64 in rented memory: no bytes object is made on the way.

    with utf8_encode(text) as message:
        send(message)

What is returned is the caller's to return. `pool` is a MemoryPool, by default the
shared one. base64 is made in C, straight into the rental; from FAST_BYTES on by
pybase64 if that is installed, chunk by chunk, which is several times faster there.

base64 is that of RFC 4648, standard (section 4) or URL-safe (section 5), always
with padding. Decoding is strict: other characters (line breaks too), missing or
wrong padding, and bits that are not zero before the padding are refused.

Any thread. Raises EncodingError with the position of the first mistake (characters
of a text, else bytes, from 0), ConfigTypeError for arguments of other types,
NoMemoryError, ClosedError.
"""

from __future__ import annotations

from memguard._core import (
    ConfigTypeError,
    EncodingError,
    RangeError,
    decode_base64,
    encode_base64,
    encode_utf8,
    encode_utf8_into,
)
from memguard.pool import shared_pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memguard._core import PooledBuffer
    from memguard.pool import MemoryPool

__all__ = [
    "base64_decode",
    "base64_encode",
    "try_utf8_encode_into",
    "utf8_decode",
    "utf8_encode",
    "utf8_encode_into",
]

FAST_BYTES = 1024  # from here pybase64 is worth it
CHUNK_BYTES = 12288  # a multiple of 12: whole groups, before and after

_UNKNOWN: Any = object()
_fast: Any = _UNKNOWN
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def utf8_encode(text: str, pool: MemoryPool | None = None) -> PooledBuffer:
    """The text in UTF-8. A lone surrogate is refused."""
    return encode_utf8(shared_pool() if pool is None else pool, text)


def utf8_encode_into(text: str, destination: Any) -> int:
    """Writes the text in UTF-8 to the start of `destination`, which is contiguous
    and writable. @return bytes written. Raises RangeError if they do not fit: then
    nothing was written."""
    needed = encode_utf8_into(text, destination)
    room = memoryview(destination).nbytes
    if needed > room:
        raise RangeError(f"destination has {room} bytes, needed: {needed}")
    return needed


def try_utf8_encode_into(text: str, destination: Any) -> int | None:
    """As utf8_encode_into(), but None if the text does not fit."""
    needed = encode_utf8_into(text, destination)
    return needed if needed <= memoryview(destination).nbytes else None


def utf8_decode(view: Any) -> str:
    """The text that the bytes are in UTF-8. Byte order marks are kept."""
    try:
        return str(view, "utf-8")
    except UnicodeDecodeError as error:
        raise EncodingError(
            f"not UTF-8: position {error.start} does not begin a valid sequence"
        ) from None
    except (TypeError, BufferError):
        kind = type(view).__name__
        raise ConfigTypeError(
            f"view is of type {kind}, allowed: contiguous bytes"
        ) from None


def base64_encode(
    data: Any, pool: MemoryPool | None = None, url_safe: bool = False
) -> PooledBuffer:
    """The bytes of `data` in base64."""
    pool = shared_pool() if pool is None else pool
    fast = _fast_for(data)
    if fast is None:
        return encode_base64(pool, data, bool(url_safe))
    view = memoryview(data).cast("B")
    with pool.rent_writer((len(view) + 2) // 3 * 4) as writer:
        for at in range(0, len(view), CHUNK_BYTES):
            part = fast.b64encode(view[at : at + CHUNK_BYTES])
            writer.write(part.translate(_TO_URL_SAFE) if url_safe else part)
        return writer.detach()


def base64_decode(
    data: Any, pool: MemoryPool | None = None, url_safe: bool = False
) -> PooledBuffer:
    """The bytes that `data`, a str or bytes, is in base64."""
    pool = shared_pool() if pool is None else pool
    fast = None if url_safe or isinstance(data, str) else _fast_for(data)
    made = None if fast is None else _decode_fast(fast, data, pool)
    # What was refused is decoded again, for the position of the mistake.
    return decode_base64(pool, data, bool(url_safe)) if made is None else made


def _fast_for(data: Any) -> Any:
    """pybase64, if it is worth it and installed."""
    global _fast
    try:
        if len(data) < FAST_BYTES:
            return None
    except TypeError:
        return None
    if _fast is _UNKNOWN:
        try:
            import pybase64

            _fast = pybase64
        except ImportError:
            _fast = None
    return _fast


def _decode_fast(fast: Any, data: Any, pool: MemoryPool) -> PooledBuffer | None:
    """@return None for what is not base64. pybase64 looks neither at padding in the
    middle of the text, which makes a chunk shorter, nor at the bits before it: the
    last group is decoded in C."""
    view = memoryview(data).cast("B")
    end = len(view) - 4
    with pool.rent_writer(len(view) // 4 * 3) as writer:
        try:
            for at in range(0, end, CHUNK_BYTES):
                part = view[at : min(at + CHUNK_BYTES, end)]
                decoded = fast.b64decode(part, validate=True)
                if len(decoded) * 4 != len(part) * 3:
                    return None
                writer.write(decoded)
            with decode_base64(pool, view[end:], False) as last:
                writer.write(last)
        except ValueError:  # an EncodingError is one too
            return None
        return writer.detach()
