"""A program that uses every part of memguard; `mypy --strict` accepts it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import memguard
from memguard import (
    BufferManager,
    MemoryMonitor,
    MemoryOptimizationService,
    QueueMemory,
    ResourceManager,
    ResourceStats,
    ResourceType,
    StageBase,
    decide,
    encoding,
    serializers,
    transports,
)


class Stage(StageBase):
    """A stage of a pipeline."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.written: list[bytes] = []
        self.packets: list[bytes] = self.resource_manager.create_buffer(
            "packets", self.write
        )

    def write(self, packets: list[bytes]) -> None:
        """The sink."""
        self.written.extend(packets)

    def process(self, packet: bytes) -> None:
        """Takes one packet."""
        self.packets.append(packet)
        if self.resource_manager.should_flush_buffer("packets"):
            self.resource_manager.flush_buffer("packets")

    def _cleanup_stage_specific(self) -> None:
        self.written.clear()


def on_pressure(pressure: float) -> None:
    """A pressure callback."""
    print(f"{pressure:.0%}")


def on_stats(stats: dict[str, Any]) -> None:
    """A listener."""
    print(stats["rss_mb"])


def use_manager(path: Path) -> ResourceStats:
    """Uses a manager."""
    config = {"memory_monitor": {"max_memory_mb": 512}}
    with ResourceManager(config, profile="production", environment=False) as manager:
        manager.memory_monitor.register_pressure_callback(on_pressure)
        manager.memory_monitor.pressure_callbacks.append(lambda: None)
        manager.register_temp_file(path)
        manager.register_cleanup_callback(lambda: None)
        with manager.managed_resource(open(path, "wb"), lambda f: f.close()) as file:
            file.write(b"x")
        rows: list[int] = manager.create_buffer("rows")
        rows.append(1)
        taken: list[int] = manager.flush_buffer("rows")
        pressure: float = manager.get_memory_pressure()
        manager.update_config({"max_memory_mb": 256})
        limit = manager.settings["memory"]["max_memory_mb"]
        paths: list[str] = manager.temp_files
        manager.cleanup()
        print(taken, pressure, limit, paths, manager.closed)
        return manager.get_resource_stats()


def use_monitor() -> float:
    """Uses a monitor alone."""
    with MemoryMonitor({"max_memory_mb": 512}) as monitor:
        monitor.on("stats:collected", on_stats)
        monitor.start_monitoring(1000)
        monitor.max_memory_mb = 256
        stats = monitor.collect_memory_stats()
        used = stats["heap_used"]
        sample = monitor.latest
        rss: int | None = sample.rss_bytes
        level: str = sample.level
        monitor.register_object_counter("sockets")
        count: int = monitor.increment_object_counter("sockets")
        monitor.off("stats:collected", on_stats)
        monitor.stop_monitoring()
        print(used, rss, level, count, monitor.health_check()["status"])
        return monitor.check_memory_pressure()


def use_buffers() -> int:
    """Uses buffers alone."""
    with BufferManager({"default_buffer_size": 10}) as buffers:
        buffers.create_buffer("rows", sink=print).append(1)
        if buffers.should_flush_buffer("rows", memory_pressure=0.95):
            buffers.flush_buffer("rows")
        created: float = buffers.buffer_stats["rows"].created_time
        flushes: int = buffers.buffer_stats["rows"]["flush_count"]
        for name, items in buffers.active_buffers.items():
            print(name, len(items), created)
        buffers.cleanup_all_buffers()
        return flushes


def drop_sessions(context: dict[str, Any]) -> None:
    """A strategy."""
    print(context["reason"])


class Queue:
    """A queue manager."""


def use_service() -> float:
    """Uses the optimizer."""
    config = {"memoryOptimization": {"threshold": 75}}
    with MemoryOptimizationService(config, profile="queue-production") as service:
        service.register_strategy("sessions", drop_sessions, priority=5)
        service.register_cleanup(lambda: None)
        service.on("optimization:completed", on_stats)
        service.start()
        memory = QueueMemory(service)
        memory.attach(Queue())
        report: dict[str, Any] = memory.optimize_memory(aggressive=True)
        status = memory.get_memory_status()
        monitor: MemoryMonitor = service.get_memory_monitor()
        print(status["health"]["degraded"], monitor.is_monitoring)
        memory.detach()
        service.off("optimization:completed", on_stats)
        freed: float = report["freed_memory_mb"]
        return freed


def use_decisions() -> str:
    """Asks what would be decided."""
    resolved: dict[str, float] = decide.resolve_config({}, profile="development")
    ratio, domain = decide.usage({"rss_bytes": 1 << 20}, {"max_memory_mb": 2})
    tracker = decide.LevelTracker({"high_water_mark_percent": 40})
    actions: tuple[str, ...] = decide.strategy_plan("standard").actions
    optimizer = decide.Optimizer({"gc_interval": "1m"})
    print(actions, optimizer.due(now_ms=0, usage=0.5, level="normal"))
    policy = decide.Policy({"gc_interval": "1m"})
    decision = policy.next({"now_ms": 0, "usage": 0.9, "level": "high"})
    policy.done(decision["action"], {"took_ms": 1.5}, 2.0)
    fits: bool = policy.may_collect("high", 5.0, 2.0)
    print(fits, policy.time_to_limit_ms, decide.budget_bytes(1 << 28, 0.5))
    print(resolved["memory.max_memory_mb"], domain, decide.trend([(0.0, 1)]))
    return tracker.update(ratio, 0.0)


class Connection:
    """Of some library."""

    def close(self) -> None:
        """Ends."""


