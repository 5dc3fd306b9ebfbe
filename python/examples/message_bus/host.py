"""The message bus's command line."""

import argparse
import asyncio
import contextlib
import json
import math
import os
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import memguard

from .roads import ROADS
from .server import BrokerError, serving
from .side import Side

NODE_SIDE = Path(__file__).resolve().parents[3] / "node/examples/message_bus.js"
LINE_SECONDS = 0.5
END_SECONDS = 30.0  # that the Node side may take to end
LINGER_SECONDS = 3.0  # alone, after the last message of the other side
MIB = 1 << 20


def has_all(state: dict[str, Any]) -> bool:
    """Whether a side that said this last has ended, every message of it answered."""
    left = [state.get(name) for name in ("lost", "unpublished", "pending")]
    return "lost" in state and not any(left)  # which it says at its end only


class PeerError(Exception):
    """The Node side failed; the text says how."""


class Peer:
    """The Node side as a child process."""

    def __init__(self, options: argparse.Namespace, url: str, name: str) -> None:
        self._command = ["node", str(NODE_SIDE), "--watched", "--json", "--url", url]
        for option in ("broker", "messages", "seconds", "max_memory_mb", "patience"):
            value = getattr(options, option)
            if value is not None:
                self._command += [f"--{option.replace('_', '-')}", str(value)]
        self._command += ["--name", name]
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}  # what it said last
        self.is_open, self.has_sent = asyncio.Event(), asyncio.Event()
        self.gone: asyncio.Task[int] | None = None

    async def open(self) -> None:
        """Starts it; returns when it listens. Raises PeerError."""
        try:
            # A group of its own: Ctrl-C reaches this process alone, which passes
            # it on.
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, process_group=0,
            )  # fmt: skip
        except OSError as error:
            raise PeerError(f"node does not start: {error}") from None
        self.gone = asyncio.create_task(self._process.wait())
        self._reading = asyncio.create_task(self._read())
        await self.until(asyncio.create_task(self.is_open.wait()))

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            event = said.pop("event")
            self.state = said
            self.is_open.set()
            if event in ("sent", "end"):
                self.has_sent.set()

    async def until(self, task: "asyncio.Task[Any]") -> None:
        """Waits for a task. Raises PeerError if the Node side ends before."""
        assert self.gone is not None
        await asyncio.wait({task, self.gone}, return_when="FIRST_COMPLETED")
        if not task.done():
            task.cancel()
            raise PeerError(f"the Node side ended with {self.gone.result()}")

    def tell(self) -> None:
        """Passes a Ctrl-C on."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def end(self) -> None:
        """Has it end, and waits for that. Raises PeerError if it did not end well."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._reading is not None
        assert self.gone is not None
        self._process.stdin.close()
        await asyncio.wait({self.gone}, timeout=END_SECONDS)
        is_late = not self.gone.done()
        if is_late:
            self._process.kill()
        code = await self.gone
        await self._reading
        self._process = None
        if is_late:
            raise PeerError("the Node side did not end in time")
        if code not in (0, 1):  # 1: it has said itself what it lost
            raise PeerError(f"the Node side ended with {code}")


