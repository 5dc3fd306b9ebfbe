"""What of memguard is written in C. Programs import memguard instead."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self, final

from memguard._core_census import Census as Census
from memguard._core_census import census_difference as census_difference
from memguard._core_census import census_is_alone as census_is_alone
from memguard._core_census import census_referrers as census_referrers
from memguard._core_decide import LevelTracker as LevelTracker
from memguard._core_decide import Policy as Policy
from memguard._core_decide import Recycle as Recycle
from memguard._core_decide import Tuner as Tuner
from memguard._core_encoding import decode_base64 as decode_base64
from memguard._core_encoding import encode_base64 as encode_base64
from memguard._core_encoding import encode_utf8 as encode_utf8
from memguard._core_encoding import encode_utf8_into as encode_utf8_into
from memguard._core_encoding import pooled_copy as pooled_copy
from memguard._core_leak import Detector as Detector
from memguard._core_pool import Pool as Pool
from memguard._core_pool import PooledBuffer as PooledBuffer
from memguard._core_pool import PooledBufferWriter as PooledBufferWriter
from memguard._core_web import Site as Site
from memguard._core_web import WebResponse as WebResponse

version: str
"""Version of memguard, e.g. "0.1.0"."""

EVENTS: tuple[str, ...]
"""Names of all events."""

def segment_path() -> str | None:
    """Path of the file in which this process shows itself to the memguard tool;
    None while it does not. Any thread."""

def _metrics_text(openmetrics: bool, compatible: bool, /) -> str: ...
def _metrics_collect(
    compatible: bool, workers: bool = False, /
) -> list[
    tuple[
        str,
        str,
        str,
        str,
        list[tuple[dict[str, str], float, list[tuple[float, int]] | None]],
    ]
]: ...
def _metrics_read(data: bytes, openmetrics: bool, groups: int, /) -> str: ...

_SEGMENT_LAYOUT: tuple[int, int]

def _metrics_add_connections(change: int, /) -> None: ...
def _metrics_rows() -> list[tuple[str, str, str, str, bool]]: ...
def _segment_problem() -> str | None: ...
def _segment_mark_exit() -> None: ...

class MemguardError(RuntimeError):
    """Base of all errors of memguard."""

    code: str
    """A stable string, the same in Node, e.g. "ERR_MEMGUARD_RANGE"."""

class InvalidError(MemguardError, ValueError):
    """An argument that makes no sense."""

class NoMemoryError(MemguardError, MemoryError):
    """Out of memory."""

class SystemCallError(MemguardError, OSError):
    """A system call failed; `errno` says how."""

class ConfigKeyError(MemguardError, KeyError):
    """An unknown configuration key; the message names the nearest known one."""

class ConfigTypeError(MemguardError, TypeError):
    """A value of the wrong type."""

class RangeError(MemguardError, ValueError):
    """A value out of its range, which the message names."""

class ConflictError(MemguardError, ValueError):
    """Values that contradict each other."""

class ClosedError(MemguardError):
    """Used after close()."""

class AbsentError(MemguardError):
    """Not available on this machine."""

class ExistsError(MemguardError, ValueError):
    """Exists already."""

class NotFoundError(MemguardError, KeyError):
    """There is no such thing."""

class HostError(MemguardError):
    """A callback of the program failed."""

class WaitTimeoutError(MemguardError, TimeoutError):
    """Waited as long as allowed, in vain."""

class ReturnedError(MemguardError, ValueError):
    """A rental was returned already."""

class ForeignError(MemguardError, ValueError):
    """A handle is not of this pool."""

class EncodingError(MemguardError, ValueError):
    """Text or data is not encoded as it should be, or cannot be encoded; the
    message says where."""

class BrokenConnectionError(MemguardError, ConnectionError):
    """A connection broke; the message says what was done for certain."""

    confirmed: Any
    """What the server acknowledged before: a number, or ids."""
    unknown: Any
    """What was sent, but not answered: a number, or ids."""

class MemoryLeakDetected(MemguardError, AssertionError):  # noqa: N818 - a verdict
    """What was run leaks memory; the message says what grew, and how fast."""

    findings: list[Any]
    """A memguard.leak.LeakFinding for each kind of thing that grew."""

def rss_bytes() -> int | None:
    """Resident set of this process in bytes, read now; None without /proc."""

def process_info() -> dict[str, int | None]:
    """Readings of the process and the machine that are too costly for every
    sample, by name; None where one is not known. Takes some 100 us. Raises
    AbsentError if libproc2 cannot be used.

    rss_peak_bytes, rss_anonymous_bytes, rss_file_bytes, rss_shared_bytes,
    swap_bytes, locked_bytes, major_faults, minor_faults, threads, cpu_ms,
    machine_total_bytes, machine_available_bytes, machine_cached_bytes,
    machine_swap_total_bytes, machine_swap_free_bytes."""

@final
class Settings:
    """One set of settings, starting out as a profile's."""

    def __new__(cls, profile: str = "default") -> Self: ...
    @property
    def profile(self) -> str: ...
    def set(self, path: str, value: object) -> None: ...
    def get(self, path: str) -> float: ...
    def set_environment(self, variables: Sequence[str]) -> None: ...
    def check(self) -> None: ...
    def copy(self) -> Settings: ...
    def rows(self) -> list[tuple[str, str, str, float]]: ...
    @classmethod
    def is_section(cls, name: str) -> bool: ...
    @classmethod
    def is_key(cls, path: str) -> bool: ...

