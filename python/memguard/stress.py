"""A function under load for hours: does it leak?

    python -m memguard.stress --hours 24 service:handle_request
    python -m memguard.stress --hours 24 --time-scale 1440 --json out.json m:f

Calls it again and again while a LeakDetector watches. With --time-scale K all times
of the detector are divided by K and the run takes hours / K: a day in a minute. In
the end the verdict, and who grew:

    ok       nothing leaks
    leak     the detector found one at least likely, or each call leaves something
    growth   resident memory grew by more than --max-growth percent, the first 30 %
             of the run left out
    failed   the function raised

Exit code: 0 ok; 1 leak or growth; 2 wrong usage; 3 failed; 130 interrupted (the
verdict is of what there was until then).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import inspect
import json
import math
import os
import sys
import time

from memguard import _core
from memguard._core import InvalidError
from memguard._leak_finding import text_of
from memguard.leak import LeakDetector, find_leaks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from memguard._leak_finding import LeakFinding

_MB = 1048576
_POINTS = 512  # readings kept; then every second one goes
_WARMUP = 0.3  # share of the run that growth does not count in
_ALARMS = ("likely", "confirmed", "critical")
_CHECK_SHARE = 0.1  # of the run, that the final calls may take
_CHECK_SECONDS = 60.0  # and at most
_CHECK_CALLS = 200
_EXIT = {"ok": 0, "leak": 1, "growth": 1, "failed": 3}
_INTERRUPTED = 130


class Floor:
    """The course of the resident set, in a bounded number of readings."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []
        self._every = 1
        self._skipped = 0

    def add(self, at: float, rss_bytes: int | None) -> None:
        """A reading `at` seconds from the start."""
        self._skipped += 1
        if rss_bytes is None or self._skipped < self._every:
            return
        self._skipped = 0
        self._points.append((at, rss_bytes))
        if len(self._points) >= _POINTS:
            del self._points[::2]
            self._every *= 2

    def growth(self) -> tuple[int, int] | None:
        """Lowest resident set of the first and of the last quarter after the
        warm-up; None if there is too little to tell."""
        if not self._points:
            return None
        end = self._points[-1][0]
        rest = [rss for at, rss in self._points if at >= end * _WARMUP]
        quarter = len(rest) // 4
        if quarter < 2:
            return None
        return min(rest[:quarter]), min(rest[-quarter:])


class Stress:
    """One run. `fn`: called without arguments; a coroutine function is awaited in
    one event loop. `hours` are told time: the run takes hours / time_scale.
    `rate`: calls a second of real time, 0 for as many as go. `max_growth`: percent."""

    def __init__(
        self,
        fn: Callable[[], object],
        *,
        hours: float,
        time_scale: float = 1.0,
        rate: float = 0.0,
        max_growth: float = 5.0,
    ) -> None:
        self._fn = fn
        self.hours = hours
        self.time_scale = time_scale
        self.seconds = hours * 3600 / time_scale
        self._rate = rate
        self._max_growth = max_growth
        self.calls = 0
        self.was_interrupted = False
        self._error = ""
        self._floor = Floor()
        self._took = 0.0
        self._findings: list[LeakFinding] = []
        self._was_checked = False

    def run(self) -> dict[str, Any]:
        """Runs to the end, or to an interruption. Returns the verdict."""
        with (
            _callable(self._fn) as call,
            LeakDetector({"leak": {"time_scale": self.time_scale}}) as detector,
        ):
            try:
                self._load(call)
            except KeyboardInterrupt:
                self.was_interrupted = True
            except Exception as error:
                self._error = f"{type(error).__name__} after {self.calls} calls"
                if not self.calls:
                    raise
            detector.check()
            self._findings = [f for f in detector.findings if f.tier in _ALARMS]
            detector.stop()
            if not self._error and not self.was_interrupted:
                self._check(call)
        return self._verdict()

    def _load(self, call: Callable[[], object]) -> None:
        began = time.monotonic()
        every = max(self.seconds / (4 * _POINTS), 0.005)
        read_at = 0.0
        try:
            while (now := time.monotonic() - began) < self.seconds:
                if now >= read_at:
                    self._floor.add(now, _core.rss_bytes())
                    read_at = now + every
                call()
                self.calls += 1
                if self._rate:
                    ahead = self.calls / self._rate - (time.monotonic() - began)
                    if ahead > 0:
                        time.sleep(min(ahead, self.seconds))
        finally:
            self._took = time.monotonic() - began

    def _check(self, call: Callable[[], object]) -> None:
        """Growth in proportion to calls, if so many calls fit in."""
        allowed = min(self._took * _CHECK_SHARE, _CHECK_SECONDS)
        fitting = int(allowed / 2 * self.calls / max(self._took, 1e-9))
        if fitting < 8:
            return
        self._was_checked = True
        with contextlib.suppress(KeyboardInterrupt):
            found = find_leaks(call, iterations=min(fitting, _CHECK_CALLS))
            known = {finding.signal for finding in self._findings}
            self._findings += [f for f in found if f.signal not in known]

    def _verdict(self) -> dict[str, Any]:
        growth = self._floor.growth()
        start, end = growth or (None, None)
        percent = None
        if start is not None and end is not None:
            percent = (end - start) / start * 100
        if self._error:
            verdict = "failed"
        elif self._findings:
            verdict = "leak"
        elif percent is not None and percent > self._max_growth:
            verdict = "growth"
        else:
            verdict = "ok"
        return {
            "verdict": verdict,
            "exit_code": _INTERRUPTED if self.was_interrupted else _EXIT[verdict],
            "error": self._error or None,
            "interrupted": self.was_interrupted,
            "hours": self._took * self.time_scale / 3600,
            "time_scale": self.time_scale,
            "seconds": self._took,
            "calls": self.calls,
            "growth_percent": percent,
            "max_growth_percent": self._max_growth,
            "rss_start_mb": None if start is None else start / _MB,
            "rss_end_mb": None if end is None else end / _MB,
            "was_checked_by_calls": self._was_checked,
            "leak_detection": [finding.as_dict() for finding in self._findings],
            "report": text_of(self._findings),
        }


