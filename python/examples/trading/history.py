"""Recorded prices: bars as they were, and the trades that would have made them."""

from functools import cache
from typing import NamedTuple

TICKERS = ("AAPL", "GOOG", "IBM", "MSFT")  # with more than 2000 bars each
LEAST_TRADES = 4  # of a bar: open, low, high, close
_STRIDE = 389  # bars between the beginnings of two instruments of one ticker


class Bar(NamedTuple):
    """What a share did in one interval."""

    open: float
    high: float
    low: float
    close: float
    volume: int


@cache
def bars_of(ticker: str) -> tuple[Bar, ...]:
    """All recorded bars of a ticker, oldest first."""
    from bokeh_sampledata import stocks

    rows = getattr(stocks, ticker)
    names = Bar._fields
    return tuple(Bar(*row) for row in zip(*(rows[n] for n in names), strict=True))


def instruments(count: int) -> list[str]:
    """Names of instruments: a ticker and which part of its record is played."""
    return [f"{TICKERS[n % len(TICKERS)]}.{n // len(TICKERS)}" for n in range(count)]


class Tape:
    """The trades of one instrument by number, from 0 on; the record begins again at
    its end. Any number can be asked for, so a feed can go on where another stopped.
    """

    def __init__(self, instrument: str, trades_per_bar: int) -> None:
        ticker, _, part = instrument.partition(".")
        if ticker not in TICKERS or not part.isdigit():
            raise KeyError(instrument)
        self._bars = bars_of(ticker)
        self._first = int(part) * _STRIDE
        self._per_bar = trades_per_bar
        self._at = -1
        self._path: list[float] = []

    def bar(self, number: int) -> Bar:
        return self._bars[(self._first + number) % len(self._bars)]

    def trade(self, number: int) -> tuple[float, int]:
        """Price and size."""
        at, step = divmod(number, self._per_bar)
        bar = self.bar(at)
        if at != self._at:
            self._at, self._path = at, path_of(bar, self._per_bar)
        share, rest = divmod(bar.volume, self._per_bar)
        return self._path[step], share + (rest if step == 0 else 0)


def path_of(bar: Bar, count: int) -> list[float]:
    """`count` prices from open to close, by low and high, the nearer one first."""
    turns = [bar.open, bar.low, bar.high, bar.close]
    if bar.close < bar.open:
        turns[1], turns[2] = turns[2], turns[1]
    prices = []
    for leg in range(3):
        begin, end = leg * (count - 1) // 3, (leg + 1) * (count - 1) // 3
        step = (turns[leg + 1] - turns[leg]) / (end - begin)
        prices += [turns[leg] + step * n for n in range(end - begin)]
    return [*prices, bar.close]
