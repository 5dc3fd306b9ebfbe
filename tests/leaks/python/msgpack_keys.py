"""A consumer refuses messages with keys that are not text."""

import contextlib

import msgpack
from service import bursts, serve

GOOD = msgpack.packb({"kind": "order", "lines": list(range(40))})
BAD = msgpack.packb({7: [f"line {n} of a message" for n in range(20)]})


def consume(number: int) -> None:
    with contextlib.suppress(ValueError):
        msgpack.unpackb(BAD if number % 4 == 0 else GOOD)


serve(consume, per_second=1600, load=bursts(2.0, 0.5))
