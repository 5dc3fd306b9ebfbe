"""BufferManager: named lists whose size follows the memory pressure."""

from __future__ import annotations

from memguard import _core, _life, _log
from memguard.config import apply, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

    from memguard.config import Path

# A sink that appends to its own buffer is served this often by one clean-up.
_ROUNDS = 10


class BufferManager(_core.Buffers, _life.Closing):
    """Buffers by name. A buffer is a plain list that the program appends to.

    A sink is called as `sink(items)` with a list of what was flushed. It may keep
    that list. If it raises, what is left in the list goes back to the front of
    the buffer, so a sink that removes what it has written loses and repeats
    nothing.

    `config`: the settings of the section buffer_manager, flat or nested; see
    ResourceManager for the other arguments. Usable alone: then the program tells
    the pressure to should_flush_buffer().
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        profile: str | None = None,
        file: Path | None = None,
        environment: bool | Mapping[str, str] = True,
    ) -> None:
        settings = resolve(config, profile=profile, file=file, environment=environment)
        self._open(settings)
        self._set_up(settings)
        _life.add(self)

    @classmethod
    def _of(cls, manager: _core.Manager) -> Self:
        """The buffers of a manager."""
        self = cls.__new__(cls)
        self._open(manager)
        self._set_up(None)
        return self

    def _set_up(self, settings: _core.Settings | None) -> None:
        self._own_settings = settings
        self._complaints = _log.Complaints()

    @property
    def _settings(self) -> _core.Settings:
        settings = self._own_settings or self._read_settings()
        assert settings is not None  # one or the other
        return settings

    @property
    def default_buffer_size(self) -> int:
        """Items a new buffer holds before it should be flushed."""
        return int(self._settings.get("buffer_manager.default_buffer_size"))

    @property
    def max_buffer_size(self) -> int:
        """Largest size a buffer grows to, in items."""
        return int(self._settings.get("buffer_manager.max_buffer_size"))

    @property
    def min_buffer_size(self) -> int:
        """Smallest size a buffer shrinks to, in items."""
        return int(self._settings.get("buffer_manager.min_buffer_size"))

    @property
    def auto_resize(self) -> bool:
        """Whether buffer sizes follow the pressure."""
        return bool(self._settings.get("buffer_manager.auto_resize"))

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Changes settings, all or none, of the whole manager if it has one.
        Raises as the constructor; then nothing has changed."""
        settings = self._settings.copy()
        apply(settings, config)
        settings.check()
        self._configure(settings)
        if self._own_settings is not None:
            self._own_settings = settings

    def cleanup_buffer(self, name: str) -> bool:
        """Flushes a buffer to its sink and forgets it.

        Without a sink the items stay in the list, which is the program's, and
        are warned of. Returns whether it is gone: False if there is no such
        buffer, or if a flush under way still needs it. If the sink raises, the
        exception goes on and the buffer stays.
        """
        if name not in self.buffer_stats:
            return False
        items, stats = self.active_buffers[name], self.buffer_stats[name]
        for _ in range(_ROUNDS if stats.has_sink else 0):
            if not items:
                break
            self.flush_buffer(name)
        if stats.is_flushing or (items and stats.has_sink):
            return False
        if items:
            _warn_of_left(name, items)
        self._drop(name)
        return True

    def cleanup_all_buffers(self) -> None:
        """cleanup_buffer() for each. A sink that raises is logged; its buffer
        stays, with its items."""
        for name in list(self.buffer_stats):
            try:
                self.cleanup_buffer(name)
            except Exception:
                _log.failure("the sink of buffer %r failed; its items stay", name)

    def close(self) -> None:
        """cleanup_all_buffers(), and the end: later use raises ClosedError. Items
        that no sink took stay in their lists and are warned of. Idempotent."""
        if self.closed:
            return
        _life.remove(self)
        try:
            self.cleanup_all_buffers()
        finally:
            self._give_up()
            self._close()

    def _give_up(self) -> None:
        """Forgets buffers that could not be emptied."""
        for name, items in list(self.active_buffers.items()):
            if items:
                _warn_of_left(name, items)
            self._drop(name)

    def _flush_sinks(self) -> None:
        """Under full pressure: everything that has a sink goes there, unless it
        is being flushed already."""
        for name, stats in list(self.buffer_stats.items()):
            if not stats.has_sink or stats.is_flushing:
                continue
            try:
                self.flush_buffer(name)
            except Exception:
                self._complaints.failed(
                    name, "the sink of buffer %r failed; its items wait", name
                )
            else:
                self._complaints.worked(name)

    def _at_exit(self) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        self._after_fork()


def _warn_of_left(name: str, items: list[Any]) -> None:
    _log.warning("buffer %r is gone: its %d items stay in the list", name, len(items))