@final
class Sample:
    """What was known about the process at one moment. Immutable; usable from any
    thread. A reading that is not known is None."""

    @property
    def number(self) -> int:
        """1 for the first sample of a monitor; 0: there is none yet."""

    @property
    def clock_ns(self) -> int:
        """Monotonic clock in nanoseconds, as time.monotonic_ns()."""

    @property
    def unix_ms(self) -> int:
        """Wall clock, milliseconds since 1970."""

    @property
    def peak_rss_bytes(self) -> int:
        """Highest resident set in any sample so far."""

    @property
    def usage(self) -> float:
        """Highest ratio of use to limit over the domains; may exceed 1.0."""

    @property
    def pressure(self) -> float:
        """Usage held inside 0.0 to 1.0."""

    @property
    def domain(self) -> str:
        """The domain that usage comes from: cgroup, machine, address, data, heap,
        max_heap, max_memory or none."""

    @property
    def level(self) -> str:
        """normal, elevated, high or critical."""

    @property
    def rss_bytes(self) -> int | None:
        """Resident set of the process."""

    @property
    def shared_bytes(self) -> int | None:
        """Part of the resident set backed by files or shared."""

    @property
    def virtual_bytes(self) -> int | None:
        """Mapped address space."""

    @property
    def data_bytes(self) -> int | None:
        """Data and stack, as counted against RLIMIT_DATA."""

    @property
    def machine_available_bytes(self) -> int | None:
        """Memory the machine can still give out."""

    @property
    def machine_total_bytes(self) -> int | None:
        """Memory of the machine."""

    @property
    def cgroup_used_bytes(self) -> int | None:
        """Use of the control group nearest its limit, without page cache."""

    @property
    def cgroup_limit_bytes(self) -> int | None:
        """Limit of that control group."""

    @property
    def address_limit_bytes(self) -> int | None:
        """Soft RLIMIT_AS."""

    @property
    def data_limit_bytes(self) -> int | None:
        """Soft RLIMIT_DATA."""

    @property
    def stall_total_us(self) -> int | None:
        """Time some task was stalled for memory, microseconds since boot."""

    @property
    def fd_count(self) -> int | None:
        """Open file descriptors."""

    @property
    def thread_count(self) -> int | None:
        """Threads of the process."""

    @property
    def heap_used_bytes(self) -> int | None:
        """Runtime heap in use; known where collect_memory_stats() took it."""

    @property
    def heap_total_bytes(self) -> int | None:
        """Runtime heap reserved."""

    @property
    def heap_limit_bytes(self) -> int | None:
        """Largest heap the runtime allows itself; CPython has no such limit."""

    @property
    def external_bytes(self) -> int | None:
        """Memory outside the heap owned by heap objects; Node only."""

    @property
    def array_buffer_bytes(self) -> int | None:
        """Part of it held by array buffers; Node only."""

    @property
    def block_bytes(self) -> int | None:
        """Bytes in use on the runtime's own heap, when last looked at."""

    @property
    def block_total_bytes(self) -> int | None:
        """Bytes reserved for that heap, at the same moment."""

    @property
    def block_idle_bytes(self) -> int | None:
        """Part of them without anything in it."""

    @property
    def heap_objects(self) -> int | None:
        """Blocks on that heap, at the same moment."""

    @property
    def malloc_used_bytes(self) -> int | None:
        """Bytes in use of the C allocator, as told with that."""

    @property
    def malloc_total_bytes(self) -> int | None:
        """Bytes reserved by the C allocator, at the same moment."""

    @property
    def total_alloc_bytes(self) -> int | None:
        """Bytes the runtime allocated so far, freed ones too; Node only."""

    @property
    def cpu_us(self) -> int | None:
        """CPU time of the process, in microseconds."""

    @property
    def active_connections(self) -> int | None:
        """Connections in use of the program's pools."""

    def as_dict(self) -> dict[str, int | float | str | None]:
        """Every attribute in a new dict, by name."""

