"""QueueMemory: what a queue manager offers of memguard, as methods of its own."""

from __future__ import annotations

from memguard import _log
from memguard._core import ConfigTypeError, ConflictError, ExistsError
from memguard.optimizer import MemoryOptimizationService

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_METHODS = (
    "optimize_memory",
    "get_memory_status",
    "get_memory_optimization_history",
    "create_memory_snapshot",
    "update_memory_optimization_config",
)

# Events of the service by the name that a queue manager gives them.
_EVENTS = {
    "alert:memory-threshold": "memory:alert",
    "alert:rapid-growth": "memory:rapid-growth",
    "alert:memory-leak": "memory:leak",
    "optimization:completed": "memory:optimization:completed",
    "optimization:failed": "memory:optimization:failed",
}


class QueueMemory:
    """The memory side of a queue manager over a MemoryOptimizationService.

    Usable as it is, or given to an existing queue manager with attach(). The
    service stays the program's: start and close it there. Raises ConfigTypeError.
    """

    def __init__(self, service: MemoryOptimizationService) -> None:
        if not isinstance(service, MemoryOptimizationService):
            raise ConfigTypeError(
                f"service is {service!r}, allowed: a MemoryOptimizationService"
            )
        self._service = service
        self._manager: Any = None
        self._emit: Callable[[str, dict[str, Any]], object] | None = None
        self._complaints = _log.Complaints()
        self._listeners: dict[str, Callable[[dict[str, Any]], None]] = {}

    def attach(
        self,
        queue_manager: Any,
        emit: Callable[[str, dict[str, Any]], object] | None = None,
    ) -> None:
        """Gives an object the methods below, and calls `emit(event, payload)`, by
        default its own method of that name if it has one, for memory:alert,
        memory:rapid-growth, memory:leak, memory:optimization:completed and
        memory:optimization:failed. What that raises is logged.

        Raises ConflictError if attached already, ExistsError if the object has such
        a method, ConfigTypeError if it takes no attributes.
        """
        if self._manager is not None:
            raise ConflictError("it is attached to a queue manager already")
        for name in _METHODS:
            if hasattr(queue_manager, name):
                raise ExistsError(f"the queue manager has {name} already")
        try:
            for name in _METHODS:
                setattr(queue_manager, name, getattr(self, name))
        except (AttributeError, TypeError):
            kind = type(queue_manager).__name__
            raise ConfigTypeError(f"a {kind} takes no attributes") from None
        self._manager = queue_manager
        self._emit = emit or getattr(queue_manager, "emit", None)
        for event, name in _EVENTS.items():
            self._listeners[event] = self._forwarder(name)
            self._service.on(event, self._listeners[event])

    def _forwarder(self, name: str) -> Callable[[dict[str, Any]], None]:
        def forward(payload: dict[str, Any]) -> None:
            if self._emit is None:
                return
            try:
                self._emit(name, payload)
            except Exception:
                self._complaints.failed(name, "a listener of %r failed", name)
            else:
                self._complaints.worked(name)

        return forward

    def detach(self) -> None:
        """Takes back what attach() gave. Idempotent."""
        if self._manager is None:
            return
        for event, listener in self._listeners.items():
            self._service.off(event, listener)
        for name in _METHODS:
            if name in vars(self._manager):
                delattr(self._manager, name)
        self._manager = self._emit = None
        self._listeners.clear()

    def optimize_memory(
        self, *, aggressive: bool = False, reason: str = "manual", force: bool = False
    ) -> dict[str, Any]:
        """MemoryOptimizationService.perform_optimization()."""
        return self._service.perform_optimization(
            reason, aggressive=aggressive, force=force
        )

    def get_memory_status(self) -> dict[str, Any]:
        """enabled, current (statistics), optimization (get_service_stats()), health
        (health_check()), recommendations (a sentence each)."""
        health = self._service.health_check()
        return {
            "enabled": self._service.get_config()["enabled"],
            "current": health["stats"],
            "optimization": self._service.get_service_stats(),
            "health": health,
            "recommendations": health["recommendations"],
        }

    def get_memory_optimization_history(
        self, count: int | None = None
    ) -> list[dict[str, Any]]:
        """MemoryOptimizationService.get_optimization_history()."""
        return self._service.get_optimization_history(count)

    def create_memory_snapshot(self) -> dict[str, Any]:
        """MemoryOptimizationService.create_usage_snapshot()."""
        return self._service.create_usage_snapshot()

    def update_memory_optimization_config(self, config: Mapping[str, Any]) -> None:
        """MemoryOptimizationService.update_config()."""
        self._service.update_config(config)