@contextlib.contextmanager
def _callable(fn: Callable[[], object]) -> Iterator[Callable[[], object]]:
    if not inspect.iscoroutinefunction(fn):
        yield fn
        return
    with asyncio.Runner() as runner:
        yield lambda: runner.run(fn())


def find_function(name: str) -> Callable[[], object]:
    """MODULE:FUNC as a callable. Raises InvalidError, and what the module does."""
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise InvalidError(f"{name!r}, allowed: MODULE:FUNC")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        if not hasattr(found, part):
            raise InvalidError(f"module {module} has no {path}")
        found = getattr(found, part)
    if not callable(found):
        raise InvalidError(f"{name} is no callable")
    function: Callable[[], object] = found
    return function


def _number(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high or math.isnan(value):
            raise argparse.ArgumentTypeError(f"{text}, allowed: {low:g} to {high:g}")
        return value

    return number


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m memguard.stress",
        description="Calls a function for hours and says whether it leaks.",
        epilog="Exit code: 0 ok, 1 leak or growth, 2 wrong usage, 3 the function "
        "failed, 130 interrupted.",
    )
    parser.add_argument("function", metavar="MODULE:FUNC", help="takes no argument")
    add = parser.add_argument
    add("--hours", type=_number(0.001, 10_000), default=1.0, help="of told time (1)")
    add("--time-scale", type=_number(1, 1e6), default=1.0, metavar="K",
        help="hours pass K times as fast (1)")  # fmt: skip
    add("--rate", type=_number(0, 1e9), default=0.0,
        help="calls a second of real time; 0: as many as go (0)")  # fmt: skip
    add("--max-growth", type=_number(0, 1e6), default=5.0, metavar="PERCENT",
        help="of resident memory after the warm-up (5)")  # fmt: skip
    add("--json", metavar="FILE", help="the verdict as JSON; - for stdout")
    options = parser.parse_args(arguments)
    if options.hours * 3600 / options.time_scale < 1:
        parser.error("--hours / --time-scale is less than a second")
    return options


def _text(verdict: dict[str, Any]) -> str:
    lines = [
        f"{verdict['verdict']}: {verdict['calls']} calls in "
        f"{verdict['seconds']:.1f} s, {verdict['hours']:.2f} hours of told time"
    ]
    if verdict["error"]:
        lines.append(f"the function raised {verdict['error']}")
    if verdict["growth_percent"] is not None:
        lines.append(
            f"resident memory {verdict['rss_start_mb']:.1f} -> "
            f"{verdict['rss_end_mb']:.1f} MB, {verdict['growth_percent']:+.1f} % "
            f"(allowed: {verdict['max_growth_percent']:g} %)"
        )
    if not verdict["was_checked_by_calls"]:
        lines.append("too few calls to tell what each call leaves")
    return "\n".join([*lines, verdict["report"]])


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit code."""
    options = _parse(arguments)
    sys.path.insert(0, os.getcwd())
    try:
        function = find_function(options.function)
    except Exception as error:
        print(f"memguard.stress: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    stress = Stress(
        function,
        hours=options.hours,
        time_scale=options.time_scale,
        rate=options.rate,
        max_growth=options.max_growth,
    )
    try:
        verdict = stress.run()
    except Exception:
        import traceback

        traceback.print_exc()
        return _EXIT["failed"]
    made = json.dumps(verdict, indent=2)
    if options.json == "-":
        print(made)
    else:
        print(_text(verdict))
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                file.write(made + "\n")
    code: int = verdict["exit_code"]
    return code


if __name__ == "__main__":
    sys.exit(main())
