"""The part of MemoryMonitor that looks for leaks, and what is called regularly."""

from __future__ import annotations

from memguard import _core, _log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from memguard._leak_detector import LeakDetector
    from memguard.buffer import BufferManager
    from memguard.tuning import GCTuner

    class Ticker(Protocol):
        """Whoever wants to be called regularly."""

        def _tick(self) -> None: ...


class Watching(_core.Monitor):
    """Has a LeakDetector, and calls it and the tuner on memguard's thread."""

    _tuner: GCTuner | None
    _buffers: BufferManager | None
    _complaints: _log.Complaints

    def _set_up_watch(self) -> None:
        self._detector: LeakDetector | None = None
        self._ticks: dict[str, float] = {}
        self._tickers: tuple[Ticker, ...] = ()

    def _want_tick(self, who: str, every_ms: float) -> None:
        """Has _tick() called at least that often; 0: `who` needs none."""
        self._ticks[who] = every_ms
        wanted = [ms for ms in self._ticks.values() if ms > 0]
        self._set_tick(min(wanted, default=0.0))

    def _tick(self) -> None:
        """Called on memguard's thread."""
        self._tell_problem()
        if self._tuner is not None:
            self._tuner._tick()
        if self._detector is not None:
            self._detector._tick()
        for ticker in self._tickers:
            ticker._tick()

    def _add_ticker(self, ticker: Ticker, every_ms: float) -> None:
        """Has ticker._tick() called at least that often, while samples are taken. It
        must not raise."""
        self._tickers = (*self._tickers, ticker)
        self._want_tick(f"ticker {id(ticker)}", every_ms)

    def _remove_ticker(self, ticker: Ticker) -> None:
        self._tickers = tuple(one for one in self._tickers if one is not ticker)
        if self._ticks.pop(f"ticker {id(ticker)}", 0) and not self.closed:
            self._want_tick("ticker", 0.0)

    def _tell_problem(self) -> None:
        """Says why the tool cannot see this process, once."""
        problem = _core._segment_problem()
        if problem is not None:
            _log.warning("the memguard tool cannot see this process: %s", problem)

    @property
    def leak_detector(self) -> LeakDetector:
        """Its LeakDetector, made when first asked for; one that was closed is made
        anew. Raises ClosedError."""
        detector = self._detector
        if detector is None or detector.closed:
            from memguard._leak_detector import LeakDetector

            detector = LeakDetector(monitor=self)  # type: ignore[arg-type]
        return detector

    def _attach_detector(self, detector: LeakDetector | None) -> None:
        self._detector = detector
        if detector is None and not self.closed:
            self._want_tick("detector", 0.0)

    def _follow_leak_detection(self) -> None:
        """A manager looks for leaks while it runs, unless told not to."""
        wanted = self._buffers is not None and self._read_settings().get(
            "leak.leak_detection"
        )
        if self._detector is not None:
            self._detector._configure(self._read_settings())
        elif wanted and self.is_monitoring and not self.closed:
            try:
                self.leak_detector  # noqa: B018
            except Exception:
                self._complaints.failed("detector", "leaks are not looked for")

    def _end_detector(self) -> None:
        if self._detector is not None:
            self._detector.close()

    def _is_for_detector(self, event: dict[str, Any]) -> bool:
        return self._detector is not None and self._detector._hears(event)

    def _tell_detector(self, event: dict[str, Any], payload: dict[str, Any]) -> None:
        """Has it fill in what it found, and tell its own listeners."""
        detector = self._detector
        if detector is None:
            return
        detector._fill_in(event, payload)
        if detector._hears(event):
            detector._emit(event["event"], payload)
