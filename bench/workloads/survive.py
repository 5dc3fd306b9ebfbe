"""The Python jobs of survive.py, one case per call.

    survive.py CASE [memguard]

Prints a JSON object a line: progress {"jobs"}, what memguard told, and at the end
{"jobs", "seconds"}. With `memguard` a ResourceManager is opened around the very
same job; cases B and G also use what the manager offers them.
"""

import contextlib
import hashlib
import json
import random
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

MIB = 1048576


def tell(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def progress(done: int, every: int) -> None:
    if done % every == 0:
        tell(jobs=done)


# --- a: cyclic garbage that carries payloads ----------------------------------

UPLOADS = 5000
UPLOAD_HEADER = json.dumps({"user": "u-17", "route": "/v1/upload", "bytes": MIB})
UPLOAD_PART = bytes(range(256)) * 64


class Upload:
    """A multipart message; as in many parsers the top part is its own root."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.root = self
        self.user = header["user"]
        self.bytes = header["bytes"]

    def receive(self) -> None:
        self.body = bytearray(self.bytes)
        for at in range(0, 4 * len(UPLOAD_PART), len(UPLOAD_PART)):
            self.body[at : at + len(UPLOAD_PART)] = UPLOAD_PART
        self.digest = hashlib.sha1(self.body[: 4 * len(UPLOAD_PART)]).hexdigest()


def uploads(count: int) -> int:
    for done in range(1, count + 1):
        Upload(json.loads(UPLOAD_HEADER)).receive()
        progress(done, 50)
    return count


# --- b: a cache without a bound -----------------------------------------------

REQUESTS = 80_000
HOT_PAGES = 400
PAGE_ROWS = 60


def render(page: str) -> bytes:
    """A page of a report: rows with a checksum each, as one JSON text."""
    key = page.encode()
    rows = [
        {"row": row, "sum": hashlib.sha256(key + bytes([row])).hexdigest() * 3}
        for row in range(PAGE_ROWS)
    ]
    return json.dumps({"page": page, "rows": rows}).encode()


def pages(manager: Any) -> int:
    cache: dict[str, bytes] = {}
    if manager is not None:
        import memguard

        memguard.register_cache(cache)
    draw = random.Random(5)
    served = 0
    for done in range(1, REQUESTS + 1):
        # One in two asks for one of the pages that everybody reads.
        hot = draw.random() < 0.5
        page = f"hot-{draw.randrange(HOT_PAGES)}" if hot else f"user-{done}"
        body = cache.get(page)
        if body is None:
            body = cache[page] = render(page)
        served += len(body)
        progress(done, 500)
    return REQUESTS


# --- c: a burst leaves the allocators' arenas fat -----------------------------

BATCHES = 140
BATCH_DOCUMENTS = 250
KEPT = 96  # one document in so many stays: they are scattered over all pages
SERIES = 110
SERIES_ITEMS = 131_072  # 1 MiB of doubles


def document(number: int, draw: random.Random) -> dict[str, Any]:
    text = f"{number:08x} " * draw.randrange(250, 550)
    words = text.split(" ", 20)[:20]
    return {"number": number, "text": text, "words": words}


def burst(_: Any) -> int:
    """First the documents of a day, then series of numbers."""
    draw = random.Random(7)
    documents: list[dict[str, Any]] = []
    for done in range(1, BATCHES + 1):
        first = len(documents)
        documents += (document(first + n, draw) for n in range(BATCH_DOCUMENTS))
        progress(done, 10)
    kept = documents[::KEPT]
    del documents
    series = []
    for done in range(1, SERIES + 1):
        items = [draw.random() for _ in range(SERIES_ITEMS)]
        series.append(array("d", sorted(items)))
        progress(BATCHES + done, 5)
    assert len(kept) * KEPT >= BATCHES * BATCH_DOCUMENTS
    return BATCHES + SERIES


# --- g: what truly cannot fit -------------------------------------------------

KEY_ROUNDS = 2000
SESSION_BYTES = 8192


def sessions(manager: Any) -> int:
    """Logins that never end; the shed hook only tells when it is first asked."""
    asked: list[float] = []

    def shed(*_: object) -> None:
        if not asked:
            asked.append(time.monotonic())
            tell(shed_s=asked[0])

    if manager is not None:
        manager.memory_monitor.register_shed_callback(shed)
    live = []
    while True:
        salt = b"%d" % len(live)
        key = hashlib.pbkdf2_hmac("sha256", b"password", salt, KEY_ROUNDS)
        live.append((key, bytearray(SESSION_BYTES)))
        progress(len(live), 500)


CASES: dict[str, Callable[[Any], int]] = {
    "a": lambda _: uploads(UPLOADS),
    "b": pages,
    "c": burst,
    "f": lambda _: uploads(3 * UPLOADS),
    "g": sessions,
}


@contextlib.contextmanager
def guarded() -> Iterator[Any]:
    import memguard

    with memguard.ResourceManager() as manager:
        yield manager


def main(case: str, *options: str) -> None:
    with guarded() if "memguard" in options else contextlib.nullcontext() as manager:
        tell(began_s=time.monotonic())
        jobs = CASES[case](manager)
        tell(jobs=jobs, ended_s=time.monotonic())


if __name__ == "__main__":
    main(*sys.argv[1:])
