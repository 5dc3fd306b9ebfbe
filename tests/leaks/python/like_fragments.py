"""Bodies of very different size; of some a small part is kept for a while."""

import collections
import random

from service import serve

RANDOM = random.Random(7)
KEPT: collections.deque[bytes] = collections.deque(maxlen=4000)


def handle(number: int) -> None:
    bodies = [bytes(RANDOM.randrange(200, 60_000)) for _ in range(20)]
    if number % 3 == 0:
        KEPT.append(RANDOM.choice(bodies)[: RANDOM.randrange(100, 2000)])


serve(handle, per_second=300)
