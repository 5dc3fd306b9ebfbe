"""What the sides say to each other. What comes from outside may be anything: what is
wrong with it is a BadMessageError, and nothing worse."""

import hashlib
from typing import Any

import memguard

LARGEST_BYTES = 128 * 1024  # of a message
MOST_ANSWERS = 1000  # in one message
SESSION_LETTERS = 16
LARGE_BYTES, MEDIUM_BYTES, SMALL_BYTES = 65536, 4096, 100
NUMBERS = 1 << 31


class BadMessageError(Exception):
    """`reason` is one of: unreadable, no map, kind, field, large, sum."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def body_of(number: int) -> bytes:
    """The body of a side's message `number`: mostly small, some 4 KB, few 64 KB."""
    if number % 64 == 63:
        size = LARGE_BYTES
    elif number % 8 == 7:
        size = MEDIUM_BYTES + number % 100
    else:
        size = SMALL_BYTES + number % 700
    word = b"%d/" % number
    return (word * (size // len(word) + 1))[:size]


def sum_of(body: bytes) -> int:
    return int.from_bytes(hashlib.sha256(body).digest()[:4], "big")


def data(session: str, number: int) -> tuple[dict[str, Any], int]:
    """A message and its checksum."""
    body = body_of(number)
    total = sum_of(body)
    value = {"kind": "data", "session": session, "n": number, "sum": total}
    return {**value, "body": body}, total


def answers(session: str, sums: list[tuple[int, int]]) -> dict[str, Any]:
    return {"kind": "answers", "session": session, "sums": sums}


def _is_number(value: object, below: int) -> bool:
    return type(value) is int and 0 <= value < below


def read(serializer: Any, message: memguard.PooledBuffer) -> dict[str, Any]:
    """What a message says. Raises BadMessageError."""
    if len(message) > LARGEST_BYTES:
        raise BadMessageError("large")
    try:
        value = serializer.deserialize(message)
    except memguard.EncodingError:
        raise BadMessageError("unreadable") from None
    if not isinstance(value, dict):
        raise BadMessageError("no map")
    kind, session = value.get("kind"), value.get("session")
    if kind not in ("data", "answers"):
        raise BadMessageError("kind")
    if not isinstance(session, str) or not 0 < len(session) <= SESSION_LETTERS:
        raise BadMessageError("field")
    if kind == "data":
        _check_data(value)
    else:
        _check_answers(value.get("sums"))
    return value


def _check_data(value: dict[str, Any]) -> None:
    if not _is_number(value.get("n"), NUMBERS) or type(value.get("body")) is not bytes:
        raise BadMessageError("field")
    if value.get("sum") != sum_of(value["body"]):
        raise BadMessageError("sum")


def _check_answers(sums: object) -> None:
    if not isinstance(sums, list) or len(sums) > MOST_ANSWERS:
        raise BadMessageError("field")
    for pair in sums:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadMessageError("field")
        if not (_is_number(pair[0], NUMBERS) and _is_number(pair[1], 1 << 32)):
            raise BadMessageError("field")
