"""Configuration from all its sources."""

import json
import os
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import memguard
import pytest
from memguard import ResourceManager


def limit_of(*arguments: Any, **keywords: Any) -> float:
    with ResourceManager(*arguments, **keywords) as manager:
        return manager.memory_monitor.max_memory_mb


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "memguard.json"
    path.write_text(json.dumps({"memory": {"max_memory_mb": 300, "gc_interval": "7m"}}))
    return path


# ---- sources and their precedence -------------------------------------------


def test_each_source_wins_over_those_before_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert limit_of() == 2048
    assert limit_of(profile="development") == 512
    assert limit_of(profile="development", file=file) == 300
    monkeypatch.setenv("MEMGUARD_MAX_MEMORY_MB", "400")
    assert limit_of(profile="development", file=file) == 400
    assert limit_of({"max_memory_mb": 500}, profile="development", file=file) == 500


def test_the_environment_can_be_left_out_or_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEMGUARD_MAX_MEMORY_MB", "400")
    assert limit_of(environment=False) == 2048
    assert limit_of(environment={"MEMGUARD_MAX_MEMORY_MB": "600MB"}) == 600


def test_profile_and_file_can_come_from_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMGUARD_PROFILE", "high-load")
    assert limit_of() == 4096
    assert limit_of(profile="production") == 2048
    monkeypatch.setenv("MEMGUARD_CONFIG", str(file))
    assert limit_of() == 300


def test_bytes_that_are_no_text_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEMGUARD_MAX_MEMORY_MB", os.fsdecode(b"\xff\xfe"))
    with pytest.raises(memguard.ConfigTypeError, match="MEMGUARD_MAX_MEMORY_MB"):
        ResourceManager()


def test_nested_flat_and_aliased_keys_are_one() -> None:
    assert limit_of({"memory": {"max_memory_mb": 100}}) == 100
    assert limit_of({"memory_monitor": {"max_memory_mb": 100}}) == 100
    assert limit_of({"max_memory_mb": 100}) == 100
    assert limit_of({"maxMemoryMb": 100}) == 100
    assert limit_of({"memoryOptimization": {"maxRSSSizeMB": 100}}) == 100


def test_numbers_of_other_types_and_other_mappings() -> None:
    assert limit_of(MappingProxyType({"max_memory_mb": Decimal(100)})) == 100
    assert limit_of({"max_memory_mb": "0.5GB"}) == 512


def test_config_and_settings() -> None:
    config = {
        "memory": {"gc_interval": "90s"},
        "buffer_manager": {"auto_resize": False},
    }
    with ResourceManager(config) as manager:
        assert manager.config is config
        settings = manager.settings
        assert settings["memory"]["gc_interval"] == 90
        assert settings["memory"]["max_memory_mb"] == 2048
        assert settings["memory_monitor"]["pressure_threshold"] == 0.8
        assert settings["buffer_manager"]["auto_resize"] is False
        assert settings["thresholds"]["leak_critical_count"] == 500
        manager.update_config(settings)
        assert manager.settings == settings


# ---- files ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "memory:\n  max_memory_mb: 100\n"),
        ("a.YML", "memory: {max_memory_mb: 100}"),
        ("a.json", '{"memory": {"max_memory_mb": 100}}'),
        ("a.toml", "[memory]\nmax_memory_mb = 100\n"),
    ],
)
def test_load_config(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert memguard.load_config(path) == {"memory": {"max_memory_mb": 100}}
    assert memguard.load_config(str(path)) == {"memory": {"max_memory_mb": 100}}
    assert limit_of(file=path) == 100


def test_an_empty_yaml_file_is_an_empty_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# nothing yet\n")
    assert memguard.load_config(path) == {}


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("a.yaml", b"a: [", memguard.InvalidError, "YAML"),
        ("a.yaml", b"\xff\xff", memguard.InvalidError, "YAML"),
        ("a.yaml", b"!!python/object:os.system {}", memguard.InvalidError, "YAML"),
        ("a.json", b"{", memguard.InvalidError, "JSON"),
        ("a.json", b"[" * 100000, memguard.InvalidError, "JSON"),
        ("a.json", b"[1]", memguard.ConfigTypeError, "a list"),
        ("a.toml", b"a = ", memguard.InvalidError, "TOML"),
        ("a.toml", b"\xff", memguard.InvalidError, "TOML"),
        ("a.ini", b"", memguard.InvalidError, ".yaml, .yml, .json, .toml"),
    ],
)
def test_bad_files(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], text: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        memguard.load_config(path)
    assert name in str(caught.value)
    assert text in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ResourceManager(file=tmp_path / "none.json")


def test_yaml_without_pyyaml_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("")
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(memguard.AbsentError, match=r"pip install memguard\[yaml\]"):
        memguard.load_config(path)