@final
class Buffer:
    """Statistics of one buffer, always as they are now; stats.flush_count and
    stats["flush_count"] are the same."""

    @property
    def created_time(self) -> float:
        """When the buffer was made, seconds since 1970."""

    @property
    def max_size_reached(self) -> int:
        """Longest length seen by a check or a flush, in items."""

    @property
    def flush_count(self) -> int:
        """Flushes that took at least one item."""

    @property
    def flushed_items(self) -> int:
        """Items taken by those flushes."""

    @property
    def current_size(self) -> int:
        """Items the buffer is meant to hold now; follows the pressure."""

    @property
    def flush_at(self) -> int:
        """Length from which the buffer should be flushed now, in items."""

    @property
    def has_sink(self) -> bool:
        """Whether flushed items go to a sink."""

    @property
    def is_flushing(self) -> bool:
        """Whether a flush is under way."""

    def keys(self) -> list[str]:
        """Names of the statistics, which are attributes too."""

    def __getitem__(self, key: str) -> Any: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

class Monitor:
    """Base of memguard.MemoryMonitor."""

    @property
    def latest(self) -> Sample:
        """The latest Sample; its `number` is 0 if there is none yet. Reads
        nothing. Raises ClosedError."""

    @property
    def pressure(self) -> float:
        """Pressure of the latest sample, 0.0 to 1.0. Reads nothing."""

    @property
    def operation_count(self) -> int:
        """Operations of the program counted so far."""

    @property
    def is_monitoring(self) -> bool:
        """Whether samples are taken in the background."""

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used."""

    @property
    def events_lost(self) -> int:
        """Events evicted from a full queue before anybody took them."""

    @property
    def object_counters(self) -> dict[str, int]:
        """Values of the registered object counters, by key, in a new dict."""

    max_memory_mb: float
    """Resident memory to stay under, in MB. May be set."""

    pressure_threshold: float
    """Pressure from which callbacks run, 0.01 to 1.0. May be set."""

    monitoring_interval: int
    """Operations of the program between two checks. May be set."""

    def check_memory_pressure(self) -> float:
        """The pressure now, 0.0 (none) to 1.0 (a limit is reached or passed).

        Reads the process unless that was done less than 20 ms ago, counts one
        operation, and runs waiting callbacks in this thread. Any thread. Raises
        ClosedError."""

    def _open(self, source: Settings | Manager, /) -> None: ...
    def _start(self) -> None: ...
    def _stop(self) -> None: ...
    def _pass(self, record: bool, /) -> Sample: ...
    def _collect(self) -> Sample: ...
    def _history(self, since_unix_ms: int, max: int, /) -> list[Sample]: ...
    def _trends(self, count: int, /) -> tuple[dict[str, Any], dict[str, Any]]: ...
    def _read_settings(self) -> Settings: ...
    def _configure(self, settings: Settings, /) -> None: ...
    def _reset(self) -> None: ...
    def _collected(self) -> None: ...
    def _set_tick(self, ms: float, /) -> None: ...
    def _close(self) -> None: ...
    def _after_fork(self) -> None: ...
    def _counter_register(self, key: str, /) -> None: ...
    def _counter_add(self, key: str, delta: int, /) -> int: ...
    def _counter_reset(self, key: str, /) -> None: ...
    def _next_event(self) -> dict[str, Any] | None: ...
    def _health(self) -> tuple[str, list[tuple[str, str]]]: ...
    def _reclaim(
        self, actions: Sequence[str], reason: str, share: float, /
    ) -> dict[str, Any]: ...
    def _rounds(self, max: int, /) -> list[dict[str, Any]]: ...
    def _reclaim_stats(self) -> dict[str, Any]: ...
    def _spent(self, gc_ms: float, /) -> None: ...
    def _alerts(self, after: int, /) -> str: ...
    def _alert_number(self) -> int: ...

class Buffers:
    """Base of memguard.BufferManager."""

    @property
    def active_buffers(self) -> MappingProxyType[str, list[Any]]:
        """The lists by name: a read-only view that follows changes."""

    @property
    def buffer_stats(self) -> MappingProxyType[str, Buffer]:
        """Statistics by name: a read-only view that follows changes."""

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used."""

    def create_buffer(
        self, name: str, sink: Callable[[list[Any]], object] | None = None
    ) -> list[Any]:
        """The list of buffer `name`, made if there is none: append to it.

        `sink(items)` gets the items of each flush as a list. The same name again
        gives the same list; with another sink it raises ConflictError. Also
        raises ConfigTypeError, InvalidError (a name of more than 255 bytes or
        none) and ClosedError. Any thread."""

    def should_flush_buffer(
        self, name: str, memory_pressure: float | None = None
    ) -> bool:
        """Whether the buffer is long enough to be flushed, at a pressure of 0.0
        to 1.0 or at the present one. Raises NotFoundError, RangeError,
        ConfigTypeError and ClosedError. Any thread."""

    def flush_buffer(self, name: str, /) -> list[Any]:
        """Takes all items out of the buffer, in one step.

        Without a sink they are returned. With one they are given to it and an
        empty list is returned; if it raises, what it left in its list goes back
        to the front of the buffer and the exception goes on. Flushes of one
        buffer take turns; from inside a sink a flush that would have to wait
        returns an empty list at once. Raises NotFoundError and ClosedError. Any
        thread."""

    def _open(self, source: Settings | Manager, /) -> None: ...
    def _drop(self, name: str, /) -> None: ...
    def _read_settings(self) -> Settings | None: ...
    def _configure(self, settings: Settings, /) -> None: ...
    def _close(self) -> None: ...
    def _after_fork(self) -> None: ...

