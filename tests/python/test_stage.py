"""StageBase: stages migrate by subclassing it."""

from collections.abc import Callable
from typing import Any

import memguard
import pytest
from memguard import StageBase

CONFIG = {
    "chunk_size": 1000,
    "resource_manager": {
        "memory_monitor": {"max_memory_mb": 4096, "pressure_threshold": 0.85},
        "buffer_manager": {"default_buffer_size": 200},
    },
}


class Stage(StageBase):
    """What a host writes."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.calls: list[str] = []
        self.error: BaseException | None = None

    def _cleanup_stage_specific(self) -> None:
        self.calls.append(f"stage, {self._initialized}")
        if self.error is not None:
            raise self.error


def test_the_config_of_a_stage_works_as_given() -> None:
    with Stage(CONFIG) as stage:
        assert stage.config is CONFIG
        manager = stage.resource_manager
        assert manager.memory_monitor.max_memory_mb == 4096
        assert manager.memory_monitor.pressure_threshold == 0.85
        assert manager.buffer_manager.default_buffer_size == 200
        stats = manager.buffer_manager.buffer_stats
        manager.create_buffer("packets")
        assert stats["packets"].current_size == 200


def test_without_config() -> None:
    configs: list[dict[str, Any] | None]
    configs = [None, {}, {"chunk_size": 5}, {"resource_manager": {}}]
    for config in configs:
        with Stage(config) as stage:
            assert stage.resource_manager.memory_monitor.max_memory_mb == 2048


def test_cleanup_in_order() -> None:
    stage = Stage(CONFIG)
    assert stage._initialized is False
    assert stage.initialize() is True
    assert stage._initialized is True
    stage.resource_manager.register_cleanup_callback(
        lambda: stage.calls.append("manager")
    )
    stage.cleanup()
    assert stage.calls == ["stage, True", "manager"]
    assert stage._initialized is False
    stage.cleanup()
    assert stage.calls == ["stage, True", "manager", "stage, False"]
    stage.close()


def test_a_stage_can_be_used_again(logged: Callable[[], list[str]]) -> None:
    with Stage(CONFIG) as stage:
        stage.cleanup()
        assert not stage.resource_manager.memory_monitor.is_monitoring
        stage.initialize()
        assert stage.resource_manager.memory_monitor.is_monitoring
        stage.resource_manager.create_buffer("rows")
    assert logged() == []
    assert stage.resource_manager.closed


def test_a_failing_stage_is_logged_and_the_manager_cleans_up(
    logged: Callable[[], list[str]],
) -> None:
    with Stage() as stage:
        stage.error = ValueError("no")
        stage.resource_manager.register_cleanup_callback(
            lambda: stage.calls.append("manager")
        )
        stage.cleanup()
        assert stage.calls == ["stage, True", "manager"]
        assert stage._initialized is False
        assert logged() == ["clean-up of Stage failed"]
        stage.error = None


def test_an_interrupted_stage_cleans_up_too() -> None:
    stage = Stage()
    stage.initialize()
    stage.error = KeyboardInterrupt()
    stage.resource_manager.register_cleanup_callback(
        lambda: stage.calls.append("manager")
    )
    with pytest.raises(KeyboardInterrupt):
        stage.close()
    assert stage.calls == ["stage, True", "manager"]
    assert stage._initialized is False
    assert stage.resource_manager.closed


@pytest.mark.parametrize("config", [5, "chunk_size", [1]])
def test_a_config_that_is_no_mapping(config: Any) -> None:
    with pytest.raises(memguard.ConfigTypeError, match="allowed: a mapping"):
        Stage(config)


def test_a_bad_section() -> None:
    with pytest.raises(memguard.ConfigTypeError, match="config is a list"):
        Stage({"resource_manager": [1]})
    with pytest.raises(memguard.ConfigKeyError):
        Stage({"resource_manager": {"max_memry_mb": 1}})
