"""How objects end: with a block, with the interpreter, and what a fork does to them.

Of forks and of the interpreter's end whoever is alive is told, newest first; objects
are held weakly.
"""

from __future__ import annotations

import atexit
import os
import sys
from _weakref import ref

from memguard import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol, Self

    class Closable(Protocol):
        def close(self) -> None: ...

    class AsyncClosable(Protocol):
        async def close(self) -> None: ...

    class Returnable(Protocol):
        @property
        def returned(self) -> bool: ...

        def return_(self) -> None: ...

    class Mortal(Protocol):
        """What an object here brings."""

        def _at_exit(self) -> None: ...

        def _after_fork_in_child(self) -> None: ...


_live: dict[int, ref[Mortal]] = {}
_exiting = False


class Closing:
    """A `with` block ends with close()."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self: Closable,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClosing:
    """An `async with` block ends with close()."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self: AsyncClosable,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class Returning:
    """A `with` block ends with return_(), unless it was returned inside."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self: Returnable,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.returned:
            self.return_()


def add(mortal: Mortal) -> None:
    """Tells `mortal` of forks and of the end, until remove() or its own end."""
    key = id(mortal)
    _live[key] = ref(mortal, lambda _: _live.pop(key, None))


def remove(mortal: Mortal) -> None:
    """Forgets `mortal`."""
    _live.pop(id(mortal), None)


def is_exiting() -> bool:
    """Whether the interpreter ends: what goes with it need not be put right."""
    return _exiting


def _living() -> list[Mortal]:
    known = [reference() for reference in list(_live.values())]
    return [mortal for mortal in reversed(known) if mortal is not None]


def _at_exit() -> None:
    from memguard import _log

    global _exiting
    _exiting = True
    for mortal in _living():
        try:
            mortal._at_exit()
        except Exception:
            _log.failure("%r could not be closed at exit", mortal)
    _core._begin_exit()


def _after_fork_in_child() -> None:
    for mortal in _living():
        mortal._after_fork_in_child()
    _core._fork_child()
    # Children of multiprocessing end by os._exit(), but run its finalizers. What
    # was registered before the fork is forgotten there.
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util.register_after_fork(_mark_exit_later, _mark_exit_later)


def _mark_exit_later(_: object) -> None:
    from multiprocessing.util import Finalize

    Finalize(None, _core._segment_mark_exit, exitpriority=0)


atexit.register(_at_exit)
os.register_at_fork(
    before=_core._fork_prepare,
    after_in_parent=_core._fork_parent,
    after_in_child=_after_fork_in_child,
)
