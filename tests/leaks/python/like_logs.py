"""The last lines of a log in a ring, for those who look at errors."""

import collections
import logging

from service import serve

RING: collections.deque[str] = collections.deque(maxlen=20_000)


class RingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        RING.append(self.format(record))


LOG = logging.getLogger("service")
LOG.addHandler(RingHandler())
LOG.setLevel(logging.INFO)


def handle(number: int) -> None:
    LOG.info("request %d answered, %s", number, "detail " * 40)


serve(handle, per_second=1200)
