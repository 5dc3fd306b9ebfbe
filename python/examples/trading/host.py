"""The trading engine's command line."""

import argparse
import asyncio
import json
import math
import os
import platform
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import memguard

from . import history
from .engine import COLUMNS, TIMEFRAMES
from .guard import Guard
from .links import Links
from .messages import FeedError
from .session import ATTEMPTS, Session
from .store import Store

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
LINE_SECONDS = 1.0
END_SECONDS = 10.0  # that the feed may take to end
MIB = 1 << 20


class Feed:
    """The feed server as a child process. `with` gives its URL."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._command = [
            sys.executable, "-m", "trading.feed", "--rate", str(options.rate),
            "--hours", str(options.hours), "--instruments", str(options.instruments),
        ]  # fmt: skip

    def __enter__(self) -> str:
        # A group of its own: Ctrl-C reaches the engine alone, which ends it.
        self._process = subprocess.Popen(
            self._command, cwd=PACKAGE_ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True, process_group=0,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.__exit__()
            raise FeedError("the feed server did not start")
        url: str = json.loads(line)["url"]
        return url

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Host:
    """Runs the engine once: a day of market, or until it is stopped."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.names = history.instruments(options.instruments)
        self.phase = "starting"
        self.levels = {"normal": 0}
        self._level = "normal"
        self._ended: asyncio.Event | None = None

    def interrupt(self) -> None:
        if self._ended is not None:
            self._ended.set()

    async def run(self, url: str) -> None:
        """Raises FeedError, memguard.MemguardError."""
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.interrupt)
        async with AsyncExitStack() as stack:
            store = Store(self.names, TIMEFRAMES, COLUMNS)
            stack.callback(store.close)
            links = Links(url)
            guard = stack.enter_context(
                Guard(links, {"max_memory_mb": self.options.max_memory_mb})
            )
            guard.watch_loop()
            await stack.enter_async_context(links)
            session = Session(self.names, store, links, attempts=self.options.attempts)
            error: str | None = None
            try:
                await self._trade(session, guard)
            except FeedError as reason:
                error = f"{type(reason).__name__}: {reason}"
                raise
            finally:
                self._end(session, guard, error)

    async def _trade(self, session: Session, guard: Guard) -> None:
        assert self._ended is not None
        self.phase = "trade"
        tasks = {
            "trade": asyncio.create_task(session.run()),
            "end": asyncio.create_task(self._ended.wait()),
            "report": asyncio.create_task(self._report(session, guard)),
        }
        try:
            await asyncio.wait(
                {tasks["trade"], tasks["end"]}, timeout=self.options.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )  # fmt: skip
            if tasks["trade"].done():
                tasks["trade"].result()
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    # ---- reports -------------------------------------------------------------

    async def _report(self, session: Session, guard: Guard) -> None:
        while True:
            state = self._state(session, guard)
            if self.options.json:
                self._print(json.dumps({"event": "line", **state}))
            else:
                self._print(
                    f"rss {state['rss_bytes'] / MIB:6.1f} MB  level "
                    f"{state['level']:<8}  trades {state['done']:>9,}  fills "
                    f"{session.engine.fills:>5,}  {state['tuning']}"
                )
            await asyncio.sleep(LINE_SECONDS)

    def _state(self, session: Session, guard: Guard) -> dict[str, Any]:
        monitor, tuning = guard.monitor, guard.tuner.report()
        guard.manager.get_memory_pressure()
        latest = monitor.latest
        if latest.level != self._level:
            self._level = latest.level
            self.levels[self._level] = self.levels.get(self._level, 0) + 1
        engine = session.engine
        return {
            "host": "trading engine",
            "pid": os.getpid(),
            "runtime": f"CPython {platform.python_version()}",
            "phase": self.phase,
            "limit_mb": monitor.max_memory_mb,
            "rss_bytes": latest.rss_bytes,
            "peak_bytes": latest.peak_rss_bytes,
            "heap_bytes": monitor.collect_memory_stats()["heap_used"],
            "level": latest.level,
            "usage": latest.usage,
            "domain": latest.domain,
            "fds": latest.fd_count,
            "collections": monitor.get_gc_stats()["collections"],
            "flushes": 0,
            "pressure_flushes": 0,
            "levels": self.levels,
            "findings": [
                {
                    "signal": f.signal,
                    "tier": f.tier,
                    "culprits": [c.name for c in f.culprits],
                }
                for f in guard.manager.leak_detector.findings
            ],
            "in": session.received - engine.duplicates,
            "done": engine.trades,
            "tuning": f"{tuning['profile']} ({tuning['state']})",
        }

    def _end(self, session: Session, guard: Guard, error: str | None) -> None:
        engine = session.engine
        facts = {
            "candles": engine.candles,
            "orders": engine.orders,
            "refused": engine.refused,
            "fills": engine.fills,
            "profit": round(engine.profit(), 2),
            "failures": dict(session.failures),
            "returns": session.returns,
            "kept": engine.store.sizes(),
            "next_trade": {n: m.next_trade for n, m in engine.markets.items()},
        }
        state = self._state(session, guard)
        if self.options.json:
            self._print(json.dumps({**state, "event": "end", "error": error, **facts}))
            return
        self._print(
            f"{engine.trades:,} trades, {engine.candles:,} candles, {engine.fills:,} "
            f"fills, profit {engine.profit():,.2f}; peak rss "
            f"{state['peak_bytes'] / MIB:.1f} of {state['limit_mb']:g} MB"
        )

    def _print(self, line: str) -> None:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            self.interrupt()
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="trading",
        description="Follows a market, trades on it, and lets memguard look after its "
        "memory.",
        epilog="Exit code: 0 the day is over or it was stopped, 1 failed, 2 wrong use.",
    )
    parser.add_argument("--url", help="of a feed; default: one of its own")
    parser.add_argument("--seconds", type=float, help="at most; default: the day")
    parser.add_argument("--rate", type=float, default=5000.0, help="trades/s (5000)")
    parser.add_argument("--hours", type=float, default=24.0, help="of market (24)")
    parser.add_argument("--instruments", type=int, default=20, help="(20)")
    parser.add_argument(
        "--attempts", type=int, default=ATTEMPTS, help=f"in a row ({ATTEMPTS})"
    )
    parser.add_argument("--max-memory-mb", type=float, default=256.0, help="(256)")
    parser.add_argument(
        "--json", action="store_true", help="report in JSON lines, one a second"
    )
    options = parser.parse_args(arguments)
    for name in ("seconds", "rate", "hours", "instruments", "attempts"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            parser.error(f"--{name}: {value:g} is not above 0")
    return options


def main() -> int:
    options = parse()
    host = Host(options)
    try:
        if options.url:
            asyncio.run(host.run(options.url))
        else:
            with Feed(options) as url:
                asyncio.run(host.run(url))
    except (FeedError, memguard.MemguardError, OSError) as error:
        with suppress(BrokenPipeError):
            print(f"trading: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the loop could take it
        return 0
    return 0
