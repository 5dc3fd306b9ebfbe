"""Calls for test_leaks.py: encoding and serializers, with what they refuse."""

import contextlib
from collections.abc import Callable
from typing import Any

import memguard
import msgspec
from memguard import encoding, serializers


class Frame(msgspec.Struct):
    body: memoryview


POOL = memguard.MemoryPool()
JSON = serializers.JsonSerializer(POOL)
MSGPACK = serializers.MessagePackSerializer(POOL)
FRAMES = serializers.MessagePackSerializer(POOL, type=Frame)


def texts(w: object) -> None:
    for text in ("order", "Größe €"):
        with encoding.utf8_encode(text, POOL) as buffer:
            encoding.utf8_decode(buffer)
        encoding.try_utf8_encode_into(text, bytearray(3))
    for wrong in ("\ud800", b"text"):
        with contextlib.suppress(ValueError, TypeError):
            encoding.utf8_encode(wrong, POOL)  # type: ignore[arg-type]
    with contextlib.suppress(memguard.EncodingError):
        encoding.utf8_decode(b"\xff")


def base64(w: object) -> None:
    for size in (10, 5000):
        with (
            encoding.base64_encode(bytes(size), POOL) as coded,
            encoding.base64_decode(coded, POOL),
        ):
            pass
    for wrong in (b"Zg=", b"A" * 4000 + b"Zh==", "Zm\u0139v", 5):
        with contextlib.suppress(ValueError, TypeError):
            encoding.base64_decode(wrong, POOL)


def values(w: object) -> None:
    value = {"id": 5, "tags": ["a", "b"], "price": 2.5}
    for serializer in (JSON, MSGPACK):
        with serializer.serialize_pooled(value) as buffer:
            serializer.deserialize(buffer)
        with serializer.get_pooled_writer() as writer:
            serializer.serialize_into(value, writer)
        serializer.try_serialize(value, bytearray(3))
        with contextlib.suppress(memguard.EncodingError):
            serializer.serialize_pooled({"a": object()})
        with contextlib.suppress(memguard.EncodingError):
            serializer.deserialize(b"\xc1")
    with FRAMES.serialize_pooled(Frame(memoryview(b"body"))) as buffer:
        FRAMES.deserialize(buffer)


CASES: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "texts": (texts, []),
    "base64": (base64, []),
    "serializers": (values, []),
}
