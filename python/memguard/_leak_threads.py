"""Threads by what they run. Imports nothing: each LeakDetector counts them."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread


def numberless(name: str) -> str:
    """Numbers replaced: of names that differ only in them there may be many."""
    made = ""
    for char in name:
        if not char.isdigit():
            made += char
        elif not made.endswith("#"):
            made += "#"
    return made


def thread_names() -> dict[str, int]:
    """How many threads, of those that Python knows, run what."""
    threading = sys.modules.get("threading")
    counts: dict[str, int] = {}
    for thread in threading.enumerate() if threading else ():  # else none was started
        name = _thread_name(thread)
        counts[name] = counts.get(name, 0) + 1
    return counts


def _thread_name(thread: Thread) -> str:
    """What it runs: its own class, or its function; of a worker of a pool, or where
    that is not known, its name. A thread may be anything."""
    try:
        kind = type(thread)
        if kind.__module__ != "threading":
            return f"{kind.__module__}.{kind.__qualname__}"
        target = getattr(thread, "_target", None)
        target = getattr(target, "func", target)  # of a functools.partial
        where = getattr(target, "__module__", None)
        if target is None or where is None or where.startswith("concurrent."):
            return numberless(thread.name)
        return f"{where}.{target.__qualname__}"
    except Exception:
        return "?"
