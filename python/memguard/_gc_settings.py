"""Settings of this interpreter's collector: profiles, temporary ones, freezing.

They belong to the interpreter, not to a thread: whoever sets them, sets them for
all. Blocks of temporary settings may overlap in any order; the newest that says
something about a setting counts.
"""

from __future__ import annotations

import gc
import os
import sys
from _thread import allocate_lock, get_ident
from types import MappingProxyType

from memguard import _core
from memguard._core import ConfigTypeError, InvalidError, RangeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    Thresholds = tuple[int, int, int]

# In these versions the second threshold says how much of the heap an increment
# looks at: what steady and throughput say of generations must not reach it.
_IS_INCREMENTAL = (3, 14, 0) <= sys.version_info[:3] < (3, 14, 5)


def _profiles() -> dict[str, Thresholds]:
    made = {**_core.GC_PROFILES, "default": _core.GC_DEFAULT}
    if _IS_INCREMENTAL:
        for name in ("rolling", "steady", "throughput"):
            made[name] = (made[name][0], *_core.GC_DEFAULT[1:])
    return made


GC_PROFILES: MappingProxyType[str, Thresholds] = MappingProxyType(_profiles())
"""Thresholds by name. "default" is what the interpreter had when memguard was
imported; high-frequency, conservative and aggressive are for heaps that are
collected whole; steady and throughput go with freeze(); rolling is for GCTuner,
which collects the old in parts then (not in CPython 3.14.0 to 3.14.4)."""

_THRESHOLD_MAX = 2**31 - 1
_FROZEN_LEAST = 10_000  # CPython 3.12 begins with some hundred frozen objects
_GROWN = 1.1  # live blocks since the last freeze that make another one worth it


def thresholds_of(profile: str) -> Thresholds:
    """Raises InvalidError for an unknown name, ConfigTypeError for no name."""
    if not isinstance(profile, str):
        raise ConfigTypeError(f"profile is {profile!r}, allowed: a str")
    try:
        return GC_PROFILES[profile]
    except KeyError:
        allowed = ", ".join(GC_PROFILES)
        raise InvalidError(f"GC profile {profile!r}, allowed: {allowed}") from None


def apply_gc_profile(profile: str) -> Thresholds:
    """Sets the thresholds of a profile of GC_PROFILES. Returns the former ones,
    for gc.set_threshold(*former).

    A running GCTuner sees that the program decides by itself, and steps back.
    Raises InvalidError for an unknown name. Any thread.
    """
    wanted = thresholds_of(profile)
    former = gc.get_threshold()
    gc.set_threshold(*wanted)
    return former


# ---- temporary settings -----------------------------------------------------


class _Block:
    """One block under way."""

    __slots__ = ("enabled", "freezes", "thread", "threshold")

    def __init__(self, threshold: Thresholds | None, enabled: bool | None) -> None:
        self.threshold = threshold
        self.enabled = enabled
        self.freezes = False
        self.thread = get_ident()


_lock = allocate_lock()
_blocks: list[_Block] = []
_base: tuple[Thresholds, bool] = (gc.get_threshold(), gc.isenabled())


def blocks_active() -> bool:
    """Whether temporary settings are in force."""
    return bool(_blocks)


def freezes_before_fork() -> bool:
    """Whether the program asked for that."""
    return _before_fork


def is_frozen() -> bool:
    """Whether much is frozen. Takes the longer the more there is."""
    return gc.get_freeze_count() >= _FROZEN_LEAST


def _put_in_force() -> None:
    threshold, enabled = _base
    for block in _blocks:
        threshold = block.threshold or threshold
        enabled = enabled if block.enabled is None else block.enabled
    gc.set_threshold(*threshold)
    if enabled:
        gc.enable()
    else:
        gc.disable()


def _begin(block: _Block, freeze_too: bool) -> None:
    global _base
    with _lock:
        if not _blocks:
            _base = (gc.get_threshold(), gc.isenabled())
        _blocks.append(block)
        _put_in_force()
    # Afterwards, and only what can be undone: unfreezing gives back everything.
    if freeze_too and not is_frozen():
        block.freezes = True
        gc.collect()
        gc.freeze()


def _end(block: _Block) -> None:
    with _lock:
        if block not in _blocks:  # a fork came between
            return
        _blocks.remove(block)
        _put_in_force()
    if block.freezes:
        gc.unfreeze()


