"""pytest: tests that fail when what they test leaks, or takes too much memory.

    @pytest.mark.memguard(leak=True, limit_mb=50)
    def test_request(client): ...

    def test_parser(memguard):
        memguard.assert_no_leak(lambda: parse(TEXT))

pytest finds it by itself once memguard is installed.

The mark's arguments:

leak: True, or what must not grow ("blocks", "native", "fds", "threads", or several
    of them): the test function is called again and again with the same fixtures,
    in one run of the test, as memguard.leak.find_leaks() tells; MemoryLeakDetected
    names who grew. False: not looked at. Default: True, unless limit_mb is given.
limit_mb: the most MB by which the resident set may rise above what it is before the
    test, at any time of its first run; above 0.
iterations, warmup: as find_leaks() takes them; 50 iterations unless given.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import contextmanager

import pytest

from memguard._core import MemguardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from memguard.leak import LeakFinding

_ITERATIONS = 50
_MB = 1048576
_has_wrappers = True
_ALLOWED = ("leak", "limit_mb", "iterations", "warmup")


class LeakGuard:
    """What the fixture `memguard` gives: checks of pieces of code."""

    def __init__(self, name: str) -> None:
        self._name = name

    def assert_no_leak(self, fn: Callable[[], object], **options: Any) -> None:
        """memguard.leak.assert_no_leak(), with what pytest keeps of logs and
        warnings left out."""
        from memguard import leak

        if findings := self.find_leaks(fn, **options):
            raise leak.leak_error(getattr(fn, "__qualname__", self._name), findings)

    def find_leaks(self, fn: Callable[[], object], **options: Any) -> list[LeakFinding]:
        """memguard.leak.find_leaks(), in the same way."""
        from memguard import leak

        with _unlogged():
            return leak.find_leaks(fn, **options)

    @contextmanager
    def limit_mb(self, limit_mb: float) -> Iterator[None]:
        """A block in which the resident set may rise by `limit_mb` MB at most.
        Raises AssertionError at its end, AbsentError without /proc."""
        from memguard import _peak

        start = _peak.begin()
        yield
        _check_peak(self._name, start, limit_mb)


@pytest.fixture(name="memguard")
def _memguard_fixture(request: pytest.FixtureRequest) -> LeakGuard:
    """Checks of pieces of code: assert_no_leak(fn), find_leaks(fn), limit_mb(n)."""
    return LeakGuard(request.node.name)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "memguard(leak=True, limit_mb=None, iterations=50, warmup=None): fails with "
        "MemoryLeakDetected if the test leaks, or takes more than limit_mb.",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("memguard") is not None:
            _options(item)


def _options(item: pytest.Item) -> dict[str, Any]:
    """The arguments of the mark. Raises pytest.UsageError, which names the test."""
    mark = item.get_closest_marker("memguard")
    assert mark is not None
    where = f"{item.nodeid}: mark memguard"
    if mark.args:
        raise pytest.UsageError(f"{where}: arguments are given by name")
    for name in mark.kwargs:
        if name not in _ALLOWED:
            raise pytest.UsageError(
                f"{where}: {name!r} is unknown, allowed: {', '.join(_ALLOWED)}"
            )
    if not _has_wrappers:
        raise pytest.UsageError(f"{where}: needs pluggy 1.2 or later")
    if not isinstance(item, pytest.Function) or _is_unittest(item.cls):
        raise pytest.UsageError(
            f"{where}: for test functions, not for those of unittest.TestCase"
        )
    limit = mark.kwargs.get("limit_mb")
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0
    ):
        raise pytest.UsageError(
            f"{where}: limit_mb is {limit!r}, allowed: a number above 0"
        )
    leaks = mark.kwargs.get("leak", limit is None)
    iterations = mark.kwargs.get("iterations", _ITERATIONS)
    warmup = mark.kwargs.get("warmup")
    signals: tuple[str, ...] = ()
    if leaks is not False:
        from memguard import _leak_calls

        wanted = _leak_calls.SIGNALS if leaks is True else leaks
        try:
            signals = _leak_calls.check(item.obj, iterations, warmup, wanted)
        except (MemguardError, TypeError) as error:
            raise pytest.UsageError(f"{where}: {error}") from None
    return {
        "signals": signals,
        "limit_mb": limit,
        "iterations": iterations,
        "warmup": warmup,
    }


def _is_unittest(kind: type | None) -> bool:
    if kind is None:
        return False
    import unittest

    return issubclass(kind, unittest.TestCase)


def _around_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    if pyfuncitem.get_closest_marker("memguard") is None:
        return (yield)
    options = _options(pyfuncitem)
    start = None
    if options["limit_mb"] is not None:
        from memguard import _peak

        start = _peak.begin()
    result = yield  # what fails as it is, or skips, is not looked at further
    if start is not None:
        _check_peak(pyfuncitem.name, start, options["limit_mb"])
    if options["signals"]:
        _check_leak(pyfuncitem, options)
    return result


try:
    pytest_pyfunc_call = pytest.hookimpl(wrapper=True, tryfirst=True)(_around_call)
except TypeError:  # an old pluggy: nobody's other tests fail for that
    _has_wrappers = False


def _check_leak(item: pytest.Function, options: dict[str, Any]) -> None:
    from memguard import leak

    names = item._fixtureinfo.argnames
    arguments = {name: item.funcargs[name] for name in names}
    function = item.obj

    def once() -> object:
        return function(**arguments)

    async def once_async() -> object:
        return await function(**arguments)

    with _unlogged():
        findings = leak.find_leaks(
            once_async if inspect.iscoroutinefunction(function) else once,
            iterations=options["iterations"],
            warmup=options["warmup"],
            signals=options["signals"],
        )
    if findings:
        raise leak.leak_error(item.name, findings)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Without what pytest keeps of each log record until the test ends."""
    root = logging.getLogger()
    kept = [h for h in root.handlers if type(h).__name__ == "LogCaptureHandler"]
    for handler in kept:
        root.removeHandler(handler)
    try:
        yield
    finally:
        for handler in kept:
            root.addHandler(handler)


def _check_peak(name: str, start: int, limit_mb: float) -> None:
    from memguard import _peak

    rise = (_peak.read() - start) / _MB
    if rise > limit_mb:
        raise AssertionError(
            f"{name} took {rise:.1f} MB at its peak, limit_mb is {limit_mb:g}"
        )
