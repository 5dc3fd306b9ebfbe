"""Code of the program that an optimization calls, run where it can do no harm."""

from __future__ import annotations

import os
import threading

from memguard import _core, _log
from memguard._core import ConfigTypeError, MemguardError
from memguard._optimize import freed_bytes, now_ms, step
from memguard.monitor import _takes_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from memguard._optimize import Step

_IS_COROUTINE = 0x80  # inspect.CO_COROUTINE


class Guest:
    """A strategy, a clean-up or a pool's method of the program."""

    __slots__ = ("_has_failed", "_is_busy", "function", "kind", "name", "priority")

    def __init__(
        self, name: str, kind: str, function: Callable[..., object], priority: float = 0
    ) -> None:
        if not callable(function):
            raise ConfigTypeError(f"{kind} is {function!r}, allowed: a callable")
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _IS_COROUTINE:
            raise ConfigTypeError(
                f"{kind} {name!r} is async, allowed: a plain function"
            )
        self.name = name
        self.kind = kind
        self.function = function
        self.priority = priority
        self._is_busy = False  # a thread is still in it
        self._has_failed = False

    def after_fork(self) -> None:
        """The thread that was in it is the parent's."""
        self._is_busy = False

    def run(
        self, context: dict[str, Any], timeout_s: float, threads: set[int | None]
    ) -> Step:
        """Calls it in a thread of its own and waits `timeout_s` at most. What does
        not end is left behind, and not begun again before it has ended."""
        if self._is_busy:
            return step(self.name, self.kind, "skipped", 0, error="busy")
        before, began_ms = _core._measure(), now_ms()
        outcome, error = self._attempt(context, timeout_s, threads)
        duration_ms = now_ms() - began_ms
        freed = freed_bytes(before, _core._measure())
        return step(self.name, self.kind, outcome, duration_ms, freed, error)

    def _attempt(
        self, context: dict[str, Any], timeout_s: float, threads: set[int | None]
    ) -> tuple[str, str | None]:
        ended, is_late = threading.Event(), threading.Event()
        errors: list[str] = []

        def work() -> None:
            threads.add(threading.get_ident())
            try:
                self._call({**context, "cancelled": is_late.is_set})
            except BaseException as error:
                errors.append(name_of(error))
                self.complain(f"failed: {name_of(error)} at {_site_of(error)}")
            finally:
                self._is_busy = False
                ended.set()

        self._is_busy = True
        try:
            threading.Thread(
                target=work, name=f"memguard-{self.kind}", daemon=True
            ).start()
        except RuntimeError as error:  # no thread to be had
            self._is_busy = False
            return "failed", name_of(error)
        if not ended.wait(timeout_s):
            is_late.set()
            self.complain("did not end in time")
            return "timeout", None
        return ("failed", errors[0]) if errors else ("done", None)

    def _call(self, context: dict[str, Any]) -> None:
        if _takes_one(self.function):
            self.function(context)
        else:
            self.function()

    def complain(self, what: str) -> None:
        """Logs it, the first time."""
        if not self._has_failed:
            self._has_failed = True
            _log.warning(
                "%s %r of an optimization %s (told once)", self.kind, self.name, what
            )


def name_of(error: BaseException) -> str:
    """An error as a name: its text may hold data of the program."""
    return error.code if isinstance(error, MemguardError) else type(error).__name__


def _site_of(error: BaseException) -> str:
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return "?"
    return f"{os.path.basename(at.tb_frame.f_code.co_filename)}:{at.tb_lineno}"
