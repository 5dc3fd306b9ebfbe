"""The trading engine (python/examples/trading): a day of market over websockets."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import memguard
import pandas as pd
import pytest
from market import (
    EXAMPLES,
    NAMES,
    PER_BAR,
    ROOT,
    SECONDS,
    feeding,
    trades_of,
    trading,
    until,
    until_async,
)
from trading import history, indicators, session
from trading.engine import COLUMNS, TIMEFRAMES, Engine
from trading.store import Store
from trading_plain import LeanStore, PlainStore

TOOL = ROOT / "build" / "bin" / "memguard"


def run_through(engine: Engine, bars: int) -> None:
    for bar in range(bars):
        for name in engine.markets:
            engine.take(trades_of(name, PER_BAR, bar * PER_BAR))
        while engine.decide_next():
            pass


# --- The record, candles, indicators ------------------------------------------


def test_the_record_is_the_one_that_was_made() -> None:
    bars = history.bars_of("AAPL")
    assert len(bars) == 3270
    assert bars[0] == (118.56, 132.06, 118.5, 130.31, 9616100)
    assert history.bars_of("GOOG")[1] == (101.01, 109.08, 100.5, 108.31, 22834300)
    assert history.path_of(history.Bar(10.0, 13.0, 9.0, 12.0, 5), 4) == [10, 9, 13, 12]
    assert history.path_of(history.Bar(12.0, 13.0, 9.0, 10.0, 5), 4) == [12, 13, 9, 10]
    assert history.path_of(history.Bar(10.0, 13.0, 9.0, 12.0, 5), 7) == [
        10, 9.5, 9, 11, 13, 12.5, 12,
    ]  # fmt: skip


def test_candles_are_the_bars_of_the_record(store: Store) -> None:
    engine = Engine(NAMES, store, lambda order: True)
    run_through(engine, 24)
    engine.finish()
    frame = store.candles("AAPL.0", "5m")
    assert list(frame.columns) == ["time", "open", "high", "low", "close", "volume"]
    assert frame.iloc[:3].to_numpy().tolist() == [
        [0, 118.56, 132.06, 118.5, 130.31, 9616100],
        [300, 127.0, 127.94, 120.69, 122.0, 2779100],
        [600, 124.87, 128.23, 120.0, 128.0, 2887200],
    ]
    assert len(frame) == 24
    wide = store.candles("AAPL.0", "15m")
    assert wide.iloc[0].tolist() == [0, 118.56, 132.06, 118.5, 128.0, 15282400]
    assert wide["time"].tolist() == [0, 900, 1800, 2700, 3600, 4500, 5400, 6300]
    assert store.candles("AAPL.0", "1h")["time"].tolist() == [0, 3600]
    assert engine.candles == 4 * (24 + 8 + 2)


# Worked out by hand, row by row.
CLOSE = [10.0, 11.0, 12.0, 11.0, 13.0, 12.0, 14.0]
HIGH = [10.5, 11.5, 12.5, 11.75, 13.25, 13.0, 14.5]
LOW = [9.5, 10.5, 11.25, 10.75, 11.0, 11.5, 12.0]
INDICATORS = {
    ("sma", 3): [11, 34 / 3, 12, 12, 13],
    ("ema", 3): [11.25, 11.125, 12.0625, 12.03125, 13.015625],
    ("macd", 3, 5): [0.3611111, 0.1990741, 0.4452160, 0.2863940, 0.5190544],
    ("rsi", 3): [100, 52.6315789, 80.4347826, 55.8490566, 76.9685039],
    ("band", 3, 2.0): [12.6329932, 12.2761424, 13.6329932, 13.6329932, 14.6329932],
    ("band", 3, -2.0): [9.3670068, 10.3905243, 10.3670068, 10.3670068, 11.3670068],
    ("atr", 3): [1.2777778, 1.2685185, 1.5956790, 1.5637860, 1.8758573],
}


@pytest.mark.parametrize("indicator", INDICATORS, ids=str)
def test_indicators(indicator: tuple[Any, ...]) -> None:
    frame = pd.DataFrame({"high": HIGH, "low": LOW, "close": CLOSE})
    kind, *params = indicator
    found = indicators.KINDS[kind](frame, *params)
    assert len(found) == 7
    assert found.tolist()[2:] == pytest.approx(INDICATORS[indicator], abs=1e-6)


def test_an_indicator_is_computed_once_for_a_candle(store: Store) -> None:
    engine = Engine(NAMES, store, lambda order: True)
    engine.take(trades_of("AAPL.0", 3 * PER_BAR))
    assert engine.indicator("AAPL.0", "1h", "sma", (3,)) is None  # no candle yet
    first = engine.indicator("AAPL.0", "5m", "sma", (2,))
    assert first.tolist()[1:] == [126.155]
    assert engine.indicator("AAPL.0", "5m", "sma", (2,)) is first
    engine.take(trades_of("AAPL.0", PER_BAR, 3 * PER_BAR))
    second = engine.indicator("AAPL.0", "5m", "sma", (2,))
    assert second.tolist()[1:] == pytest.approx([126.155, 125.0])
    assert store.stats()["indicators"]["misses"] == 2
    assert store.stats()["indicators"]["hits"] == 1


def test_all_that_is_kept_is_bounded_and_what_is_newest_is_kept(store: Store) -> None:
    engine = Engine(NAMES, store, lambda order: True)
    run_through(engine, 215)
    kept = store.sizes()
    # 215 bars, of which the last is open; 200 candles of 5 min, 71 and 17 others
    assert kept["candles"] == 4 * (200 + 71 + 17)
    assert kept["trades"] == 4 * 5000
    assert kept["indicators"] == 500
    assert kept["tables"] == 1
    assert store.candles("AAPL.0", "5m")["time"].tolist()[::199] == [
        14 * 300,
        213 * 300,
    ]
    for number in range(6000):
        store.add_fill(number, "IBM.0", 1, 2, 10.0, 0.0)
    assert store.sizes()["fills"] == 5000
    assert store.turnover() == 100_000.0
    assert store.stats()["tables"]["active"] == 0
    assert store.stats()["pool"]["current"] == 12


def test_under_pressure_the_indicators_go_and_come_back(store: Store) -> None:
    engine = Engine(NAMES, store, lambda order: True)
    run_through(engine, 30)
    before = store.sizes()["indicators"]
    assert before == 500
    with memguard.ResourceManager({"max_memory_mb": 1}) as manager:
        manager.memory_monitor.optimize_memory("aggressive")
        until(lambda: store.sizes()["indicators"] < before)
    engine.take(trades_of("AAPL.0", PER_BAR + 1, 30 * PER_BAR))
    while engine.decide_next():
        pass
    values = engine.indicator("AAPL.0", "5m", "sma", (2,))
    frame = store.candles("AAPL.0", "5m")
    assert values[-1] == pytest.approx(frame["close"].iloc[-2:].sum() / 2)


def orders_of(kept: Any) -> tuple[list[Any], float]:
    """What an engine that keeps things there orders, each filled at once."""
    orders: list[Any] = []

    def send(order: Any) -> bool:
        orders.append((order.time, order.instrument, order.side, order.quantity))
        engine.fill(order, engine.markets[order.instrument].last, 0.5)
        return True

    engine = Engine(NAMES, kept, send)
    run_through(engine, 120)
    return orders, engine.profit()


def test_it_decides_as_the_plain_ones_do(store: Store) -> None:
    """What the benchmark compares with is the same engine."""
    ours = orders_of(store)
    assert len(ours[0]) > 3
    for plain in (PlainStore, LeanStore):
        assert ours == orders_of(plain(NAMES, TIMEFRAMES, COLUMNS))


def test_orders_make_positions_and_profit(store: Store) -> None:
    orders: list[Any] = []
    engine = Engine(NAMES, store, lambda order: not orders.append(order))
    engine.take(trades_of("AAPL.0", 1))
    order = session.Order(0, "AAPL.0", 1, 10, 0.0)
    engine.fill(order, 118.0, 0.5)
    market = engine.markets["AAPL.0"]
    assert (market.position, market.cash, market.last) == (10, -1180.5, 118.56)
    assert engine.profit() == pytest.approx(5.1)
    engine.fill(session.Order(1, "AAPL.0", -1, 20, 0.0), 120.0, 0.5)
    assert (market.position, market.cash) == (-10, 1219.0)


# --- Over the wire ------------------------------------------------------------


def test_a_day_over_the_wire_brings_each_trade_once(store: Store) -> None:
    async def run(url: str) -> session.Session:
        async with trading(url, store) as (day, links):
            await day.run()
            assert links.get_stats()["max"] == 8
            assert links.get_stats()["created"] <= 4
        return day

    with feeding("--rate", 40_000, "--instruments", 4, "--hours", 8) as (_, url):
        day = asyncio.run(run(url))
    engine = day.engine
    assert engine.trades == day.received == 4 * 96 * PER_BAR
    assert engine.duplicates == 0
    assert [m.next_trade for m in engine.markets.values()] == [96 * PER_BAR] * 4
    assert engine.candles == 4 * (96 + 32 + 8)
    assert engine.orders == engine.fills + engine.refused
    assert engine.fills == store.sizes()["fills"] > 0
    book = engine.markets["IBM.0"]
    assert (len(book.bids), len(book.asks)) == (10, 10)
    assert book.spread > 0
    assert dict(day.failures) == {}
    first = store.candles("MSFT.0", "5m").iloc[1].tolist()
    assert first == [300, 91.81, 95.37, 91.12, 93.37, 53466300]


def test_a_feed_that_is_killed_and_comes_back_loses_nothing(store: Store) -> None:
    options = ("--rate", 8000, "--instruments", 4, "--hours", 12)

    async def run() -> session.Session:
        with feeding(*options) as (process, url):
            port = url.rpartition(":")[2]
            async with trading(url, store, attempts=1000) as (day, _):
                running = asyncio.create_task(day.run())
                for _ in range(2):
                    seen = day.engine.trades
                    await until_async(lambda: day.engine.trades > seen + 2000)  # noqa: B023
                    process.kill()
                    process.wait()
                    failed = sum(day.failures.values())
                    await until_async(lambda: sum(day.failures.values()) > failed + 2)  # noqa: B023
                    again = feeding(*options, "--port", port)
                    process, _ = stack.enter_context(again)
                await running
        return day

    with contextlib.ExitStack() as stack:
        day = asyncio.run(run())
    engine = day.engine
    assert engine.trades == 4 * 144 * PER_BAR
    assert [m.next_trade for m in engine.markets.values()] == [144 * PER_BAR] * 4
    assert engine.candles == 4 * (144 + 48 + 12)
    assert day.failures["FeedLostError"] >= 6
    assert day.returns >= 4
    assert store.candles("AAPL.0", "1h")["volume"].iloc[0] == sum(
        bar.volume for bar in history.bars_of("AAPL")[:12]
    )


# --- The program --------------------------------------------------------------


@contextmanager
def program(folder: Path, *options: object) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "TMPDIR": str(folder), "MEMGUARD_LONG_PAUSE": "60s"}
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "trading"), "--json", *map(str, options)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    end = time.monotonic() + SECONDS
    for line in process.stdout:
        yield json.loads(line)
        assert time.monotonic() < end, "waited too long"


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def test_it_tunes_under_load_and_ends_cleanly(tmp_path: Path) -> None:
    with program(tmp_path, "--rate", 2000) as process:
        for line in lines(process):
            if line["done"] > 1000 and line["tuning"].endswith("(kept)"):
                break
        feed = children_of(process.pid)
        assert len(feed) == 1
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    end = json.loads(out.splitlines()[-1])
    assert (end["event"], end["error"]) == ("end", None)
    assert end["in"] == end["done"] == sum(end["next_trade"].values())
    assert end["fds"] < 500
    assert not Path(f"/proc/{feed[0]}").exists()
    assert os.listdir(tmp_path) == []


def test_a_whole_day_ends_by_itself(tmp_path: Path) -> None:
    options = ("--rate", 50_000, "--hours", 4, "--instruments", 2)
    with program(tmp_path, *options) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    end = json.loads(out.splitlines()[-1])
    assert end["done"] == 2 * 48 * PER_BAR
    assert end["candles"] == 2 * (48 + 16 + 4)
    assert end["kept"]["trades"] == 2 * 48 * PER_BAR
    assert os.listdir(tmp_path) == []


def test_a_feed_that_is_no_feed_ends_the_program_with_a_clear_error(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}"
    with program(tmp_path, "--url", url, "--attempts", 3) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert f"trading: FeedLostError: {url} cannot be reached" in err
    assert "Traceback" not in err
    assert json.loads(out.splitlines()[-1])["error"].startswith("FeedLostError: ")


def test_the_tool_takes_a_baseline_of_the_running_engine(tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    (tmp_path / "tmp").mkdir()
    with program(tmp_path / "tmp", "--rate", 1000) as process:
        next(line for line in lines(process) if line["done"] > 0)
        command = [
            TOOL, "baseline", "--pid", str(process.pid), "--duration", "0.5",
            "--runs", "2", "--save", path,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert (done.returncode, done.stderr) == (0, "")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
    run = json.loads(path.read_text())["runs"][1]
    assert 20 < run["peak_rss"] < 256
    assert 10 < run["fds"] < 500
    same = [TOOL, "compare", path, path, "--json"]
    done = subprocess.run(same, capture_output=True, text=True, timeout=SECONDS)
    row = json.loads(done.stdout)["metrics"][0]
    assert (row["name"], row["verdict"]) == ("peak_rss", "same")


@pytest.mark.parametrize("option", ["--rate", "--hours", "--instruments"])
def test_wrong_usage(option: str, tmp_path: Path) -> None:
    with program(tmp_path, option, "0") as process:
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert f"{option}: 0 is not above 0" in err
