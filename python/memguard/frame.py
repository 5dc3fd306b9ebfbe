"""FrameWindow: the newest rows as a DataFrame or an array, without a copy."""

from __future__ import annotations

from memguard import _life
from memguard import pool as pools
from memguard._core import AbsentError, ReturnedError
from memguard.reuse import CANDLE, RingBuffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_DOUBLE = 8  # bytes


class FrameWindow(RingBuffer, _life.Returning):
    """A RingBuffer in one block of memory rented from a MemoryPool, so that any of
    its windows is a DataFrame or an array without being copied.

    `pool`: None is shared_pool(). return_() gives the block back, and so does the
    end of a `with` block; frames and arrays that live then keep it until they go.
    A program that follows a thousand symbols, or one after another, uses the same
    blocks again and again, where it would make a DataFrame of each window.

    One thread appends. Raises as RingBuffer, and as MemoryPool.rent().
    """

    def __init__(
        self,
        max_candles: int = 200,
        columns: Sequence[str] = CANDLE,
        *,
        pool: pools.MemoryPool | None = None,
    ) -> None:
        self._pool = pools.shared_pool() if pool is None else pool
        super().__init__(max_candles, columns)

    def _make_room(self, columns: int) -> list[Any]:
        ring = 2 * self._slots
        self._block = self._pool.rent(columns * ring * _DOUBLE)
        self._numbers: Any = self._block.memory.cast("d")
        return [self._numbers[ring * n : ring * (n + 1)] for n in range(columns)]

    def array(self, n: int | None = None) -> Any:
        """The newest `n` rows, all if None, as a read-only numpy array of doubles,
        one column of it for each: a view of the memory, with the same bounds in
        time as column(). Raises AbsentError without numpy, ConfigTypeError,
        RangeError, ReturnedError."""
        try:
            import numpy as np
        except ImportError:
            raise AbsentError("a window as an array needs numpy") from None
        if self._block.returned:
            raise ReturnedError("a FrameWindow is used after its return")
        window = self._window(n)
        shape = len(self._views), 2 * self._slots
        whole = np.frombuffer(self._numbers.toreadonly(), "d").reshape(shape)
        return whole[:, window].T

    def frame(self, n: int | None = None) -> Any:
        """array() as a pandas DataFrame with the names of the columns, on the same
        memory. Raises AbsentError without pandas, else as array()."""
        try:
            from pandas import DataFrame
        except ImportError:
            raise AbsentError("a window as a DataFrame needs pandas") from None
        return DataFrame(self.array(n), columns=self.columns, copy=False)

    @property
    def returned(self) -> bool:
        """Whether it was returned."""
        return self._block.returned

    def return_(self) -> None:
        """Gives the memory back to the pool: there are no rows any more, and none
        can be added. Raises ReturnedError the second time."""
        self._block.return_()
        self.clear()
        for view in (*self._views.values(), *self._data, self._numbers):
            view.release()
        nothing: Any = memoryview(b"").cast("d")
        self._views = dict.fromkeys(self._views, nothing)

    def append(self, *values: float) -> None:
        """RingBuffer.append(). Raises ReturnedError after the return."""
        try:
            super().append(*values)
        except ValueError:
            if self._block.returned:
                raise ReturnedError("a FrameWindow is used after its return") from None
            raise
