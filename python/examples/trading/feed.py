"""A websocket server that plays recorded prices, fast, and fills orders.

    python -m trading.feed [--port N] [--rate TRADES_PER_S] [--hours H] ...

A program of its own, so that its memory is not the engine's. Prints one JSON line
with its address. SIGTERM ends it. Protocol: messages.py.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from .history import LEAST_TRADES, Tape

SLICE_SECONDS = 0.01
BAR_SECONDS = 300
BOOK_EVERY = 10  # trades of an instrument
BOOK_LEVELS = 10
FEE = 0.0001  # of the price
LONGEST_REQUEST = 1 << 16


class Feed:
    """One day of market. `rate`: trades a second of all `count` instruments
    together; a subscriber gets its instruments' share of it."""

    def __init__(
        self, rate: float, count: int, hours: float, trades_per_bar: int
    ) -> None:
        self.rate = rate
        self.count = count
        self.trades_per_bar = trades_per_bar
        self.trades = int(hours * 3600 / BAR_SECONDS) * trades_per_bar
        self._last: dict[str, float] = {}

    async def handle(self, link: ServerConnection) -> None:
        try:
            async for frame in link:
                await self._answer(link, json.loads(frame))
        except ConnectionClosed:
            pass
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            await link.send(json.dumps({"type": "error", "reason": reason}))

    async def _answer(self, link: ServerConnection, message: dict[str, Any]) -> None:
        if message["type"] == "order":
            price = self._last[message["instrument"]]
            fee = price * message["quantity"] * FEE
            fill = {"type": "fill", "id": message["id"], "price": price, "fee": fee}
            await link.send(json.dumps(fill))
        elif message["type"] == "subscribe":
            await self._play(link, message["from"])
        else:
            raise ValueError(f"unknown type {message['type']!r}")

    async def _play(self, link: ServerConnection, begins: dict[str, int]) -> None:
        tapes = {name: Tape(name, self.trades_per_bar) for name in begins}
        clock = asyncio.get_running_loop().time
        rate = self.rate * len(tapes) / self.count
        step = BAR_SECONDS / self.trades_per_bar
        number = min(begins.values())
        sent, began = 0, clock()
        while number < self.trades:
            data, books = [], []
            while number < self.trades and sent < (clock() - began) * rate:
                for name, tape in tapes.items():
                    if number < begins[name]:  # the engine has it
                        continue
                    price, size = tape.trade(number)
                    self._last[name] = price
                    data.append(
                        {"s": name, "n": number, "t": number * step, "p": price,
                         "q": size}
                    )  # fmt: skip
                    if number % BOOK_EVERY == 0:
                        books.append(book_around(name, price))
                    sent += 1
                number += 1
                if len(data) >= 500:
                    break
            for message in ({"type": "trades", "data": data}, *books):
                await link.send(json.dumps(message))
            await asyncio.sleep(SLICE_SECONDS)
        await link.send('{"type": "end"}')


def book_around(name: str, price: float) -> dict[str, Any]:
    sides = [
        [[round(price * (1 + sign * 0.0002 * n), 4), 100 * n] for n in depths]
        for sign, depths in ((-1, range(1, 11)), (1, range(1, 11)))
    ]
    return {"type": "book", "s": name, "bids": sides[0], "asks": sides[1]}


async def run(feed: Feed, port: int, ready: Any = None) -> None:
    """Serves until SIGTERM or SIGINT. ready(port) is told when it does."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with serve(
        feed.handle, "127.0.0.1", port, max_size=LONGEST_REQUEST, compression=None,
        close_timeout=1,
    ) as server:  # fmt: skip
        (ready or print_port)(server.sockets[0].getsockname()[1])
        parent = os.getppid()
        while not ended.is_set() and os.getppid() == parent:
            try:
                await asyncio.wait_for(ended.wait(), 0.5)
            except TimeoutError:
                continue


def print_port(port: int) -> None:
    print(json.dumps({"url": f"ws://127.0.0.1:{port}"}), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="trading.feed")
    parser.add_argument("--port", type=int, default=0, help="(any)")
    parser.add_argument("--rate", type=float, default=5000.0, help="trades/s (5000)")
    parser.add_argument("--instruments", type=int, default=20, help="(20)")
    parser.add_argument("--hours", type=float, default=24.0, help="of market (24)")
    parser.add_argument("--trades-per-bar", type=int, default=50, help="(50)")
    options = parser.parse_args()
    if options.trades_per_bar < LEAST_TRADES or options.rate <= 0:
        parser.error(f"needs a rate above 0 and {LEAST_TRADES} trades of a bar or more")
    return options


def main() -> int:
    options = parse()
    feed = Feed(
        options.rate, options.instruments, options.hours, options.trades_per_bar
    )
    asyncio.run(run(feed, options.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
