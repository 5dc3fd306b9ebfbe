"""A trading loop: ticks become candles, candles indicators, indicators orders."""

import random
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from meter import Job, serve

SYMBOLS = 150
CANDLES = 200  # kept of each symbol
BATCH = 10  # symbols whose candle closes at once
TICKS_PER_CANDLE = 120
FILLS = 50_000  # kept for the report of the day


@dataclass
class Tick:
    symbol: str
    price: float
    size: int
    book: dict[str, list[float]]


@dataclass
class Order:
    number: int
    symbol: str
    fills: list["Fill"] = field(default_factory=list)


@dataclass
class Fill:
    """Knows its order, which knows its fills."""

    order: Order
    price: float
    legs: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Market:
    candles: pd.DataFrame
    position: int = 0
    ticks: list[Tick] = field(default_factory=list)


def first_candles(draw: np.random.Generator) -> pd.DataFrame:
    close = 100 + draw.standard_normal(CANDLES).cumsum() / 10
    columns = {"open": close, "high": close + 0.1, "low": close - 0.1, "close": close}
    return pd.DataFrame(columns)


def with_candle(candles: pd.DataFrame, ticks: list[Tick]) -> pd.DataFrame:
    prices = np.fromiter((tick.price for tick in ticks), float, len(ticks))
    row = [[prices[0], prices.max(), prices.min(), prices[-1]]]
    latest = pd.DataFrame(row, columns=candles.columns)
    return pd.concat([candles.iloc[1:], latest], ignore_index=True)


def signal(candles: pd.DataFrame) -> int:
    """1 buys, -1 sells, 0 waits: two averages and the strength of the moves."""
    close = candles["close"]
    moves = close.diff()
    up = moves.clip(lower=0).rolling(14).mean().iloc[-1]
    down = -moves.clip(upper=0).rolling(14).mean().iloc[-1]
    strength = 100 - 100 / (1 + up / max(down, 1e-9))
    fast = close.rolling(10).mean().iloc[-1]
    slow = close.rolling(50).mean().iloc[-1]
    if fast > slow and strength < 70:
        return 1
    return -1 if fast < slow and strength > 30 else 0


def build() -> Job:
    noise = np.random.default_rng(5)
    draw = random.Random(5)
    markets = {f"S{n}": Market(first_candles(noise)) for n in range(SYMBOLS)}
    names = list(markets)
    price = dict.fromkeys(names, 100.0)
    fills: deque[Fill] = deque(maxlen=FILLS)

    def fill(number: int, name: str, side: int) -> None:
        legs = [{"size": float(size), "fee": size * 0.01} for size in (5, 3, 2)]
        order = Order(number, name)
        order.fills.append(Fill(order, price[name], legs))
        fills.extend(order.fills)
        markets[name].position += side * 10

    for number in range(FILLS):
        fill(number, names[number % SYMBOLS], 1 - 2 * (number % 2))

    def tick(name: str) -> Tick:
        price[name] += draw.gauss(0, 0.05)
        at = price[name]
        book = {"bid": [at - 0.01, at - 0.02], "ask": [at + 0.01, at + 0.02]}
        return Tick(name, at, draw.randrange(1, 50), book)

    def job(number: int) -> None:
        """Ticks arrive for some symbols in turns, then their candles close."""
        first = number * BATCH % SYMBOLS
        batch = names[first : first + BATCH]
        for _ in range(TICKS_PER_CANDLE):
            for name in batch:
                markets[name].ticks.append(tick(name))
        for name in batch:
            market = markets[name]
            market.candles = with_candle(market.candles, market.ticks)
            market.ticks = []
            side = signal(market.candles)
            for part in range(4 * abs(side)):
                fill(number * 4 + part, name, side)

    return job


if __name__ == "__main__":
    serve(build)
