"""Indicators as pandas has them: from the columns of a frame of candles to a Series.

Each takes the frame and its parameters, the newest candle last. Their definitions
are the usual ones: Wilder's RSI and ATR (an exponential mean with alpha 1/n),
Bollinger bands with the population's deviation.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd


def sma(frame: pd.DataFrame, n: int) -> pd.Series:
    return frame["close"].rolling(n).mean()


def ema(frame: pd.DataFrame, n: int) -> pd.Series:
    return frame["close"].ewm(span=n, adjust=False).mean()


def rsi(frame: pd.DataFrame, n: int) -> pd.Series:
    moves = frame["close"].diff()
    up = moves.where(moves > 0, 0.0).ewm(alpha=1 / n, adjust=False).mean()
    down = -moves.where(moves < 0, 0.0).ewm(alpha=1 / n, adjust=False).mean()
    return 100 * up / (up + down)


def macd(frame: pd.DataFrame, fast: int, slow: int) -> pd.Series:
    return ema(frame, fast) - ema(frame, slow)


def band(frame: pd.DataFrame, n: int, deviations: float) -> pd.Series:
    window = frame["close"].rolling(n)
    return window.mean() + deviations * window.std(ddof=0)


def atr(frame: pd.DataFrame, n: int) -> pd.Series:
    before = frame["close"].shift()
    high, low = frame["high"], frame["low"]
    reach = (high.where(high > before, before)) - (low.where(low < before, before))
    return reach.fillna(high - low).ewm(alpha=1 / n, adjust=False).mean()


KINDS: dict[str, Callable[..., pd.Series]] = {
    "sma": sma, "ema": ema, "rsi": rsi, "macd": macd, "band": band, "atr": atr,
}  # fmt: skip

# What the strategy looks at: name of the column, indicator, parameters.
FEATURES: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("fast", "sma", (10,)),
    ("slow", "sma", (50,)),
    ("ema", "ema", (20,)),
    ("rsi", "rsi", (14,)),
    ("macd", "macd", (12, 26)),
    ("upper", "band", (20, 2.0)),
    ("lower", "band", (20, -2.0)),
    ("atr", "atr", (14,)),
)
