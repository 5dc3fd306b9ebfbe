"""What the tests of pools share."""

import threading
import time
from collections.abc import Callable
from typing import Any

from memguard import MemoryPool


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def on_thread(call: Callable[[], Any]) -> Any:
    """What `call` returns or raises on a thread of its own."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def kinds(pool: MemoryPool) -> dict[str, int]:
    found: dict[str, int] = {}
    for finding in pool.findings():
        found[finding["kind"]] = found.get(finding["kind"], 0) + finding["count"]
    return found


def forget(pool: MemoryPool, n: int = 100) -> None:
    pool.rent(n)
