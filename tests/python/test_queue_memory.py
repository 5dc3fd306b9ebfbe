"""QueueMemory: the memory side of a queue manager."""

from collections.abc import Iterator
from typing import Any

import memguard
import pytest
from common import FAR
from memguard import MemoryOptimizationService, QueueMemory


@pytest.fixture
def service() -> Iterator[MemoryOptimizationService]:
    with MemoryOptimizationService(FAR) as made:
        yield made


class Queue:
    """A queue manager of a host."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def emit(self, event: str, payload: dict[str, Any]) -> None:
        self.told.append(event)
        if event == "memory:leak":
            raise ValueError


def test_queue_memory(service: MemoryOptimizationService) -> None:
    queue: Any = Queue()
    memory = QueueMemory(service)
    memory.attach(queue)
    service.start()
    service.get_memory_monitor().register_object_counter("jobs")
    service.get_memory_monitor().increment_object_counter("jobs", 100)
    report = queue.optimize_memory(aggressive=True, reason="scheduled")
    assert (report["reason"], report["method"]) == ("scheduled", "aggressive")
    service.register_strategy("breaks", lambda: [][0])
    assert queue.optimize_memory()["reason"] == "manual"
    assert queue.told == [
        "memory:leak",
        "memory:optimization:completed",
        "memory:optimization:failed",
    ]
    status = queue.get_memory_status()
    keys = ["enabled", "current", "optimization", "health", "recommendations"]
    assert list(status) == keys
    assert status["enabled"] is True
    assert status["optimization"]["total"] == 2
    assert status["health"]["degraded"] is False
    assert status["current"]["rss_mb"] > 1
    assert queue.get_memory_optimization_history(1)[0]["success"] is False
    assert queue.create_memory_snapshot()["stats"]["rss"] > 1 << 20
    queue.update_memory_optimization_config({"threshold": 66})
    assert service.get_config()["threshold"] == 66
    memory.detach()
    memory.detach()
    assert not hasattr(queue, "optimize_memory")
    assert not any(service._listeners.values())


def test_queue_memory_refuses(service: MemoryOptimizationService) -> None:
    class Taken:
        def get_memory_status(self) -> None: ...

    memory = QueueMemory(service)
    with pytest.raises(memguard.ConfigTypeError, match="MemoryOptimizationService"):
        QueueMemory(5)  # type: ignore[arg-type]
    with pytest.raises(memguard.ExistsError, match="get_memory_status"):
        memory.attach(Taken())
    with pytest.raises(memguard.ConfigTypeError, match="object"):
        memory.attach(object())
    told: list[str] = []
    memory.attach(Queue(), emit=lambda event, payload: told.append(event))
    with pytest.raises(memguard.ConflictError):
        memory.attach(Queue())
    service.perform_optimization()
    assert told == ["memory:optimization:completed"]