def use_caches() -> int:
    """Has caches and pools shrink."""
    prices: dict[str, float] = {}
    told: list[str] = []
    with memguard.register_cache(
        prices, name="prices", on_evict=lambda key, value: told.append(key)
    ) as handle:
        entries: dict[str, Any] = handle.get_stats()
    frames = memguard.ReusePool(lambda: bytearray(10), max_size=5)
    with frames.using() as frame:
        frame.append(1)
    frames.close()
    cache = memguard.IndicatorCache(max_entries=10)
    key = cache.make_key("BTC", "1m", "ema", {"period": 20}, 1700000000)
    value: float = cache.get_or_compute(key, lambda: 1.5)
    ring = memguard.RingBuffer(max_candles=5, columns=("price",))
    ring.append(value)
    newest: memoryview = ring.column("price", 1)
    with (
        memguard.ManagedConnectionPool(Connection, 2, idle_timeout=60) as pool,
        pool.connection(timeout=5) as connection,
    ):
        print(connection, entries, newest[0])
        return pool.get_stats()["active"] + len(memguard.pool_stats())


async def use_asyncio() -> bool:
    """The same in an event loop."""
    async with memguard.AsyncManagedConnectionPool(Connection) as pool:
        async with pool.connection() as connection:
            print(connection)
        return pool.closed


def use_tuning() -> float:
    """Tunes the collector."""
    former: tuple[int, int, int] = memguard.apply_gc_profile("conservative")
    with memguard.temporary_gc_settings(threshold=former, enabled=True, freeze=False):
        collected: int = memguard.freeze()
    memguard.unfreeze()
    memguard.freeze_before_fork(False)
    with ResourceManager({"auto_tune": True, "idle_load": 0.2}) as manager:
        tuner: memguard.GCTuner = manager.gc_tuner
        tuner.report_load(0.1)
        tuner.count_operations(10)
        tuner.benchmark(seconds_per_profile=1, profiles=["steady"])
        print(tuner.report()["rows"], tuner.is_running, collected)
        tuner.stop()
        return tuner.load or 0.0


def use_pools() -> int:
    """Rents memory and objects."""
    pool: memguard.MemoryPool = memguard.shared_pool()
    with pool.rent(100) as buffer:
        view: memoryview = buffer.memory
        view[0] = len(buffer) + buffer.capacity - 164
        bytes(buffer)
        del view
    writer: memguard.PooledBufferWriter = pool.rent_writer(max_bytes=5000)
    count: int = writer.write(b"abc") + writer.write(bytearray(b"d"))
    writer.get_span(100)[:1] = b"e"
    writer.advance(1)
    made: memguard.PooledBuffer = writer.detach()
    pool.return_(made)
    many: list[memguard.PooledBuffer] = pool.rent_many(2, 64)
    for one in many:
        one.return_()
    array: memguard.PooledArray = pool.rent_array()
    array.append("anything")
    array.return_()
    objects = memguard.ObjectPool(list, max_size=5)
    with objects.borrow() as items:
        items.append(1)
    with memguard.FrameWindow(5, ("price",), pool=pool) as window:
        window.append(1.5)
    with memguard.MemoryPool({"leak_check": "advanced"}) as own:
        own.update_config({"max_pool_mb": 5})
        own.trim(0.5)
        settings: float = own.config["max_pool_mb"]
        print(settings, own.findings(), own.suspects())
    with ResourceManager() as manager:
        manager.pool.rent(5).return_()
    held: int = pool.stats()["held_bytes"]
    return count + held + objects.stats()["idle"]


async def use_bus() -> int:
    """Messages, if there were servers."""
    serializer = serializers.MessagePackSerializer()
    with serializer.serialize_pooled({"id": 1}) as message:
        value: Any = serializer.deserialize(message)
        room: int | None = serializer.try_serialize(value, bytearray(64))
        text: str = encoding.utf8_decode(message)
    with serializers.JsonSerializer().get_pooled_writer() as writer:
        serializer.serialize_into(value, writer)
    with encoding.base64_encode(text.encode()) as coded:
        encoding.base64_decode(coded).return_()

    def handle(buffer: memguard.PooledBuffer, topic: str) -> None:
        with buffer:
            print(topic, len(buffer))

    async def handle_later(buffer: memguard.PooledBuffer, topic: str) -> None:
        handle(buffer, topic)

    async with transports.RedisTransport("redis://127.0.0.1:1") as bus:
        subscription: transports.Subscription = await bus.subscribe("a", handle)
        await bus.publish("a", b"1")
        count: int = await bus.publish_batch("a", [b"1", memoryview(b"2")])
        await subscription.close()
    async with transports.NatsTransport() as other:
        await other.subscribe("a", handle_later)
    async with transports.RedisOutbox(name="orders") as box:
        ids: list[int] = await box.put_batch([("a", b"1")])
        count += await box.relay(bus.publish, limit=5) + await box.pending()
    return count + len(ids) + (room or 0)


def main() -> None:
    """Uses everything."""
    with tempfile.TemporaryDirectory() as folder:
        stats = use_manager(Path(folder) / "file")
    if stats.memory_usage_mb is not None:
        print(stats.memory_usage_mb / 2, stats.buffer_count + stats.temp_files)
    print(use_tuning(), use_pools())
    print(use_service(), use_monitor(), use_buffers(), use_decisions())
    print(ResourceType.BUFFER.value)
    with Stage({"resource_manager": {"max_memory_mb": 512}}) as stage:
        stage.process(b"packet")
    try:
        ResourceManager({"max_memory_mb": -1})
    except memguard.RangeError as error:
        print(error.code)
    except (memguard.ConfigKeyError, memguard.MemguardError):
        raise
    print(memguard.version, memguard.rss_bytes(), memguard.process_info()["threads"])


if __name__ == "__main__":
    main()
