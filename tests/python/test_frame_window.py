"""FrameWindow: windows of rows on pooled memory, as arrays and as DataFrames."""

import sys
from collections.abc import Iterator

import memguard
import numpy as np
import pytest
from memguard import FrameWindow, MemoryPool

try:
    import pandas as pd
except ImportError:
    pd = None


@pytest.fixture
def pool() -> Iterator[MemoryPool]:
    with MemoryPool({"leak_check": "paranoid"}, environment=False) as made:
        yield made


def filled(pool: MemoryPool, rows: int, keeps: int = 4) -> FrameWindow:
    window = FrameWindow(keeps, ("price", "volume"), pool=pool)
    for number in range(rows):
        window.append(number, -number)
    return window


def test_arrays_are_the_memory_itself(pool: MemoryPool) -> None:
    window = filled(pool, 6)
    array = window.array()
    assert array.tolist() == [[2, -2], [3, -3], [4, -4], [5, -5]]
    assert np.shares_memory(array, window.array(2))
    assert np.shares_memory(array, np.asarray(window.column("volume")))
    assert window.array(2).tolist() == [[4, -4], [5, -5]]
    assert window.array(0).shape == (0, 2)
    assert array.dtype == np.float64
    window.append(6, -6)
    assert array.tolist() == [[2, -2], [3, -3], [4, -4], [5, -5]]  # written beside
    assert window.array(1).tolist() == [[6, -6]]
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 5.0
    assert pool.stats()["current"] == 1
    del array
    window.return_()
    assert pool.stats()["current"] == 0


@pytest.mark.parametrize("rows", range(14))
def test_every_place_of_the_ring(pool: MemoryPool, rows: int) -> None:
    with filled(pool, rows) as window:
        kept = range(max(0, rows - 4), rows)
        assert window.array().tolist() == [[n, -n] for n in kept]
        assert len(window) == len(kept)
        assert list(window.column("price")) == list(kept)


def test_frames(pool: MemoryPool) -> None:
    window = filled(pool, 6)
    if pd is None:
        with pytest.raises(memguard.AbsentError, match="needs pandas"):
            window.frame()
    else:
        frame = window.frame(3)
        assert list(frame.columns) == ["price", "volume"]
        assert frame["volume"].tolist() == [-3, -4, -5]
        assert np.shares_memory(frame["price"].to_numpy(), window.array())
        assert frame["price"].rolling(2).mean().tolist()[1:] == [3.5, 4.5]
        assert pool.stats()["current"] == 1
        window.return_()
        assert pool.stats()["deferred_now"] == 1
        assert frame["price"].tolist() == [3, 4, 5]
        del frame
        assert pool.stats()["current"] == 0


def test_without_pandas(pool: MemoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with (
        filled(pool, 6) as window,
        pytest.raises(memguard.AbsentError, match="needs pandas"),
    ):
        window.frame()


def test_blocks_are_used_again() -> None:
    with MemoryPool({"leak_check": "disabled"}, environment=False) as pool:
        for number in range(500):
            with FrameWindow(200, pool=pool) as window:
                window.append(number, 1, 2, 0.5, 1.5, 100)
                assert window.array().tolist() == [[number, 1, 2, 0.5, 1.5, 100]]
        stats = pool.stats()
    assert (stats["rented"], stats["os_maps"]) == (500, 1)


def test_after_the_return(pool: MemoryPool) -> None:
    window = filled(pool, 6)
    array = window.array()
    window.return_()
    assert window.returned
    assert array.tolist()[3] == [5, -5]
    assert pool.stats()["deferred_now"] == 1
    with pytest.raises(memguard.ReturnedError):
        window.return_()
    with pytest.raises(memguard.ReturnedError, match="after its return"):
        window.append(1, 2)
    with pytest.raises(memguard.ReturnedError, match="after its return"):
        window.array()
    assert (len(window), list(window.column("price"))) == (0, [])
    del array
    assert pool.stats()["current"] == 0


def test_bad_windows(pool: MemoryPool) -> None:
    with pytest.raises(memguard.RangeError, match="max_candles is 0"):
        FrameWindow(0, pool=pool)
    with pytest.raises(memguard.InvalidError, match="columns is"):
        FrameWindow(5, (), pool=pool)
    with filled(pool, 2) as window:
        with pytest.raises(memguard.ConfigTypeError, match="volume is 'x'"):
            window.append(5, "x")  # type: ignore[arg-type]
        with pytest.raises(memguard.InvalidError, match="1 values, allowed"):
            window.append(5)
        with pytest.raises(memguard.RangeError, match="n is -1"):
            window.array(-1)
        assert window.array().tolist() == [[0, 0], [1, -1]]
    assert pool.stats()["current"] == 0
    with FrameWindow(5) as shared:
        assert shared.columns == ("time", "open", "high", "low", "close", "volume")
