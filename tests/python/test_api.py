"""The names of the contract, and stubs that tell the truth."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import memguard
import pytest
import typing_user
from memguard import _core

CONTRACT = {
    "ResourceManager": [
        "create_buffer",
        "should_flush_buffer",
        "flush_buffer",
        "register_temp_file",
        "register_cleanup_callback",
        "managed_resource",
        "cleanup",
        "get_memory_pressure",
        "get_resource_stats",
        "memory_monitor",
        "buffer_manager",
        "temp_files",
        "managed_resources",
        "cleanup_callbacks",
        "config",
    ],
    "MemoryMonitor": [
        "check_memory_pressure",
        "register_pressure_callback",
        "trigger_gc",
        "max_memory_mb",
        "pressure_threshold",
        "monitoring_interval",
        "operation_count",
        "peak_memory",
        "gc_count",
        "last_check_time",
        "pressure_callbacks",
        "start_monitoring",
        "stop_monitoring",
        "collect_memory_stats",
        "get_current_stats",
        "get_memory_history",
        "get_memory_trends",
        "get_gc_stats",
        "get_memory_report",
        "update_thresholds",
        "health_check",
        "optimize_memory",
        "register_object_counter",
        "increment_object_counter",
        "reset_object_counter",
        "reset",
        "shutdown",
        "on",
        "off",
    ],
    "MemoryOptimizationService": [
        "start",
        "stop",
        "perform_optimization",
        "register_strategy",
        "register_cleanup",
        "set_connection_pool",
        "create_usage_snapshot",
        "get_usage_snapshots",
        "get_optimization_history",
        "get_service_stats",
        "get_memory_monitor",
        "get_config",
        "update_config",
        "on",
        "off",
    ],
    "QueueMemory": [
        "optimize_memory",
        "get_memory_status",
        "get_memory_optimization_history",
        "create_memory_snapshot",
        "update_memory_optimization_config",
        "attach",
        "detach",
    ],
    "BufferManager": [
        "active_buffers",
        "buffer_stats",
        "create_buffer",
        "should_flush_buffer",
        "flush_buffer",
        "cleanup_buffer",
        "cleanup_all_buffers",
    ],
}

STATS = [
    "memory_usage_mb",
    "buffer_count",
    "file_handles",
    "temp_files",
    "peak_memory_mb",
    "gc_collections",
    "last_cleanup_time",
]


def test_the_names_hosts_use() -> None:
    with memguard.ResourceManager({"enabled": False}) as manager:
        objects = {
            "ResourceManager": manager,
            "MemoryMonitor": manager.memory_monitor,
            "BufferManager": manager.buffer_manager,
            "MemoryOptimizationService": memguard.MemoryOptimizationService,
            "QueueMemory": memguard.QueueMemory,
        }
        for kind, names in CONTRACT.items():
            missing = [name for name in names if not hasattr(objects[kind], name)]
            assert missing == [], kind
        stats = manager.get_resource_stats()
        assert [name for name in STATS if not hasattr(stats, name)] == []


def test_all_names_are_there() -> None:
    assert [name for name in memguard.__all__ if not hasattr(memguard, name)] == []
    assert re.fullmatch(r"\d+\.\d+\.\d+", memguard.version)
    assert memguard.__version__ == memguard.version


def test_everything_public_is_documented() -> None:
    missing = []
    for name in memguard.__all__:
        made: Any = getattr(memguard, name)
        is_error = isinstance(made, type) and issubclass(made, Exception)
        if isinstance(made, str) or is_error:
            continue
        names = dir(made) if isinstance(made, type) else []
        members = {f"{name}.{n}": getattr(made, n) for n in names if n[0] != "_"}
        for path, member in {name: made, **members}.items():
            about = callable(member) or inspect.isdatadescriptor(member)
            if about and not inspect.getdoc(member):
                missing.append(path)
    assert missing == []


# ---- stubs ------------------------------------------------------------------


def stub() -> ast.Module:
    folder = Path(memguard.__file__).parent
    parts = [ast.parse(path.read_text()) for path in folder.glob("_core*.pyi")]
    return ast.Module([node for part in parts for node in part.body], [])


def names_of(body: list[ast.stmt]) -> set[str]:
    found = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_the_stub_names_what_the_module_has() -> None:
    there = {name for name in dir(_core) if not name.startswith("__")}
    assert names_of(stub().body) == there


@pytest.mark.parametrize(
    "name",
    [
        "Settings",
        "Sample",
        "Buffer",
        "Monitor",
        "Buffers",
        "Manager",
        "Pool",
        "PooledBuffer",
        "PooledBufferWriter",
    ],
)
def test_the_stub_of_a_class_names_what_it_has(name: str) -> None:
    kind = getattr(_core, name)
    (node,) = [n for n in stub().body if isinstance(n, ast.ClassDef) and n.name == name]
    there = {n for n in vars(kind) if not n.startswith("__")}
    assert {n for n in names_of(node.body) if not n.startswith("__")} == there


def test_the_typed_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    typing_user.main()
    assert "ERR_MEMGUARD_RANGE" in capsys.readouterr().out