class Manager:
    """Base of memguard.ResourceManager."""

    @property
    def temp_files(self) -> list[str]:
        """Absolute paths of the registered temporary files, oldest first, in a
        new list."""

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used."""

    def should_flush_buffer(self, name: str, /) -> bool:
        """Whether buffer `name` is long enough to be flushed at the present
        pressure.

        Cheap enough to be called for every item. Each call counts one operation;
        every `monitoring_interval` of them the pressure is read anew. Waiting
        callbacks run in this thread. Raises NotFoundError, ConfigTypeError and
        ClosedError. Any thread."""

    def _open(self, settings: Settings, /) -> None: ...
    def _attach(self, monitor: Monitor, buffers: Buffers, /) -> None: ...
    def _close(self) -> None: ...
    def _add(self, kind: str, token: int, /) -> int: ...
    def _add_file(self, path: bytes, /) -> None: ...
    def _run(self, id: int, /) -> bool: ...
    def _cleanup(self) -> tuple[int, int, int]: ...
    def _after_fork(self) -> None: ...
    def _stats(self) -> dict[str, Any]: ...

GC_PROFILES: dict[str, tuple[int, int, int]]
GC_DEFAULT: tuple[int, int, int]

def _gc_window(seconds: int, /) -> tuple[int, float, int, float, int, float]: ...
def _gc_can_roll() -> bool: ...
def _gc_roll(most: int, /) -> tuple[int, int, bool]: ...
def _gc_roll_mark() -> None: ...
def _call_in_main(call: Callable[[], object], /) -> bool: ...
def usage(
    reading: Mapping[str, int | None], settings: Settings, /
) -> tuple[float, str]: ...
def sample_due_ms(usage: float, rate_per_ms: float, longest_ms: float, /) -> float: ...
def budget_bytes(limit_bytes: int | None, usage: float, /) -> int | None: ...
def pool_capacity(size: int, /) -> int: ...
def pool_tier(capacity: int, /) -> str: ...
def pool_trim(low_water: int, /) -> int: ...
def pool_cache_limit(class_bytes: int, cache_bytes: int, level: str, /) -> int: ...
def pool_cache_next(
    capacity: int, limit: int, misses: int, low_water: int, /
) -> int: ...
def v8_advice(
    limit_bytes: int | None, node_major: int, headroom: float, share: float, /
) -> dict[str, int | bool | None]: ...
def buffer_size_next(size: int, pressure: float, settings: Settings, /) -> int: ...
def buffer_flush_at(size: int, pressure: float, settings: Settings, /) -> int: ...
def trend(
    points: Sequence[tuple[float, int | None]], /
) -> tuple[str, float, float, int]: ...
def leak_replay(
    settings: Settings,
    points: tuple[tuple[str, float, float], ...],
    limits: tuple[float, float, float, float, float, float],
    /,
) -> list[tuple[Any, ...]]: ...

ALERTS: tuple[str, ...]
ALERT_FACTS: tuple[str, ...]
LEAK_SIGNALS: tuple[str, ...]

def alert_replay(settings: Settings, numbers: tuple[float, ...], /) -> str: ...
def _outbox_open(
    format: int,
    resend_ms: float,
    least_ms: float,
    retry_first_ms: float,
    retry_most_ms: float,
    pid: int,
    service: str,
    program: str,
    runtime: str,
    instance: str,
    runbook: str,
    /,
) -> object: ...
def _outbox_begin(
    outbox: object, monitor: Monitor, with_active: bool, now_ms: float, /
) -> None: ...
def _outbox_follow(outbox: object, monitor: Monitor, now_ms: float, /) -> None: ...
def _outbox_due(outbox: object, now_ms: float, /) -> float: ...
def _outbox_take(
    outbox: object, now_ms: float, unix_ms: float, is_last: bool, /
) -> str | None: ...
def _outbox_done(
    outbox: object, was_accepted: bool, wait_ms: float, now_ms: float, /
) -> None: ...
def _outbox_stats(outbox: object, /) -> dict[str, int]: ...
def _allocator_install() -> bool: ...
def _allocator_read() -> dict[str, int | None]: ...
def _malloc_bytes() -> int | None: ...
def _trim_malloc() -> bool: ...
def _fork_prepare() -> None: ...
def _fork_parent() -> None: ...
def _fork_child() -> None: ...
def _begin_exit() -> None: ...
def _gc_observe() -> None: ...
def _gc_is_observed() -> bool: ...
def _gc_pauses(generation: int | None, /) -> dict[str, Any]: ...
def _gc_set_long(ms: float, /) -> None: ...
def _gc_set_quiet(s: float, /) -> None: ...
def _gc_take_long() -> tuple[list[tuple[int, float, int | None]], int] | None: ...

OPTIMIZER_FIELDS: tuple[str, ...]
OPTIMIZE_REASONS: tuple[str, ...]
OPTIMIZE_REPORTS: int
STRATEGIES: tuple[str, ...]
LEVELS: tuple[str, ...]

def _optimizer_init() -> bytearray: ...
def _optimizer_read(state: bytearray, /) -> tuple[float, ...]: ...
def _optimizer_due(
    state: bytearray,
    settings: Settings,
    now_ms: float,
    usage: float,
    level: int,
    is_growing: bool,
    time_to_limit_ms: float,
    engine_acted_ms: float,
    /,
) -> int: ...
def _optimizer_may(
    state: bytearray, reason: int, is_forced: bool, now_ms: float, /
) -> bool: ...
def _optimizer_done(
    state: bytearray,
    reason: int,
    is_success: bool,
    freed_bytes: int,
    took_ms: float,
    now_ms: float,
    /,
) -> None: ...
def _strategy_for(reason: int, is_aggressive: bool, /) -> int: ...
def _strategy_plan(
    strategy: int,
    round: int,
    elapsed_ms: float,
    freed_bytes: int | None,
    used_bytes: int | None,
    /,
) -> tuple[tuple[str, ...], float, bool, bool]: ...
def _freed_bytes(
    rss_before: int | None,
    heap_before: int | None,
    rss_after: int | None,
    heap_after: int | None,
    /,
) -> int: ...
def _measure() -> tuple[int | None, int | None]: ...

WEB_BODY_BYTES: int
WEB_HEADER_BYTES: int

def _web_refuse(status: int, text: str, /) -> WebResponse: ...
def _web_find_token(path: str | os.PathLike[str] | None, /) -> str | None: ...
def _web_is_loopback(address: str, /) -> bool: ...