class Host:
    """Runs the Python side, and the Node side unless the options say otherwise."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.signals = 0
        self.side: Side | None = None
        self.peer: Peer | None = None
        self.lost = 0  # in both directions
        self.error: str | None = None

    def interrupt(self) -> None:
        """The first ends the publishing, the second the waiting for answers."""
        self.signals += 1
        if self.side is not None:
            (self.side.stop if self.signals == 1 else self.side.give_up)()
        if self.peer is not None:
            self.peer.tell()

    async def run(self, url: str) -> None:
        """Raises memguard.MemguardError, PeerError."""
        options = self.options
        name = options.name or "message-bus"
        if not (options.alone or options.name):
            name += f"-{secrets.token_hex(4)}"  # two runs on one broker do not meet
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.interrupt)
        async with AsyncExitStack() as stack:
            manager = stack.enter_context(
                memguard.ResourceManager(
                    {
                        "max_memory_mb": options.max_memory_mb,
                        "background_callbacks": True,
                    }
                )
            )
            manager.get_memory_pressure()  # there is a latest sample from now on
            road = ROADS[options.broker](url, name, "python", "node", manager.pool)
            side = self.side = Side(road, manager, options)
            try:
                await side.open()
                if not options.alone:
                    self.peer = Peer(options, url, name)
                    await self.peer.open()
                if self.signals:
                    side.stop()
                await self._exchange(side)
            except (memguard.MemguardError, PeerError) as reason:
                self.error = f"{type(reason).__name__}: {reason}"
                raise
            finally:
                await self._end(side)

    async def _exchange(self, side: Side) -> None:
        reporting = asyncio.create_task(self._report(side))
        try:
            if self.peer is None:
                await side.run()
                await self._linger(side)
                return
            running = asyncio.create_task(side.run())
            try:
                await self.peer.until(running)
            finally:
                side.give_up()
                running.cancel()
                await asyncio.wait({running})
            running.result()
            await self.peer.until(asyncio.create_task(self.peer.has_sent.wait()))
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

    async def _linger(self, side: Side) -> None:
        """Answers until the other side has become silent."""
        count = -1
        while side.received > count and not side.has_given_up:
            count = side.received
            await asyncio.sleep(LINGER_SECONDS)

    async def _end(self, side: Side) -> None:
        pending = await side.pending()
        try:
            if self.peer is not None:
                await self.peer.end()
        except PeerError as reason:
            self.error = self.error or f"PeerError: {reason}"
            raise
        finally:
            await side.close(self.peer is not None and has_all(self.peer.state))
            ours = {**side.state(), "pending": pending}
            ours["lost"] = ours.pop("in_flight")
            self.lost = ours["lost"] + ours["unpublished"]
            if self.peer is not None:
                theirs = self.peer.state
                self.lost += theirs.get("lost", 0) + theirs.get("unpublished", 0)
            self._tell("end", ours, error=self.error)

    # ---- reports ---------------------------------------------------------------

    async def _report(self, side: Side) -> None:
        while True:
            self._tell("line", side.state())
            await asyncio.sleep(LINE_SECONDS)

    def _tell(self, event: str, ours: dict[str, Any], **facts: Any) -> None:
        sides = {"python": ours}
        if self.peer is not None:
            sides["node"] = self.peer.state
        if self.options.json:
            self._print(json.dumps({"event": event, **sides, **facts}))
            return
        for name, state in sides.items():
            if state:
                more = _more(state) if "lost" in state else ""
                self._print(_line(name, state) + more)

    def _print(self, line: str) -> None:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            self.interrupt()
            # Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line(name: str, state: dict[str, Any]) -> str:
    return (
        f"{name:<7} published {state['published']:>8,}  acknowledged "
        f"{state['acknowledged']:>8,}  received {state['received']:>8,}  "
        f"rss {state['rss_bytes'] / MIB:6.1f} MB"
    )


def _more(state: dict[str, Any]) -> str:
    text = (
        f"\n        lost {state['lost'] + state['unpublished']:,}, duplicated "
        f"{state['duplicated']:,}, sent again {state['resent']:,}, pool hit rate "
        f"{100 * state['pool_hit_rate']:.1f} %, peak rss "
        f"{state['peak_bytes'] / MIB:.1f} MB"
    )
    for name in ("failures", "rejected"):
        if state[name]:
            counts = [f"{count:,} {what}" for what, count in state[name].items()]
            text += f"\n        {name}: {', '.join(counts)}"
    if state["pending"]:
        text += f"\n        waiting in the outbox: {state['pending']:,}"
    return text


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="message_bus",
        description="A Python and a Node process exchange messages over a broker, "
        "both ways, and count what became of each.",
        epilog="Ctrl-C ends the publishing, what is under way is still answered; a "
        "second one leaves it. Exit code: 0 all answered, 1 failed or something was "
        "lost, 2 wrong use.",
    )
    parser.add_argument(
        "--broker", choices=list(ROADS), default="redis",
        help="redis: streams and an outbox; redis-channels; nats (redis)",
    )  # fmt: skip
    parser.add_argument("--url", help="of a broker; default: one of its own")
    parser.add_argument(
        "--name", help="of the bus, the same for both sides; default: a new one"
    )
    parser.add_argument(
        "--alone", action="store_true", help="without the Node side; needs --url"
    )
    parser.add_argument(
        "--messages", type=int, help="that each side publishes; default: no limit"
    )
    parser.add_argument(
        "--seconds", type=float, help="to publish (10, without --messages)"
    )
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds without an answer (20)"
    )
    parser.add_argument("--max-memory-mb", type=float, default=256.0, help="(256)")
    parser.add_argument("--json", action="store_true", help="report in JSON lines")
    options = parser.parse_args(arguments)
    for name in ("messages", "seconds", "patience"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            parser.error(f"--{name}: {value:g} is not above 0")
    if options.alone and not options.url:
        parser.error("--alone needs --url")
    if options.messages is None and options.seconds is None:
        options.seconds = 10.0
    return options


def main() -> int:
    options = parse()
    host = Host(options)
    # Before the loop takes them, either ends what has begun.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.url:
            asyncio.run(host.run(options.url))
        else:
            program = "nats-server" if options.broker == "nats" else "redis-server"
            with serving(program) as url:
                asyncio.run(host.run(url))
    except (BrokerError, PeerError, memguard.MemguardError, OSError) as error:
        with contextlib.suppress(BrokenPipeError):
            print(f"message_bus: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 1 if host.lost else 0
