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
    BrokenConnectionError,
    ClosedError,
    ConfigKeyError,
    ConfigTypeError,
    ConflictError,
    EncodingError,
    ExistsError,
    ForeignError,
    HostError,
    InvalidError,
    MemguardError,
    MemoryLeakDetected,
    NoMemoryError,
    NotFoundError,
    PooledBuffer,
    PooledBufferWriter,
    RangeError,
    ReturnedError,
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
    from memguard._caches import (
        Registration,
        cache_stats,
        pool_stats,
        register_cache,
        register_pool,
    )
    from memguard._gc_settings import (
        GC_PROFILES,
        apply_gc_profile,
        freeze,
        freeze_before_fork,
        temporary_gc_settings,
        unfreeze,
    )
    from memguard._leak_detector import LeakDetector
    from memguard.connection_pool import (
        AsyncManagedConnectionPool,
        ManagedConnectionPool,
    )
    from memguard.fd_watch import FdWatch
    from memguard.frame import FrameWindow
    from memguard.leak import LeakCulprit, LeakFinding, assert_no_leak, find_leaks
    from memguard.metrics import Metric, MetricSample, collect_metrics, metrics_text
    from memguard.optimizer import MemoryOptimizationService
    from memguard.pool import MemoryPool, ObjectPool, PooledArray, shared_pool
    from memguard.queue_memory import QueueMemory
    from memguard.resource import ResourceType
    from memguard.reuse import IndicatorCache, ReusePool, RingBuffer
    from memguard.tuning import GCTuner
    from memguard.web import serve

__version__ = version

# Imported when first asked for: most programs need few of them, and enum, which
# ResourceType is made of, is slow to import.
_LAZY = {
    "GCTuner": "tuning",
    "GC_PROFILES": "_gc_settings",
    "apply_gc_profile": "_gc_settings",
    "freeze": "_gc_settings",
    "freeze_before_fork": "_gc_settings",
    "temporary_gc_settings": "_gc_settings",
    "unfreeze": "_gc_settings",
    "AsyncManagedConnectionPool": "connection_pool",
    "FdWatch": "fd_watch",
    "FrameWindow": "frame",
    "IndicatorCache": "reuse",
    "LeakCulprit": "leak",
    "LeakDetector": "_leak_detector",
    "LeakFinding": "leak",
    "ManagedConnectionPool": "connection_pool",
    "MemoryOptimizationService": "optimizer",
    "MemoryPool": "pool",
    "Metric": "metrics",
    "MetricSample": "metrics",
    "ObjectPool": "pool",
    "PooledArray": "pool",
    "QueueMemory": "queue_memory",
    "Registration": "_caches",
    "ResourceType": "resource",
    "ReusePool": "reuse",
    "RingBuffer": "reuse",
    "assert_no_leak": "leak",
    "cache_stats": "_caches",
    "collect_metrics": "metrics",
    "find_leaks": "leak",
    "metrics_text": "metrics",
    "pool_stats": "_caches",
    "register_cache": "_caches",
    "register_pool": "_caches",
    "serve": "web",
    "shared_pool": "pool",
}

__all__ = [
    "GC_PROFILES",
    "AbsentError",
    "AsyncManagedConnectionPool",
    "BrokenConnectionError",
    "BufferManager",
    "ClosedError",
    "ConfigKeyError",
    "ConfigTypeError",
    "ConflictError",
    "EncodingError",
    "ExistsError",
    "FdWatch",
    "ForeignError",
    "FrameWindow",
    "GCTuner",
    "HostError",
    "IndicatorCache",
    "InvalidError",
    "LeakCulprit",
    "LeakDetector",
    "LeakFinding",
    "ManagedConnectionPool",
    "MemguardError",
    "MemoryLeakDetected",
    "MemoryMonitor",
    "MemoryOptimizationService",
    "MemoryPool",
    "Metric",
    "MetricSample",
    "NoMemoryError",
    "NotFoundError",
    "ObjectPool",
    "PooledArray",
    "PooledBuffer",
    "PooledBufferWriter",
    "QueueMemory",
    "RangeError",
    "Registration",
    "ResourceManager",
    "ResourceStats",
    "ResourceType",
    "ReturnedError",
    "ReusePool",
    "RingBuffer",
    "StageBase",
    "SystemCallError",
    "WaitTimeoutError",
    "apply_gc_profile",
    "assert_no_leak",
    "cache_stats",
    "collect_metrics",
    "find_leaks",
    "freeze",
    "freeze_before_fork",
    "load_config",
    "metrics_text",
    "pool_stats",
    "process_info",
    "register_cache",
    "register_pool",
    "rss_bytes",
    "serve",
    "shared_pool",
    "temporary_gc_settings",
    "unfreeze",
    "version",
]


def __getattr__(name: str) -> object:
    """A name that stands in another module, kept here from then on."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"{__name__}.{_LAZY[name]}", fromlist=[name])
    found: object = getattr(module, name)
    globals()[name] = found
    return found
