"""A bounded cache that takes a third of the run to fill."""

import functools

from service import serve


@functools.lru_cache(maxsize=12_000)
def page(number: int) -> bytes:
    return bytes(1500) + str(number).encode()


serve(page, per_second=600)
