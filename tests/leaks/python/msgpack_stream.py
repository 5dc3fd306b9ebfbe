"""A consumer unpacks messages out of a stream."""

import msgpack
from service import serve

MESSAGE = msgpack.packb({"kind": "tick", "price": 17})


def feed(_number: int) -> None:
    unpacker = msgpack.Unpacker()
    unpacker.feed(MESSAGE * 2)
    assert len(list(unpacker)) == 2


serve(feed, per_second=1600)
