"""ResourceManager: a monitor, buffers and resources under one roof."""

from __future__ import annotations

import os
import sys
from itertools import count

from memguard import _core, _life, _log
from memguard._core import ClosedError, ConfigTypeError, InvalidError
from memguard.buffer import BufferManager
from memguard.config import nested, resolve
from memguard.monitor import MemoryMonitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, TypeVar

    from memguard._caches import Registration
    from memguard._leak_detector import LeakDetector
    from memguard.config import Path
    from memguard.pool import MemoryPool
    from memguard.tuning import GCTuner

    T = TypeVar("T")

_MB = 1048576


class ResourceStats:
    """What ResourceManager.get_resource_stats() tells."""

    __slots__ = {
        "buffer_count": "Buffers that exist.",
        "file_handles": "Open file descriptors of the process; None without /proc.",
        "gc_collections": "Collections that memguard made, asked to or by itself.",
        "last_cleanup_time": "When cleanup() last ran, seconds since 1970; 0.0: never.",
        "memory_usage_mb": "Resident set now, in MB; None without /proc.",
        "peak_memory_mb": "Highest resident set seen, in MB; None without /proc.",
        "temp_files": "Registered temporary files.",
    }

    def __init__(
        self,
        memory_usage_mb: float | None = None,
        buffer_count: int = 0,
        file_handles: int | None = None,
        temp_files: int = 0,
        peak_memory_mb: float | None = None,
        gc_collections: int = 0,
        last_cleanup_time: float = 0.0,
    ) -> None:
        self.memory_usage_mb = memory_usage_mb
        self.buffer_count = buffer_count
        self.file_handles = file_handles
        self.temp_files = temp_files
        self.peak_memory_mb = peak_memory_mb
        self.gc_collections = gc_collections
        self.last_cleanup_time = last_cleanup_time

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResourceStats):
            return NotImplemented
        return all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{n}={getattr(self, n)!r}" for n in self.__slots__)
        return f"ResourceStats({fields})"


class _Entry:
    """A resource: what to call with what, once."""

    __slots__ = ("args", "function")

    def __init__(
        self, function: Callable[..., object], args: tuple[object, ...]
    ) -> None:
        self.function = function
        self.args = args


class _Managed:
    """What managed_resource() returns."""

    __slots__ = ("_cleanup", "_id", "_manager", "_resource")

    def __init__(
        self,
        manager: ResourceManager,
        resource: Any,
        cleanup: Callable[[Any], object],
    ) -> None:
        self._manager = manager
        self._resource = resource
        self._cleanup = cleanup
        self._id = 0

    def __enter__(self) -> Any:
        self._id = self._manager._register("object", self._cleanup, self._resource)
        return self._resource

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager._run(self._id)


