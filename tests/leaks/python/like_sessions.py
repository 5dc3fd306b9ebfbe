"""Sessions that live for a while; from a third of the run on twice as many."""

import os
import time
from collections import OrderedDict

from service import serve

SECONDS = float(os.environ.get("LEAK_SECONDS", "60"))
SESSIONS: OrderedDict[int, tuple[float, dict]] = OrderedDict()


def visit(number: int) -> None:
    now = time.monotonic()
    SESSIONS[number] = (now + SECONDS / 10, {"user": number, "cart": [number] * 60})
    while next(iter(SESSIONS.values()))[0] < now:
        SESSIONS.popitem(last=False)


def steps(seconds: float) -> float:
    return 1.0 if seconds < SECONDS / 3 else 2.0


serve(visit, per_second=700, load=steps)
