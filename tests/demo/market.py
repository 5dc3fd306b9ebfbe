"""What the tests of the trading engine share."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "python" / "examples"
sys.path[:0] = [str(EXAMPLES), str(ROOT / "bench" / "workloads")]

from trading import history, session  # noqa: E402
from trading.links import Links  # noqa: E402
from trading.store import Store  # noqa: E402

SECONDS = 100.0  # bound of each wait
NAMES = ["AAPL.0", "GOOG.0", "IBM.0", "MSFT.0"]
PER_BAR = 50  # trades


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


async def until_async(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def feeding(*options: object) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A feed server of its own. @return it and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trading.feed", *map(str, options)],
        cwd=EXAMPLES, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.communicate()


def trades_of(name: str, count: int, first: int = 0) -> dict[str, Any]:
    tape = history.Tape(name, PER_BAR)
    data = []
    for number in range(first, first + count):
        price, size = tape.trade(number)
        data.append({"s": name, "n": number, "t": number * 6, "p": price, "q": size})
    return {"type": "trades", "data": data}


def python_threads() -> set[str]:
    """Without foreign ones: Python remembers each that has logged anything."""
    return {
        thread.name
        for thread in threading.enumerate()
        if not isinstance(thread, threading._DummyThread)
    }


@asynccontextmanager
async def trading(
    url: str, store: Store, **options: Any
) -> AsyncIterator[tuple[session.Session, Links]]:
    """An engine that must leave nothing behind."""
    before = python_threads()
    async with Links(url) as links:
        yield session.Session(NAMES, store, links, **options), links
    await until_async(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    assert links.get_stats()["active"] == 0
    assert python_threads() <= before
