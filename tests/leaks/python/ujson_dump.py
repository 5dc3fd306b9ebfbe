"""A service writes reports to clients, of which some hang up."""

import contextlib
import io

import ujson
from service import bursts, serve


class HangsUp(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def report(number: int) -> None:
    rows = [{"row": row, "of": number} for row in range(24)]
    client = HangsUp() if number % 5 == 0 else io.StringIO()
    with contextlib.suppress(BrokenPipeError):
        ujson.dump(rows, client)


serve(report, per_second=3000, load=bursts(3.0, 1.0))
