"""All the engine remembers, in memory that memguard bounds and uses again.

recent trades   a RingBuffer of each instrument
candles         a FrameWindow of each instrument and timeframe, in rented memory
indicators      an IndicatorCache
feature tables  a ReusePool of DataFrames
fills           one RingBuffer of numbers
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from memguard import FrameWindow, IndicatorCache, MemoryPool, ReusePool, RingBuffer

MAX_CANDLES = 200
MAX_TRADES = 5000  # of each instrument
MAX_FILLS = 5000
MAX_INDICATORS = 500
MAX_TABLES = 4

Candle = tuple[float, float, float, float, float, float]


class Table:
    """A DataFrame whose cells are filled in place, by column."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._cells = np.empty((len(columns), MAX_CANDLES))
        self._rows = {name: self._cells[n] for n, name in enumerate(columns)}
        self.whole = pd.DataFrame(self._cells.T, columns=columns, copy=False)

    def filled(self, values: Mapping[str, Any]) -> pd.DataFrame:
        """The frame of these columns, which are of one length, 200 at most."""
        count = 0
        for name, column in values.items():
            count = len(column)
            self._rows[name][:count] = column
        return self.whole if count == MAX_CANDLES else self.whole.iloc[:count]


class Store:
    """The memory of one engine. close() gives it back."""

    def __init__(
        self,
        instruments: list[str],
        timeframes: Mapping[str, int],
        columns: tuple[str, ...],
    ) -> None:
        self._pool = MemoryPool()
        self._trades = {
            name: RingBuffer(MAX_TRADES, ("price", "quantity")) for name in instruments
        }
        self._candles = {
            (name, timeframe): FrameWindow(MAX_CANDLES, pool=self._pool)
            for name in instruments
            for timeframe in timeframes
        }
        self._cache = IndicatorCache(MAX_INDICATORS, name="indicators")
        self._tables = ReusePool(
            lambda: Table(columns), max_size=MAX_TABLES, name="feature tables"
        )
        columns_of_fill = ("time", "instrument", "side", "quantity", "price", "fee")
        self._fills = RingBuffer(MAX_FILLS, columns_of_fill)
        self._numbers = {name: n for n, name in enumerate(instruments)}

    def add_trade(self, name: str, trade: dict[str, Any]) -> None:
        self._trades[name].append(trade["p"], trade["q"])

    def vwap(self, name: str) -> float:
        """The mean price of the recent trades, by volume."""
        trades = self._trades[name].latest()
        quantity = np.asarray(trades["quantity"])
        return float(np.dot(trades["price"], quantity) / quantity.sum())

    def add_candle(self, name: str, timeframe: str, candle: Candle) -> None:
        self._candles[name, timeframe].append(*candle)

    def candles(self, name: str, timeframe: str) -> pd.DataFrame:
        """The candles, the newest last. Good until the next but one is added."""
        return self._candles[name, timeframe].frame()

    def indicator(
        self,
        name: str,
        timeframe: str,
        kind: str,
        params: tuple[Any, ...],
        candle_time: float,
        compute: Callable[[], pd.Series],
    ) -> Any:
        """The values of an indicator for the candles up to that time."""
        key = self._cache.make_key(name, timeframe, kind, params, candle_time)
        return self._cache.get_or_compute(key, lambda: compute().to_numpy())

    @contextmanager
    def table(self, values: Mapping[str, Any]) -> Iterator[pd.DataFrame]:
        """For `with`: a DataFrame of these columns, used again after the block."""
        with self._tables.using() as table:
            yield table.filled(values)

    def add_fill(
        self, time: float, name: str, side: int, quantity: int, price: float, fee: float
    ) -> None:
        number = self._numbers[name]
        self._fills.append(time, number, side, quantity, price, fee)

    def turnover(self) -> float:
        """What the remembered fills were worth."""
        fills = self._fills.latest()
        return float(np.dot(fills["quantity"], fills["price"]))

    def sizes(self) -> dict[str, int]:
        """How much is remembered."""
        return {
            "trades": sum(map(len, self._trades.values())),
            "candles": sum(map(len, self._candles.values())),
            "indicators": len(self._cache),
            "tables": self._tables.get_stats()["created"],
            "fills": len(self._fills),
        }

    def stats(self) -> dict[str, Any]:
        return {
            "indicators": self._cache.get_stats(),
            "tables": self._tables.get_stats(),
            "pool": self._pool.stats(),
        }

    def close(self) -> None:
        for window in self._candles.values():
            if not window.returned:
                window.return_()
        self._tables.close()
        self._cache.clear()
        self._pool.close()
