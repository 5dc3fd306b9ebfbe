"""What memguard._core has for memguard.encoding and its users."""

from typing import Any

from memguard._core_pool import Pool, PooledBuffer

def pooled_copy(pool: Pool, data: Any, /) -> PooledBuffer:
    """A rental with the bytes of `data`, also of none. Raises ConfigTypeError,
    NoMemoryError, ClosedError. Any thread."""

def encode_utf8(pool: Pool, text: str, /) -> PooledBuffer:
    """encoding.utf8_encode()."""

def encode_utf8_into(text: str, destination: Any, /) -> int:
    """The bytes that the text has; if there is room for them they were written."""

def encode_base64(pool: Pool, data: Any, url_safe: bool, /) -> PooledBuffer:
    """encoding.base64_encode(), all in C."""

def decode_base64(pool: Pool, data: Any, url_safe: bool, /) -> PooledBuffer:
    """encoding.base64_decode(), all in C."""
