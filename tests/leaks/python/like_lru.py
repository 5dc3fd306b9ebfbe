"""A bounded cache of pages, a few of which are asked for most of the time: it fills
ever more slowly, for nearly half of the run."""

import functools
import random

from service import serve

PAGES = 20_000
RANDOM = random.Random(5)


@functools.lru_cache(maxsize=12_000)
def page(number: int) -> bytes:
    return bytes(600) + str(number).encode()


def popular() -> int:
    """Zipf's law with an exponent of 0.9, by its inverse."""
    return int(((PAGES**0.1 - 1) * RANDOM.random() + 1) ** 10)


serve(lambda _number: page(popular()), per_second=1500)
