"""Events of an object, told to listeners of the program."""

from __future__ import annotations

from memguard import _log
from memguard._core import ConfigTypeError, InvalidError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Listener = Callable[[dict[str, Any]], object]


class Emitter:
    """Has events that on() names."""

    def __init__(self, events: tuple[str, ...]) -> None:
        self._events = events
        self._listeners: dict[str, list[Listener]] = {}
        self._complaints = _log.Complaints()

    def on(self, event: str, listener: Listener) -> None:
        """Has `listener(payload)` called for each `event`; what it raises is logged.
        Raises InvalidError, which names the events, and ConfigTypeError."""
        if event not in self._events:
            raise InvalidError(f"event {event!r}, allowed: {', '.join(self._events)}")
        if not callable(listener):
            raise ConfigTypeError(f"listener is {listener!r}, allowed: a callable")
        self._listeners.setdefault(event, []).append(listener)

    def off(self, event: str, listener: Listener) -> None:
        """Ends what on() began. Does nothing if it did not."""
        listeners = self._listeners.get(event, [])
        if listener in listeners:
            listeners.remove(listener)

    def _emit(self, event: str, payload: dict[str, Any]) -> None:
        for listener in tuple(self._listeners.get(event, ())):
            try:
                listener(payload)
            except Exception:
                self._complaints.failed(id(listener), "listener %r failed", listener)
            else:
                self._complaints.worked(id(listener))
