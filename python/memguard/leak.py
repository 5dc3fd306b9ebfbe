"""Leaks: found while a program runs, and asked for in tests.

    detector = memguard.LeakDetector()          # or manager.leak_detector
    detector.on("leak:warning", tell_somebody)
    ...
    print(detector.report())

    memguard.assert_no_leak(handle_one_request)

assert_no_leak() calls a function again and again and raises MemoryLeakDetected,
which names who grew. Under pytest: `@pytest.mark.memguard(leak=True)`, fixture
`memguard`. For hours: `python -m memguard.stress`.
"""

from __future__ import annotations

from memguard import _leak_calls
from memguard._core import MemoryLeakDetected
from memguard._leak_detector import EVENTS, LeakDetector
from memguard._leak_finding import LeakCulprit, LeakFinding, text_of
from memguard.fd_watch import FdWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SIGNALS = _leak_calls.SIGNALS
"""What find_leaks() looks at."""

__all__ = [
    "EVENTS",
    "SIGNALS",
    "FdWatch",
    "LeakCulprit",
    "LeakDetector",
    "LeakFinding",
    "MemoryLeakDetected",
    "assert_no_leak",
    "find_leaks",
]


def find_leaks(
    fn: Callable[[], object],
    *,
    iterations: int = 100,
    warmup: int | None = None,
    signals: Iterable[str] = SIGNALS,
) -> list[LeakFinding]:
    """What calls of `fn` leave behind, each time, for ever: empty if nothing.

    Calls it `warmup` times (None: a quarter of `iterations`), then in batches of a
    quarter, half and all of `iterations`, with full collections between them; while
    something grows from batch to batch, batches go on doubling up to 16 times
    `iterations`. What fills and then stays (a cache) is no leak if it is full by
    then. At `iterations` 100, what leaks one object in six calls is found.

    `fn`: takes no argument; a coroutine function runs in an event loop of its own.
    `iterations`: 4 to 10 000 000. `signals`: what is looked at, of blocks (objects
    of Python, and the memory they own), native (memory of malloc and mappings), fds
    and threads. Warnings that it gives are told in the warm-up only.

    Raises ConfigTypeError, RangeError, InvalidError, and what `fn` raises. Other
    threads should be quiet meanwhile.
    """
    chosen = _leak_calls.check(fn, iterations, warmup, signals)
    import inspect

    if not inspect.iscoroutinefunction(fn):
        return _leak_calls.find(fn, iterations, warmup, chosen)
    import asyncio

    with asyncio.Runner() as runner:
        return _leak_calls.find(lambda: runner.run(fn()), iterations, warmup, chosen)


def assert_no_leak(
    fn: Callable[[], object],
    *,
    iterations: int = 100,
    warmup: int | None = None,
    signals: Iterable[str] = SIGNALS,
) -> None:
    """Raises MemoryLeakDetected, an AssertionError, if calls of `fn` leak: its text
    names type, place or descriptor; `findings` has all. Arguments and other errors
    as find_leaks()."""
    findings = find_leaks(fn, iterations=iterations, warmup=warmup, signals=signals)
    if findings:
        raise leak_error(getattr(fn, "__qualname__", type(fn).__qualname__), findings)


def leak_error(what: str, findings: list[LeakFinding]) -> MemoryLeakDetected:
    """The error that tells that `what` leaks."""
    error = MemoryLeakDetected(f"{what} leaks\n{text_of(findings)}")
    error.findings = findings
    return error
