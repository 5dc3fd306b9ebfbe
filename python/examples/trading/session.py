"""Follows the feed, comes back when it was gone, and sends the orders.

Each feed connection follows a part of the instruments. What fails is one of the
typed errors of messages.py; after `attempts` failures in a row, without a message
between them, the session ends with it.
"""

import asyncio
import contextlib
import json
from collections import Counter
from typing import Any

from websockets.exceptions import ConnectionClosed

from .engine import Engine, Order
from .links import lost
from .messages import FeedError, FeedGarbageError, FeedLostError, FeedSilentError, parse

FEED_LINKS = 2
ORDER_WORKERS = 2
MAX_WAITING = 100  # orders
SILENCE_SECONDS = 5.0
ATTEMPTS = 20
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class Session:
    """`links`: a pool of connections, as Links is."""

    def __init__(
        self,
        instruments: list[str],
        store: Any,
        links: Any,
        *,
        silence_seconds: float = SILENCE_SECONDS,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.engine = Engine(instruments, store, self._queue)
        self.failures: Counter[str] = Counter()  # by type of error
        self.received = 0  # trades, duplicates too
        self.returns = 0  # subscriptions after the first of each connection
        self._links = links
        self._silence = silence_seconds
        self._attempts = attempts
        self._orders: asyncio.Queue[Order] = asyncio.Queue(MAX_WAITING)

    def _queue(self, order: Order) -> bool:
        with contextlib.suppress(asyncio.QueueFull):
            self._orders.put_nowait(order)
            return True
        return False

    async def run(self) -> None:
        """Until the record is over. Raises FeedError; leaves no task behind."""
        names = list(self.engine.markets)
        parts = [names[n::FEED_LINKS] for n in range(min(FEED_LINKS, len(names)))]
        workers = [
            asyncio.create_task(self._send_orders()) for _ in range(ORDER_WORKERS)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(self._follow(part))
            self.engine.finish()
            while self.engine.decide_next():
                await asyncio.sleep(0)
            await asyncio.wait_for(self._orders.join(), self._silence)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        except TimeoutError:
            raise FeedSilentError("orders were not filled in time") from None
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    # ---- prices --------------------------------------------------------------

    async def _follow(self, names: list[str]) -> None:
        in_a_row, pause = 0, FIRST_PAUSE_SECONDS
        while True:
            seen = self.engine.trades
            try:
                await self._listen(names)
                return
            except FeedError as error:
                self.failures[type(error).__name__] += 1
                if self.engine.trades > seen:
                    in_a_row, pause = 0, FIRST_PAUSE_SECONDS
                in_a_row += 1
                if in_a_row >= self._attempts:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            self.returns += 1

    async def _listen(self, names: list[str]) -> None:
        """One connection, from where the last one ended. Returns at the end of the
        record."""
        engine = self.engine
        link = await self._links.acquire()
        is_over = False
        try:
            begins = {name: engine.markets[name].next_trade for name in names}
            await self._say(link, {"type": "subscribe", "from": begins})
            while not is_over:
                message = await self._hear(link)
                is_over = message["type"] == "end"
                if not is_over:
                    self.received += len(message.get("data", ()))
                    await self._take(message)
        finally:
            # One that follows is of no use for anything else.
            self._links.release(link, discard=not is_over)

    async def _take(self, message: dict[str, Any]) -> None:
        try:
            self.engine.take(message)
        finally:
            while self.engine.decide_next():
                await asyncio.sleep(0)

    # ---- orders --------------------------------------------------------------

    async def _send_orders(self) -> None:
        while True:
            order = await self._orders.get()
            try:
                await self._place(order)
            except FeedError as error:
                self.failures[type(error).__name__] += 1
                self.engine.refused += 1  # its price would be another one later
            finally:
                self._orders.task_done()

    async def _place(self, order: Order) -> None:
        link = await self._links.acquire()
        is_good = False
        try:
            wish = {
                "type": "order", "id": order.id, "instrument": order.instrument,
                "side": order.side, "quantity": order.quantity,
            }  # fmt: skip
            await self._say(link, wish)
            fill = await self._hear(link)
            price, fee = fill.get("price"), fill.get("fee")
            if fill["type"] != "fill" or fill.get("id") != order.id:
                raise FeedGarbageError("an answer to another order")
            if not (isinstance(price, float) and isinstance(fee, float)):
                raise FeedGarbageError("a fill without price or fee")
            self.engine.fill(order, price, fee)
            is_good = True
        finally:
            self._links.release(link, discard=not is_good)

    # ---- both ----------------------------------------------------------------

    async def _say(self, link: Any, message: dict[str, Any]) -> None:
        try:
            await link.send(json.dumps(message))
        except ConnectionClosed as error:
            raise lost(error) from None
        except OSError as error:
            raise FeedLostError(f"the connection broke: {error}") from None

    async def _hear(self, link: Any) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._silence):
                frame = await link.recv()
        except TimeoutError:
            raise FeedSilentError(f"nothing came for {self._silence:g} s") from None
        except ConnectionClosed as error:
            raise lost(error) from None
        return parse(frame)