class ResourceManager(_core.Manager, _life.Closing):
    """Watches memory, sizes buffers by it and cleans up, each resource once.

    `config`: a mapping of settings by section, or flat
    (`{"memory_monitor": {"max_memory_mb": 512}}`, `{"max_memory_mb": 512}`).
    `profile`: development, production, high-load, queue-development or
    queue-production. `file`: YAML, JSON or TOML. `environment`: whether
    MEMGUARD_* variables count (also MEMGUARD_PROFILE and MEMGUARD_CONFIG, a
    path), or a mapping in place of os.environ. Precedence, lowest first: profile,
    file, environment, config.

    Raises ConfigKeyError (names the nearest key), ConfigTypeError, RangeError,
    ConflictError, InvalidError; OSError for a file that cannot be read.

    Under pressure above 0.9 every buffer that has a sink is flushed to it.

    As a context manager it closes itself. What a program leaves open is cleaned
    up when the object goes, with a ResourceWarning, or when the interpreter ends.
    After a fork the child has the manager without the resources and buffered
    items, which stay the parent's.
    """

    memory_monitor: MemoryMonitor
    """The monitor; lives as long as the manager."""

    buffer_manager: BufferManager
    """The buffers; live as long as the manager."""

    config: Mapping[str, Any]
    """The mapping the program gave."""

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        profile: str | None = None,
        file: Path | None = None,
        environment: bool | Mapping[str, str] = True,
    ) -> None:
        settings = resolve(config, profile=profile, file=file, environment=environment)
        self.config = {} if config is None else config
        self._entries: dict[int, _Entry] = {}
        self._tokens = count(1)
        self._is_cleaned = False
        self._open(settings)
        self.buffer_manager = BufferManager._of(self)
        self.memory_monitor = MemoryMonitor._of(self, self.buffer_manager)
        self._attach(self.memory_monitor, self.buffer_manager)
        _life.add(self)
        self.memory_monitor._begin()

    # ---- settings ----------------------------------------------------------

    @property
    def settings(self) -> dict[str, dict[str, bool | int | float]]:
        """The settings in force, by section and name; durations in seconds."""
        return nested(self.memory_monitor._read_settings())

    @property
    def segment_path(self) -> str | None:
        """Path of the file in which this process shows itself to the memguard tool;
        None while no monitor runs, or with `segment_enabled` false."""
        return self.memory_monitor.segment_path

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Changes settings while running, all or none. Raises as the constructor;
        then nothing has changed."""
        self.memory_monitor.update_config(config)

    # ---- memory ------------------------------------------------------------

    @property
    def gc_tuner(self) -> GCTuner:
        """The GCTuner of the monitor; see MemoryMonitor.gc_tuner."""
        return self.memory_monitor.gc_tuner

    @property
    def leak_detector(self) -> LeakDetector:
        """The LeakDetector of the monitor, which runs while the manager does unless
        leak_detection is off; see MemoryMonitor.leak_detector."""
        return self.memory_monitor.leak_detector

    def get_memory_pressure(self) -> float:
        """The pressure now, 0.0 (none) to 1.0; runs waiting callbacks."""
        return self.memory_monitor.check_memory_pressure()

    def get_resource_stats(self) -> ResourceStats:
        """Numbers of the process and the manager, read now."""
        stats = self._stats()
        rss, peak = stats["rss_bytes"], stats["peak_rss_bytes"]
        return ResourceStats(
            memory_usage_mb=None if rss is None else rss / _MB,
            buffer_count=stats["buffer_count"],
            file_handles=stats["fd_count"],
            temp_files=stats["temp_file_count"],
            peak_memory_mb=None if peak is None else peak / _MB,
            gc_collections=stats["collections"],
            last_cleanup_time=stats["last_cleanup_unix_ms"] / 1000,
        )

    @property
    def pool(self) -> MemoryPool:
        """A MemoryPool with the manager's settings of section pool, made when first
        asked for; close() closes it. Raises ClosedError."""
        monitor = self.memory_monitor
        with monitor._settings_lock:
            if monitor._pool is None:
                from memguard.pool import MemoryPool

                if self.closed:
                    raise ClosedError("ResourceManager is closed")
                monitor._pool = MemoryPool._of(monitor._read_settings())
            return monitor._pool

    # ---- buffers -----------------------------------------------------------

    def create_buffer(
        self, name: str, sink: Callable[[list[Any]], object] | None = None
    ) -> list[Any]:
        """BufferManager.create_buffer()."""
        self._note_use()
        return self.buffer_manager.create_buffer(name, sink)

    def flush_buffer(self, name: str) -> list[Any]:
        """BufferManager.flush_buffer()."""
        return self.buffer_manager.flush_buffer(name)

    # ---- resources ---------------------------------------------------------

    def register_temp_file(self, path: str | bytes | os.PathLike[Any]) -> None:
        """Has a file removed at clean-up; one already gone is fine, one that
        cannot be removed is logged. A relative path is made absolute now.

        Raises ConfigTypeError, InvalidError (empty, too long, with a NUL).
        """
        self._note_use()
        try:
            name = os.fsencode(path)
        except TypeError:
            raise ConfigTypeError(
                f"path is {path!r}, allowed: str, bytes or os.PathLike"
            ) from None
        if b"\0" in name:
            raise InvalidError(f"path is {path!r}, which has a NUL in it")
        self._add_file(name)

    def register_cleanup_callback(self, callback: Callable[[], object]) -> None:
        """Has `callback()` called at clean-up, newest first. One that raises is
        logged and the others still run. Raises ConfigTypeError."""
        self._note_use()
        self._register("callback", callback)

    def managed_resource(
        self, resource: T, cleanup: Callable[[T], object]
    ) -> AbstractContextManager[T]:
        """For `with`: gives `resource` to the block and calls `cleanup(resource)`
        at its end, or at the manager's clean-up, whichever comes first, once. A
        clean-up that raises is logged. Raises ConfigTypeError."""
        if not callable(cleanup):
            raise ConfigTypeError(f"cleanup is {cleanup!r}, allowed: a callable")
        self._note_use()
        return _Managed(self, resource, cleanup)

    @property
    def managed_resources(self) -> list[Any]:
        """Objects of managed_resource() not cleaned up yet, oldest first."""
        return [entry.args[0] for entry in list(self._entries.values()) if entry.args]

    @property
    def cleanup_callbacks(self) -> list[Callable[..., object]]:
        """Callbacks registered and not called yet, oldest first."""
        entries = list(self._entries.values())
        return [entry.function for entry in entries if not entry.args]

    def register_cache(self, cache: Any, **options: Any) -> Registration:
        """memguard.register_cache() until clean-up, which unregisters it."""
        from memguard._caches import _register_cache

        self._note_use()
        return _register_cache(cache, id(self), **options)

    def _register(
        self, kind: str, function: Callable[..., object], *args: object
    ) -> int:
        if not callable(function):
            raise ConfigTypeError(f"callback is {function!r}, allowed: a callable")
        token = next(self._tokens)
        self._entries[token] = _Entry(function, args)
        try:
            return self._add(kind, token)
        except BaseException:
            del self._entries[token]
            raise

    def _run_entry(self, token: int) -> bool:
        """Called by the core, once for each token. Returns whether it worked."""
        entry = self._entries.pop(token, None)
        if entry is None:
            return True
        try:
            entry.function(*entry.args)
        except Exception:
            _log.failure("clean-up %r failed", entry.function)
            return False
        return True

    def _unlink_failed(self, path: str, system_errno: int) -> None:
        """Called by the core."""
        reason = os.strerror(system_errno)
        _log.warning("temporary file %s could not be removed: %s", path, reason)

    # ---- clean-up ----------------------------------------------------------

    def cleanup(self) -> None:
        """Flushes buffers to their sinks, runs every clean-up, newest first, and
        forgets both. Nothing runs twice, whoever calls this how often.

        Items of a buffer without a sink stay in its list and are warned of; a
        buffer whose sink raises stays, with its items. Failures are logged.
        Background sampling stops. The manager remains usable: its next use is
        warned of and starts sampling again.
        """
        if self.closed:
            return
        try:
            self.buffer_manager.cleanup_all_buffers()
        finally:
            left = self._cleanup()[2]
            if caches := sys.modules.get("memguard._caches"):
                caches.unregister_of(id(self))
            self._is_cleaned = True
            if not self.closed:  # a clean-up may have closed it
                self.memory_monitor._stop()
        if left:
            _log.warning("clean-up ended with %d new resources left over", left)

    def close(self) -> None:
        """cleanup(), and the end: the monitor stops and later use raises
        ClosedError. Idempotent."""
        if self.closed:
            return
        _life.remove(self)
        try:
            self.cleanup()
        finally:
            self.buffer_manager._give_up()
            if self.memory_monitor._pool is not None:
                self.memory_monitor._pool.close()
            self.memory_monitor._end_detector()
            self.memory_monitor._close_alerts()
            self._close()

    def __del__(self) -> None:
        if self.closed:
            return
        resources = len(self._entries) + len(self.temp_files)
        buffers = len(self.buffer_manager.active_buffers)
        if resources or buffers:
            import warnings

            warnings.warn(
                f"ResourceManager was dropped without close(): cleaning up "
                f"{buffers} buffers and {resources} resources",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
        self.close()

    def _note_use(self) -> None:
        if self._is_cleaned and not self.closed:
            _log.warning("a ResourceManager is used after its cleanup()")
            self._reopen()

    def _reopen(self) -> None:
        if self._is_cleaned and not self.closed:
            self._is_cleaned = False
            self.memory_monitor._begin()

    def _at_exit(self) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        self._entries.clear()
        self._after_fork()
        self.buffer_manager._after_fork_in_child()
        self.memory_monitor._after_fork_in_child()
