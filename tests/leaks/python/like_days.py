"""Sessions come and go with the day: in the morning their number grows."""

import time

from service import serve, wave

SESSIONS: list[tuple[float, bytearray]] = []


def visit(number: int) -> None:
    now = time.monotonic()
    SESSIONS.append((now + 2.0, bytearray(3000)))
    while SESSIONS[0][0] < now:
        del SESSIONS[:1]


serve(visit, per_second=1200, load=wave(20.0))