# ---- bad input --------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "error", "texts"),
    [
        ({"max_memory_mb": -1}, memguard.RangeError, ["max_memory_mb", "-1"]),
        ({"max_memory_mb": "lots"}, memguard.ConfigTypeError, ["lots"]),
        ({"max_memory_mb": 1e30}, memguard.RangeError, ["max_memory_mb", "1e+30"]),
        ({"max_memory_mb": 10**400}, memguard.RangeError, ["max_memory_mb"]),
        ({"max_memory_mb": float("nan")}, memguard.RangeError, ["nan"]),
        ({"max_memory_mb": True}, memguard.ConfigTypeError, ["true"]),
        ({"max_memory_mb": None}, memguard.ConfigTypeError, ["None"]),
        ({"max_memory_mb": [1]}, memguard.ConfigTypeError, ["list"]),
        ({"max_memory_mb": {"a": 1}}, memguard.ConfigTypeError, ["a mapping"]),
        ({"max_memory_mb": b"1"}, memguard.ConfigTypeError, ["bytes"]),
        ({"max_memory_mb": 1j}, memguard.ConfigTypeError, ["complex"]),
        ({"max_memory_mb": "1\0"}, memguard.InvalidError, ["max_memory_mb"]),
        ({"auto_resize": 1}, memguard.ConfigTypeError, ["true or false"]),
        ({"max_memry_mb": 1}, memguard.ConfigKeyError, ["memory.max_memory_mb"]),
        ({"max_memory_mb\0": 1}, memguard.InvalidError, ["NUL"]),
        ({"\ud800": 1}, memguard.InvalidError, ["surrogates"]),
        ({7: 1}, memguard.ConfigTypeError, ["7"]),
        ({"memory": {7: 1}}, memguard.ConfigTypeError, ["7"]),
        ({"memory": 5}, memguard.ConfigTypeError, ["memory is a section"]),
        ({"memory": {"memory": {}}}, memguard.ConfigKeyError, ["memory.memory"]),
        ({"nonsense": {}}, memguard.ConfigKeyError, ["nonsense"]),
        ({"nonsense": {"deep": {}}}, memguard.ConfigKeyError, ["nonsense.deep"]),
        ([], memguard.ConfigTypeError, ["a list"]),
        ("max_memory_mb", memguard.ConfigTypeError, ["a str"]),
        (
            {"min_buffer_size": 50, "max_buffer_size": 20},
            memguard.ConflictError,
            ["min_buffer_size", "50", "20"],
        ),
    ],
    ids=repr,
)
def test_bad_config(config: Any, error: type[Exception], texts: list[str]) -> None:
    for construct in (
        ResourceManager,
        memguard.MemoryMonitor,
        memguard.BufferManager,
        lambda bad: memguard.StageBase({"resource_manager": bad}),
    ):
        with pytest.raises(error) as caught:
            construct(config)
        assert type(caught.value) is error
        for text in texts:
            assert text in str(caught.value)


def test_bad_profiles() -> None:
    with pytest.raises(memguard.InvalidError, match="high-load"):
        ResourceManager(profile="fast")
    with pytest.raises(memguard.ConfigTypeError, match="profile"):
        ResourceManager(profile=5)  # type: ignore[arg-type]


# ---- changes while running --------------------------------------------------


def test_update_config_is_all_or_nothing(manager: ResourceManager) -> None:
    before = manager.settings
    with pytest.raises(memguard.RangeError):
        manager.update_config({"max_memory_mb": 100, "gc_interval": -1})
    with pytest.raises(memguard.ConflictError):
        manager.update_config({"rss_warning": 900, "rss_critical": 800})
    with pytest.raises(memguard.ConfigTypeError):
        manager.update_config(None)  # type: ignore[arg-type]
    assert manager.settings == before


def test_update_config_reaches_every_part(manager: ResourceManager) -> None:
    manager.create_buffer("rows")
    manager.update_config(
        {"max_memory_mb": 100, "pressure_threshold": 0.5, "max_buffer_size": 50}
    )
    assert manager.memory_monitor.max_memory_mb == 100
    assert manager.memory_monitor.pressure_threshold == 0.5
    assert manager.buffer_manager.max_buffer_size == 50
    assert manager.buffer_manager.buffer_stats["rows"].current_size == 50


def test_buffers_configure_the_manager_they_belong_to(
    manager: ResourceManager,
) -> None:
    manager.buffer_manager.update_config({"max_buffer_size": 50})
    assert manager.settings["buffer_manager"]["max_buffer_size"] == 50
    manager.update_config({"max_buffer_size": 60})
    assert manager.buffer_manager.max_buffer_size == 60


def test_enabled_starts_and_stops_sampling() -> None:
    with ResourceManager({"enabled": False}) as manager:
        assert not manager.memory_monitor.is_monitoring
        manager.update_config({"enabled": True})
        assert manager.memory_monitor.is_monitoring
        manager.update_config({"memory": {"enabled": False}})
        assert not manager.memory_monitor.is_monitoring


def test_attributes_of_the_monitor_may_be_set(manager: ResourceManager) -> None:
    monitor = manager.memory_monitor
    monitor.max_memory_mb = 77
    monitor.pressure_threshold = 0.6
    monitor.monitoring_interval = 5
    assert manager.settings["memory"]["max_memory_mb"] == 77
    assert manager.settings["memory_monitor"] == {
        "pressure_threshold": 0.6,
        "monitoring_interval": 5,
    }
    with pytest.raises(memguard.RangeError):
        monitor.monitoring_interval = 0
    assert monitor.monitoring_interval == 5
