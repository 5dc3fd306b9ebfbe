"""What the trading engine would keep without memguard: the same things, as much of
them, in deques of dicts, DataFrames made of these when needed, a dict as LRU cache, a
list of fills and a list of idle connections. The collector is as it comes."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from trading.links import is_closed, open_link
from trading.store import MAX_CANDLES, MAX_FILLS, MAX_INDICATORS, MAX_TRADES

CANDLE = ("time", "open", "high", "low", "close", "volume")


@dataclass
class Fill:
    time: float
    instrument: str
    side: int
    quantity: int
    price: float
    fee: float


class PlainStore:
    """As trading.store.Store."""

    def __init__(
        self,
        instruments: list[str],
        timeframes: Mapping[str, int],
        columns: tuple[str, ...],
    ) -> None:
        self._trades: dict[str, deque[Any]] = {
            name: deque(maxlen=MAX_TRADES) for name in instruments
        }
        self._candles: dict[Any, deque[dict[str, float]]] = {
            (name, timeframe): deque(maxlen=MAX_CANDLES)
            for name in instruments
            for timeframe in timeframes
        }
        self._cache: OrderedDict[Any, pd.Series] = OrderedDict()
        self._columns = list(columns)
        self._fills: deque[Fill] = deque(maxlen=MAX_FILLS)

    def add_trade(self, name: str, trade: dict[str, Any]) -> None:
        self._trades[name].append(trade)

    def vwap(self, name: str) -> float:
        worth = volume = 0.0
        for trade in self._trades[name]:
            worth += trade["p"] * trade["q"]
            volume += trade["q"]
        return worth / volume

    def add_candle(self, name: str, timeframe: str, candle: Any) -> None:
        row = dict(zip(CANDLE, candle, strict=True))
        self._candles[name, timeframe].append(row)

    def candles(self, name: str, timeframe: str) -> pd.DataFrame:
        return pd.DataFrame(list(self._candles[name, timeframe]), columns=CANDLE)

    def indicator(
        self,
        name: str,
        timeframe: str,
        kind: str,
        params: tuple[Any, ...],
        candle_time: float,
        compute: Callable[[], pd.Series],
    ) -> pd.Series:
        key = (name, timeframe, kind, params, candle_time)
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = compute()
            if len(self._cache) > MAX_INDICATORS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(key)
        return found

    @contextmanager
    def table(self, values: Mapping[str, Any]) -> Iterator[pd.DataFrame]:
        yield pd.DataFrame(values, columns=self._columns)

    def add_fill(self, *fill: Any) -> None:
        self._fills.append(Fill(*fill))

    def sizes(self) -> dict[str, int]:
        return {
            "trades": sum(map(len, self._trades.values())),
            "candles": sum(map(len, self._candles.values())),
            "indicators": len(self._cache),
            "fills": len(self._fills),
        }

    def close(self) -> None:
        pass


class LeanStore(PlainStore):
    """One that remembers of a trade what it needs, as a tuple."""

    def add_trade(self, name: str, trade: dict[str, Any]) -> None:
        self._trades[name].append((trade["p"], trade["q"]))

    def vwap(self, name: str) -> float:
        worth = volume = 0.0
        for price, quantity in self._trades[name]:
            worth += price * quantity
            volume += quantity
        return worth / volume


class PlainLinks:
    """Idle connections in a list."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Any] = []
        self._ending: list[Any] = []

    async def acquire(self) -> Any:
        while self._idle:
            link = self._idle.pop()
            if not is_closed(link):
                return link
        return await open_link(self._url)

    def release(self, link: Any, *, discard: bool = False) -> None:
        (self._ending if discard else self._idle).append(link)

    async def __aenter__(self) -> "PlainLinks":
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in (*self._idle, *self._ending):
            await link.close()
