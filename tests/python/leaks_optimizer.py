"""Cases of test_leaks.py: the optimizer."""

import asyncio
from collections.abc import Callable
from typing import Any

import memguard

World = Any  # of test_leaks.py


def service_settings(w: World) -> None:
    w.service.register_strategy("x", print, priority=1)
    w.service.unregister_strategy("x")
    w.service.register_cleanup(print)
    w.service.unregister_cleanup(print)
    w.service.set_connection_pool(w)
    w.service.on("service:started", print)
    w.service.off("service:started", print)
    w.service.get_memory_monitor()
    w.service.update_config({"threshold": 80})
    w.service.get_config()
    w.service.get_usage_snapshots()
    w.service.get_optimization_history(3)
    w.service.get_service_stats()


def queue_memory(w: World) -> None:
    class Queue:
        pass

    memory = memguard.QueueMemory(w.service)
    queue = Queue()
    memory.attach(queue)
    memory.get_memory_status()
    memory.get_memory_optimization_history(1)
    memory.update_memory_optimization_config({"threshold": 80})
    memory.detach()


def service_life(w: World) -> None:
    with memguard.MemoryOptimizationService() as service:
        service.start()
        service.stop()
        service.close()


def optimizations(w: World) -> None:
    memory = memguard.QueueMemory(w.service)
    w.service.perform_optimization()
    w.service.register_strategy("fails", w.fail)
    w.service.perform_optimization("preventive", force=True)
    w.service.unregister_strategy("fails")
    memory.optimize_memory(aggressive=True)
    memory.create_memory_snapshot()
    w.service.create_usage_snapshot()
    w.service.health_check()
    # Not asyncio.run(): it leaves names of its own in CPython's method cache.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(w.service.aperform_optimization())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    w.service._reports.clear()
    w.service._snapshots.clear()


Cases = dict[str, tuple[Callable[[World], object], list[str]]]

CASES: Cases = {
    "service settings": (
        service_settings,
        [
            f"MemoryOptimizationService.{name}"
            for name in (
                "register_strategy",
                "unregister_strategy",
                "register_cleanup",
                "unregister_cleanup",
                "set_connection_pool",
                "on",
                "off",
                "get_memory_monitor",
                "update_config",
                "get_config",
                "get_usage_snapshots",
                "get_optimization_history",
                "get_service_stats",
            )
        ],
    ),
}

SLOW_CASES: Cases = {
    "queue memory": (
        queue_memory,
        [
            "QueueMemory",
            "QueueMemory.attach",
            "QueueMemory.detach",
            "QueueMemory.get_memory_status",
            "QueueMemory.get_memory_optimization_history",
            "QueueMemory.update_memory_optimization_config",
        ],
    ),
    "service": (
        service_life,
        [
            "MemoryOptimizationService",
            "MemoryOptimizationService.start",
            "MemoryOptimizationService.stop",
            "MemoryOptimizationService.close",
        ],
    ),
    "optimizations": (
        optimizations,
        [
            "MemoryOptimizationService.perform_optimization",
            "MemoryOptimizationService.aperform_optimization",
            "MemoryOptimizationService.create_usage_snapshot",
            "MemoryOptimizationService.health_check",
            "QueueMemory.optimize_memory",
            "QueueMemory.create_memory_snapshot",
        ],
    ),
}