class temporary_gc_settings:  # noqa: N801 - used as a function
    """For `with`: other settings of the collector inside the block, the former
    ones afterwards, also when the block raises.

    `profile` (of GC_PROFILES) or `threshold` (three ints), `enabled` (whether
    automatic collections run at all), `freeze` (True: collects, then hides what is
    alive from the collector for the time of the block; does nothing while
    much is frozen already). Blocks nest and overlap, in any thread; one
    object may be used again and again. A GCTuner waits until none is left.

    Raises InvalidError, ConfigTypeError, RangeError when made.
    """

    __slots__ = ("_enabled", "_freeze", "_open", "_threshold")

    def __init__(
        self,
        *,
        profile: str | None = None,
        threshold: tuple[int, int, int] | None = None,
        enabled: bool | None = None,
        freeze: bool = False,
    ) -> None:
        if profile is not None and threshold is not None:
            raise InvalidError("profile and threshold are given, allowed: one of them")
        if enabled is not None and not isinstance(enabled, bool):
            raise ConfigTypeError(f"enabled is {enabled!r}, allowed: a bool, None")
        self._threshold = (
            thresholds_of(profile) if profile is not None else _checked(threshold)
        )
        self._enabled = enabled
        self._freeze = freeze
        self._open: list[_Block] = []

    def __enter__(self) -> Self:
        block = _Block(self._threshold, self._enabled)
        self._open.append(block)
        _begin(block, self._freeze)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        thread = get_ident()
        for block in reversed(self._open):
            if block.thread == thread:
                self._open.remove(block)
                _end(block)
                return


def _checked(threshold: object) -> Thresholds | None:
    if threshold is None:
        return None
    if not isinstance(threshold, tuple | list) or len(threshold) != 3:
        raise ConfigTypeError(f"threshold is {threshold!r}, allowed: three ints")
    for number in threshold:
        if isinstance(number, bool) or not isinstance(number, int):
            raise ConfigTypeError(f"threshold is {threshold!r}, allowed: three ints")
        if not 0 <= number <= _THRESHOLD_MAX:
            raise RangeError(f"threshold {number}, allowed: 0 to {_THRESHOLD_MAX}")
    first, second, third = threshold
    return first, second, third


# ---- freezing ---------------------------------------------------------------

_listeners: list[Callable[[bool, float], None]] = []  # (is frozen, ms it took)
_frozen_blocks = 0  # live ones when it was last frozen for a fork
_before_fork = False
_is_registered = False


def freeze() -> int:
    """Collects garbage, then hides all that is alive from the collector: what was
    loaded at start need not be looked at again and again. Returns how many
    objects were collected.

    To be called when the program is warm. What dies later is freed as ever,
    unless it is part of a cycle: those are found after unfreeze(). A GCTuner
    freezes by itself and looks after that. Any thread.
    """
    from time import perf_counter

    began = perf_counter()
    collected = gc.collect()
    gc.freeze()
    # The collector weighs young objects against the old ones it counted last: now
    # there are none.
    gc.collect()
    for listener in tuple(_listeners):
        listener(True, (perf_counter() - began) * 1000)
    return collected


def unfreeze() -> None:
    """Shows all objects to the collector again; the next full collection looks at
    them. Any thread."""
    gc.unfreeze()
    for listener in tuple(_listeners):
        listener(False, 0.0)


def freeze_before_fork(enabled: bool = True) -> None:
    """Has garbage collected and the rest frozen before the process forks, so that
    collections in the children do not copy the pages they share with the parent.
    False ends that.

    For servers that load the application first and fork then; with gunicorn, in
    gunicorn.conf.py:

        preload_app = True

        import memguard
        memguard.freeze_before_fork()

    Later forks do so again only if the heap grew by a tenth. Does not affect
    subprocess, which runs another program.
    """
    global _before_fork, _is_registered, _frozen_blocks
    if not isinstance(enabled, bool):
        raise ConfigTypeError(f"enabled is {enabled!r}, allowed: a bool")
    if enabled and not _is_registered:
        _is_registered = True
        os.register_at_fork(before=_freeze_for_fork)
    if not enabled:
        _frozen_blocks = 0
    _before_fork = enabled


def _freeze_for_fork() -> None:
    global _frozen_blocks
    if not _before_fork:
        return
    if sys.getallocatedblocks() > _GROWN * _frozen_blocks:
        freeze()
        _frozen_blocks = sys.getallocatedblocks()


def _after_fork_in_child() -> None:
    """Blocks of threads that did not come along are over."""
    global _lock
    _lock = allocate_lock()
    here = get_ident()
    left = [block for block in _blocks if block.thread == here]
    if len(left) != len(_blocks):
        _blocks[:] = left
        _put_in_force()


os.register_at_fork(after_in_child=_after_fork_in_child)
