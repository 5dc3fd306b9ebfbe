"""How busy an asyncio loop is, by callbacks of its own."""

from __future__ import annotations

import asyncio
from _weakref import ref
from contextlib import suppress
from time import monotonic, thread_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Listener(Protocol):
        """Whoever wants to know."""

        def _note_load(self, source: object, load: float) -> None: ...


_INTERVAL_S = 0.25
_WEIGHT = 0.5  # of the newest measurement in the moving average


class LoopWatch:
    """Tells a listener the load of a loop, four times a second.

    Load is the share of CPU time of the loop's thread, or what the lateness of a
    timer says, whichever is higher: a loop that blocks without computing is late.
    A timer handle, no task: nothing is left when the loop closes, and nothing
    keeps it from that.
    """

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = ref(listener)
        self._loop = ref(loop)
        self._handle: asyncio.TimerHandle | None = None
        self._load = 0.0
        self._is_over = False
        with suppress(RuntimeError):  # closed already
            loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._due = 0.0
        self._cpu = thread_time()
        self._at = monotonic()
        self._again()

    def _again(self) -> None:
        loop = self._loop()
        if self._is_over or loop is None or self._listener() is None:
            return
        self._due = loop.time() + _INTERVAL_S
        self._handle = loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        loop, listener = self._loop(), self._listener()
        if loop is None or listener is None or self._is_over:
            return
        late = max(0.0, loop.time() - self._due)
        cpu, at = thread_time(), monotonic()
        busy = (cpu - self._cpu) / max(at - self._at, 1e-3)
        self._cpu, self._at = cpu, at
        load = min(1.0, max(busy, late / (late + _INTERVAL_S)))
        self._load += _WEIGHT * (load - self._load)
        listener._note_load(self, self._load)
        self._again()

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it watches `loop`."""
        return self._loop() is loop

    def stop(self) -> None:
        """Ends it; from any thread, whatever became of the loop."""
        self._is_over = True
        loop = self._loop()
        if loop is not None:
            with suppress(RuntimeError):  # closed: the handle went with it
                loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
