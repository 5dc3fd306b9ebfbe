"""memguard: one ResourceManager that watches memory, sizes buffers, cleans up.

    import memguard

    with memguard.ResourceManager({"max_memory_mb": 512}) as manager:
        rows = manager.create_buffer("rows", sink=write_rows)
        for row in source:
            rows.append(row)
            if manager.should_flush_buffer("rows"):
                manager.flush_buffer("rows")

Units: MB is 1 048 576 bytes; names end in their unit (_mb, _bytes, _ms). Ratios
run from 0.0 to 1.0. What cannot be known is None, never a made-up number.

Threads: everything here may be used from any thread. Callbacks and sinks run in
the thread whose call finds that they are due, unless `background_callbacks` is
set.

Errors are subclasses of MemguardError with a stable `code`; each is also the
builtin that fits (ConfigKeyError is a KeyError, RangeError a ValueError, ...).
"""

from __future__ import annotations

from memguard._core import (
    AbsentError,
    ClosedError,
    ConfigKeyError,
    ConfigTypeError,
    ConflictError,
    ExistsError,
    HostError,
    InvalidError,
    MemguardError,
    NoMemoryError,
    NotFoundError,
    RangeError,
    SystemCallError,
    WaitTimeoutError,
    process_info,
    rss_bytes,
    version,
)
from memguard.buffer import BufferManager
from memguard.config import load_config
from memguard.manager import ResourceManager, ResourceStats
from memguard.monitor import MemoryMonitor
from memguard.stage import StageBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.optimizer import MemoryOptimizationService
    from memguard.queue_memory import QueueMemory
    from memguard.resource import ResourceType

__version__ = version

__all__ = [
    "AbsentError",
    "BufferManager",
    "ClosedError",
    "ConfigKeyError",
    "ConfigTypeError",
    "ConflictError",
    "ExistsError",
    "HostError",
    "InvalidError",
    "MemguardError",
    "MemoryMonitor",
    "MemoryOptimizationService",
    "NoMemoryError",
    "NotFoundError",
    "QueueMemory",
    "RangeError",
    "ResourceManager",
    "ResourceStats",
    "ResourceType",
    "StageBase",
    "SystemCallError",
    "WaitTimeoutError",
    "load_config",
    "process_info",
    "rss_bytes",
    "version",
]


# Made when first asked for: what they need is slow to import.
_LATE = {
    "MemoryOptimizationService": "optimizer",
    "QueueMemory": "queue_memory",
    "ResourceType": "resource",
}


def __getattr__(name: str) -> object:
    """What of the public names is imported late."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = found
    return found
