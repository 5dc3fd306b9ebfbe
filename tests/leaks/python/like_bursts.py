"""Reports that need much at once, of differing size, at times."""

import random

from service import bursts, serve

RANDOM = random.Random(11)


def report(_number: int) -> None:
    rows = [[RANDOM.random()] * 20 for _ in range(RANDOM.randrange(500, 9000))]
    sorted(rows)


serve(report, per_second=8, load=bursts(5.0, 0.5))
