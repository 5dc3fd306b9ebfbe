"""What feed and engine say to each other: JSON objects, told apart by "type".

engine -> feed   subscribe  from: {instrument: number of the trade it begins with}
                 order      id, instrument, side (1 buys, -1 sells), quantity
feed -> engine   trades     data: [{s, n, t, p, q}, ...]: instrument, number,
                            time in s, price, quantity
                 book       s, bids, asks: [[price, quantity], ...], best first
                 fill       id, price, fee
                 end        the record is over
                 error      reason
"""

import json
from typing import Any

LONGEST_FRAME = 1 << 18  # bytes
DEEPEST_BOOK = 50  # levels of a side
HIGHEST = 1e9  # price, quantity


class FeedError(Exception):
    """The feed failed; the text says how."""


class FeedLostError(FeedError):
    """It cannot be reached, or the connection broke."""


class FeedSilentError(FeedError):
    """The connection stands, but nothing comes."""


class FeedGarbageError(FeedError):
    """It said what it must not say: no websocket, no JSON, frames of megabytes."""


def parse(frame: str | bytes) -> dict[str, Any]:
    """The message in a frame. Raises FeedGarbageError."""
    if not isinstance(frame, str):
        raise FeedGarbageError(f"a binary frame of {len(frame)} bytes")
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise FeedGarbageError(f"no JSON: {type(error).__name__}: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise FeedGarbageError(f"no message: {shown(message)}")
    if message["type"] == "error":
        raise FeedGarbageError(f"the feed refuses: {shown(message.get('reason'))}")
    return message


def amount(value: Any, what: str) -> float:
    """A number above 0 as money has it. Raises FeedGarbageError."""
    try:
        if 0 < value < HIGHEST:  # false for NaN
            return float(value)
    except TypeError:
        pass
    raise FeedGarbageError(f"{what} is {shown(value)}, not a number above 0")


def levels(side: Any, what: str) -> list[tuple[float, float]]:
    """A side of a book. Raises FeedGarbageError."""
    if not isinstance(side, list) or len(side) > DEEPEST_BOOK:
        raise FeedGarbageError(f"{what} is {shown(side)}, not a list of levels")
    try:
        return [(amount(p, "price"), amount(q, "quantity")) for p, q in side]
    except (TypeError, ValueError):
        raise FeedGarbageError(f"{what} has a level that is no pair") from None


def shown(value: Any) -> str:
    """For an error's text: never more than a line of what a stranger sent."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
