"""From trades to candles, from candles to indicators, from these to orders.

Knows no connection and no memory of its own: trades and books come by calls, what is
to be remembered goes into a store.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .indicators import FEATURES, KINDS
from .messages import FeedGarbageError, amount, levels, shown

TIMEFRAMES = {"5m": 300, "15m": 900, "1h": 3600}  # seconds, the shortest first
BASE = "5m"
TREND = "1h"
QUANTITY = 10
FAR = 6  # mean moves of a candle, from the mean price of the recent trades
COLUMNS = ("close", *(name for name, _, _ in FEATURES))


@dataclass
class Order:
    """A wish to buy (side 1) or to sell (-1)."""

    id: int
    instrument: str
    side: int
    quantity: int
    time: float


@dataclass
class Market:
    """What the engine knows about an instrument now."""

    next_trade: int = 0
    last: float = 0.0
    position: int = 0
    cash: float = 0.0
    bids: list[tuple[float, float]] = field(default_factory=list)
    asks: list[tuple[float, float]] = field(default_factory=list)
    open: dict[str, list[float]] = field(default_factory=dict)  # by timeframe

    @property
    def spread(self) -> float:
        """Between the best ask and the best bid; 0.0 without a book."""
        if not (self.bids and self.asks):
            return 0.0
        return self.asks[0][0] - self.bids[0][0]


class Engine:
    """`store`: a Store. `send(order)`: called with each order; whether it was
    taken. fill() says what became of it."""

    def __init__(
        self, instruments: list[str], store: Any, send: Callable[[Order], bool]
    ) -> None:
        self.store = store
        self.markets = {name: Market() for name in instruments}
        self.trades = self.duplicates = self.candles = 0
        self.orders = self.refused = self.fills = 0
        self._send = send
        # At most one of each instrument, as long as decide_next() is called.
        self._due: deque[tuple[str, float]] = deque()

    # ---- what the feed says --------------------------------------------------

    def take(self, message: dict[str, Any]) -> None:
        """Trades or a book. Raises FeedGarbageError; trades before the one that is
        wrong count."""
        kind = message["type"]
        try:
            if kind == "trades":
                for trade in message["data"]:
                    self._take_trade(trade)
            elif kind == "book":
                self._take_book(message)
            else:
                raise FeedGarbageError(f"type is {shown(kind)}")
        except (KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {shown(error.args[0])}"
            raise FeedGarbageError(f"{kind}: {reason}") from None

    def _take_trade(self, trade: dict[str, Any]) -> None:
        name, number, time = trade["s"], trade["n"], trade["t"]
        price, quantity = trade["p"], trade["q"]
        market = self.markets[name]
        if number != market.next_trade:
            if number > market.next_trade:
                raise FeedGarbageError(f"{name}: trade {number} after a gap")
            self.duplicates += 1
            return
        amount(price, "price")
        amount(quantity, "quantity")
        if not 0 <= time < 1e12:
            raise FeedGarbageError(f"time is {shown(time)}")
        market.next_trade = number + 1
        market.last = price
        self.trades += 1
        candle = market.open.get(BASE)
        if candle is None or time >= candle[0] + TIMEFRAMES[BASE]:
            if candle is not None:
                self._close(name, market, candle)
            begin = time - time % TIMEFRAMES[BASE]
            market.open[BASE] = [begin, price, price, price, price, quantity]
        else:
            if price > candle[2]:
                candle[2] = price
            elif price < candle[3]:
                candle[3] = price
            candle[4] = price
            candle[5] += quantity
        self.store.add_trade(name, trade)

    def _take_book(self, message: dict[str, Any]) -> None:
        market = self.markets[message["s"]]
        bids = levels(message["bids"], "bids")
        asks = levels(message["asks"], "asks")
        if bids and asks and bids[0][0] >= asks[0][0]:
            raise FeedGarbageError(f"{message['s']}: a bid above the best ask")
        market.bids, market.asks = bids, asks

    def finish(self) -> None:
        """The record is over: candles that are open close."""
        for name, market in self.markets.items():
            candle = market.open.pop(BASE, None)
            if candle is not None:
                self._close(name, market, candle)
            for timeframe in list(market.open):
                self._complete(name, market, timeframe)

    # ---- candles -------------------------------------------------------------

    def _close(self, name: str, market: Market, candle: list[float]) -> None:
        """A candle of the base timeframe is complete, and with it others may be."""
        self.store.add_candle(name, BASE, tuple(candle))
        self.candles += 1
        end = candle[0] + TIMEFRAMES[BASE]
        for timeframe, seconds in TIMEFRAMES.items():
            if timeframe == BASE:
                continue
            wide = market.open.get(timeframe)
            if wide is None:
                begin = candle[0] - candle[0] % seconds
                market.open[timeframe] = [begin, *candle[1:]]
            else:
                wide[2] = max(wide[2], candle[2])
                wide[3] = min(wide[3], candle[3])
                wide[4] = candle[4]
                wide[5] += candle[5]
            if end % seconds == 0:
                self._complete(name, market, timeframe)
        self._due.append((name, candle[0]))

    def _complete(self, name: str, market: Market, timeframe: str) -> None:
        self.store.add_candle(name, timeframe, tuple(market.open.pop(timeframe)))
        self.candles += 1

    # ---- decisions -----------------------------------------------------------

    def decide_next(self) -> bool:
        """Decides about one instrument whose candle closed. False: nothing is due.

        All candles close at the same time, and a decision takes milliseconds, so
        it is the caller's to let others have the loop between two of them.
        """
        if not self._due:
            return False
        name, time = self._due.popleft()
        self._decide(name, self.markets[name], time)
        return True

    def indicator(
        self, name: str, timeframe: str, kind: str, params: tuple[Any, ...],
        frame: pd.DataFrame | None = None,
    ) -> Any:  # fmt: skip
        """The values of an indicator, of the newest candle last; from the cache
        unless a candle has come since. None without a candle."""
        candles = self.store.candles(name, timeframe) if frame is None else frame
        if not len(candles):
            return None
        at = candles["time"].iloc[-1]
        return self.store.indicator(
            name, timeframe, kind, params, at, lambda: KINDS[kind](candles, *params)
        )

    def _decide(self, name: str, market: Market, time: float) -> None:
        frame = self.store.candles(name, BASE)
        values: dict[str, Any] = {"close": frame["close"]}
        for column, kind, params in FEATURES:
            values[column] = self.indicator(name, BASE, kind, params, frame)
        trend = self.indicator(name, TREND, "sma", (3,))
        with self.store.table(values) as table:
            side = decision(table)
        if side > 0 and trend is not None and market.last < np.asarray(trend)[-1]:
            side = 0  # against the trend
        if side * market.position > 0 or not side:
            return  # it has what it wants
        reach = FAR * np.asarray(values["atr"])[-1]
        if (market.last - self.store.vwap(name)) * side > reach:
            return  # too dear
        order = Order(self.orders, name, side, QUANTITY + abs(market.position), time)
        self.orders += 1
        if not self._send(order):
            self.refused += 1

    def fill(self, order: Order, price: float, fee: float) -> None:
        """An order was filled."""
        market = self.markets[order.instrument]
        market.position += order.side * order.quantity
        market.cash -= order.side * order.quantity * price + fee
        self.fills += 1
        self.store.add_fill(
            order.time, order.instrument, order.side, order.quantity, price, fee
        )

    def profit(self) -> float:
        """Cash, and positions at the last price."""
        return sum(m.cash + m.position * m.last for m in self.markets.values())


def decision(table: pd.DataFrame) -> int:
    """1 buys, -1 sells, 0 waits: by the newest row of the features."""
    now = table.iloc[-1]
    strength = table["macd"].tail(20).mean()
    if now["fast"] > now["slow"] and now["rsi"] < 70 and now["close"] < now["upper"]:
        return 1 if now["macd"] > strength else 0
    if now["fast"] < now["slow"] and now["rsi"] > 30 and now["close"] > now["lower"]:
        return -1 if now["macd"] < strength else 0
    return 0
