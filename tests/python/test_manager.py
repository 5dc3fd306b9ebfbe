"""ResourceManager: the names hosts use, resources, clean-up, its end."""

import enum
import gc
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import memguard
import pytest
from memguard import ResourceManager, ResourceStats, ResourceType

Logged = Callable[[], list[str]]


# ---- names ------------------------------------------------------------------


def test_the_parts_and_attributes_hosts_read(manager: ResourceManager) -> None:
    assert isinstance(manager.memory_monitor, memguard.MemoryMonitor)
    assert isinstance(manager.buffer_manager, memguard.BufferManager)
    assert manager.temp_files == []
    assert manager.managed_resources == []
    assert manager.cleanup_callbacks == []
    assert manager.config == {"enabled": False}
    assert manager.memory_monitor.pressure_callbacks == []


def test_resource_types() -> None:
    assert issubclass(ResourceType, enum.Enum)
    assert {kind.name: kind.value for kind in ResourceType} == {
        "MEMORY": "memory",
        "FILE_HANDLE": "file_handle",
        "TEMP_FILE": "temp_file",
        "BUFFER": "buffer",
        "NETWORK": "network",
    }
    assert ResourceType("temp_file") is ResourceType.TEMP_FILE
    assert memguard.ResourceType is ResourceType
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        memguard.Nothing  # noqa: B018


def test_stats(manager: ResourceManager, tmp_path: Path, rss_mb: float) -> None:
    stats = manager.get_resource_stats()
    assert stats.memory_usage_mb == pytest.approx(rss_mb, abs=64)
    assert stats.peak_memory_mb is not None
    assert stats.memory_usage_mb is not None
    assert stats.peak_memory_mb >= stats.memory_usage_mb
    assert stats.buffer_count == 0
    assert stats.temp_files == 0
    assert stats.gc_collections == 0
    assert stats.last_cleanup_time == 0.0
    manager.create_buffer("rows")
    manager.register_temp_file(tmp_path / "x")
    manager.memory_monitor.trigger_gc()
    files = [open(os.devnull) for _ in range(10)]  # noqa: SIM115
    more = manager.get_resource_stats()
    for file in files:
        file.close()
    assert more.buffer_count == 1
    assert more.temp_files == 1
    assert more.gc_collections == 1
    assert stats.file_handles is not None
    assert more.file_handles == stats.file_handles + 10
    before = time.time()
    manager.cleanup()
    cleaned = manager.get_resource_stats()
    assert before - 1 <= cleaned.last_cleanup_time <= time.time() + 1
    assert (cleaned.buffer_count, cleaned.temp_files) == (0, 0)


def test_stats_are_a_value() -> None:
    stats = ResourceStats(memory_usage_mb=1.5, buffer_count=2)
    assert stats == ResourceStats(1.5, 2)
    assert stats != ResourceStats(1.5, 3)
    assert stats != 5
    assert "buffer_count=2" in repr(stats)
    with pytest.raises(TypeError):
        hash(stats)


# ---- temporary files --------------------------------------------------------


def test_temp_files_go_at_cleanup(
    manager: ResourceManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a", "b", "c", "d\n é"]
    for name in names:
        (tmp_path / name).write_text(name)
    manager.register_temp_file(tmp_path / "a")
    manager.register_temp_file(str(tmp_path / "b"))
    manager.register_temp_file(os.fsencode(tmp_path / "c"))
    manager.register_temp_file(names[3])
    manager.register_temp_file(tmp_path / "a")
    assert manager.temp_files == [str(tmp_path / name) for name in names]
    monkeypatch.chdir("/")
    manager.cleanup()
    assert list(tmp_path.iterdir()) == []
    assert manager.temp_files == []


def test_names_that_are_no_text(manager: ResourceManager, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe"
    Path(os.fsdecode(name)).write_text("x")
    manager.register_temp_file(name)
    assert manager.temp_files == [os.fsdecode(name)]
    manager.cleanup()
    assert list(tmp_path.iterdir()) == []


def test_a_temp_file_already_gone(
    manager: ResourceManager, tmp_path: Path, logged: Logged
) -> None:
    manager.register_temp_file(tmp_path / "never there")
    manager.cleanup()
    assert logged() == []


def test_a_temp_file_that_cannot_be_removed(
    manager: ResourceManager, tmp_path: Path, logged: Logged
) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    manager.register_temp_file(tmp_path / "file")
    manager.register_temp_file(tmp_path / "folder")
    manager.cleanup()
    (message,) = logged()
    assert str(tmp_path / "folder") in message
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", memguard.InvalidError),
        ("a\0b", memguard.InvalidError),
        ("x" * 5000, memguard.InvalidError),
        (5, memguard.ConfigTypeError),
        (None, memguard.ConfigTypeError),
    ],
)
def test_bad_paths(manager: ResourceManager, path: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        manager.register_temp_file(path)
    assert manager.temp_files == []


# ---- callbacks and managed resources ----------------------------------------


def test_clean_up_is_last_in_first_out_and_once(manager: ResourceManager) -> None:
    order: list[int] = []
    callbacks = [partial(order.append, n) for n in range(5)]
    for callback in callbacks:
        manager.register_cleanup_callback(callback)
    assert manager.cleanup_callbacks == callbacks
    manager.cleanup()
    manager.cleanup()
    assert order == [4, 3, 2, 1, 0]
    assert manager.cleanup_callbacks == []


def test_a_raising_callback_is_logged_and_the_rest_run(
    manager: ResourceManager, logged: Logged
) -> None:
    order: list[int] = []

    def bad() -> None:
        raise ValueError("no")

    manager.register_cleanup_callback(lambda: order.append(1))
    manager.register_cleanup_callback(bad)
    manager.register_cleanup_callback(lambda: order.append(2))
    manager.cleanup()
    assert order == [2, 1]
    (message,) = logged()
    assert "bad" in message


def test_keyboard_interrupt_comes_after_the_rest(manager: ResourceManager) -> None:
    order: list[int] = []

    def interrupt() -> None:
        raise KeyboardInterrupt("now")

    manager.register_cleanup_callback(lambda: order.append(1))
    manager.register_cleanup_callback(interrupt)
    manager.register_cleanup_callback(lambda: order.append(2))
    with pytest.raises(KeyboardInterrupt, match="now"):
        manager.cleanup()
    assert order == [2, 1]


def test_callbacks_that_clean_up_and_register(manager: ResourceManager) -> None:
    order: list[str] = []

    def again() -> None:
        order.append("again")
        manager.cleanup()
        manager.register_cleanup_callback(lambda: order.append("late"))

    manager.register_cleanup_callback(lambda: order.append("first"))
    manager.register_cleanup_callback(again)
    manager.cleanup()
    assert order == ["again", "late", "first"]


def test_a_callback_that_registers_itself_for_ever(
    manager: ResourceManager, logged: Logged
) -> None:
    def again() -> None:
        manager.register_cleanup_callback(again)

    manager.register_cleanup_callback(again)
    manager.cleanup()
    assert logged() == ["clean-up ended with 1 new resources left over"]
    manager._entries.clear()


def test_a_callback_that_closes(manager: ResourceManager) -> None:
    order: list[str] = []
    manager.register_cleanup_callback(lambda: order.append("first"))
    manager.register_cleanup_callback(manager.close)
    manager.close()
    manager.close()
    assert order == ["first"]
    assert manager.closed


def test_a_managed_resource_is_cleaned_up_at_the_end_of_the_block(
    manager: ResourceManager,
) -> None:
    cleaned: list[str] = []
    with manager.managed_resource("socket", cleaned.append) as resource:
        assert resource == "socket"
        assert manager.managed_resources == ["socket"]
        assert cleaned == []
    assert cleaned == ["socket"]
    assert manager.managed_resources == []
    manager.cleanup()
    assert cleaned == ["socket"]


def test_a_managed_resource_is_cleaned_up_once(manager: ResourceManager) -> None:
    cleaned: list[str] = []
    with manager.managed_resource("a", cleaned.append):
        with manager.managed_resource("b", cleaned.append):
            manager.cleanup()
            assert cleaned == ["b", "a"]
        manager.close()
    assert cleaned == ["b", "a"]


def test_a_managed_resource_when_the_block_raises(manager: ResourceManager) -> None:
    cleaned: list[str] = []
    with (
        pytest.raises(ValueError, match="in the block"),
        manager.managed_resource("a", cleaned.append),
    ):
        raise ValueError("in the block")
    assert cleaned == ["a"]


def test_a_managed_resource_whose_clean_up_raises(
    manager: ResourceManager, logged: Logged
) -> None:
    def bad(resource: str) -> None:
        raise ValueError

    with manager.managed_resource("a", bad):
        pass
    (message,) = logged()
    assert "bad" in message


def test_one_object_managed_twice(manager: ResourceManager) -> None:
    cleaned: list[str] = []
    with (
        manager.managed_resource("a", cleaned.append),
        manager.managed_resource("a", cleaned.append),
    ):
        assert manager.managed_resources == ["a", "a"]
    assert cleaned == ["a", "a"]


@pytest.mark.parametrize("bad", [None, 5, "close"])
def test_clean_ups_that_cannot_be_called(manager: ResourceManager, bad: Any) -> None:
    with pytest.raises(memguard.ConfigTypeError, match="allowed: a callable"):
        manager.register_cleanup_callback(bad)
    with pytest.raises(memguard.ConfigTypeError, match="allowed: a callable"):
        manager.managed_resource("a", bad)
    assert manager.cleanup_callbacks == []


def test_clean_up_in_many_threads_runs_each_once(manager: ResourceManager) -> None:
    ran: list[int] = []
    for number in range(1000):
        manager.register_cleanup_callback(partial(ran.append, number))
    threads = [threading.Thread(target=manager.cleanup) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    manager.cleanup()
    assert sorted(ran) == list(range(1000))


# ---- cleanup() and close() --------------------------------------------------


def test_use_after_cleanup_is_warned_of_once(logged: Logged) -> None:
    with ResourceManager() as manager:
        rows = manager.create_buffer("rows")
        rows.append(1)
        manager.cleanup()
        assert logged() == ["buffer 'rows' is gone: its 1 items stay in the list"]
        assert not manager.memory_monitor.is_monitoring
        with pytest.raises(memguard.NotFoundError):
            manager.should_flush_buffer("rows")
        assert manager.create_buffer("rows") == []
        assert manager.memory_monitor.is_monitoring
        manager.create_buffer("more")
        assert logged() == ["a ResourceManager is used after its cleanup()"]
    assert rows == [1]


def test_use_after_close() -> None:
    written: list[int] = []
    manager = ResourceManager()
    manager.create_buffer("rows", written.extend).append(1)
    manager.close()
    manager.close()
    manager.cleanup()
    assert manager.closed
    assert written == [1]
    assert manager.temp_files == []
    assert manager.managed_resources == []
    for call in (
        lambda: manager.create_buffer("x"),
        lambda: manager.should_flush_buffer("x"),
        lambda: manager.flush_buffer("x"),
        lambda: manager.register_temp_file("x"),
        lambda: manager.register_cleanup_callback(print),
        lambda: manager.managed_resource("x", print).__enter__(),
        manager.get_memory_pressure,
        manager.get_resource_stats,
        lambda: manager.settings,
        lambda: manager.update_config({}),
        lambda: manager.memory_monitor.latest,
        lambda: manager.buffer_manager.create_buffer("x"),
    ):
        with pytest.raises(memguard.ClosedError, match="is closed"):
            call()
    assert manager.cleanup_callbacks == []


def test_parts_outlive_their_manager() -> None:
    manager = ResourceManager()
    monitor, buffers = manager.memory_monitor, manager.buffer_manager
    manager.close()
    del manager
    gc.collect()
    with pytest.raises(memguard.ClosedError):
        monitor.check_memory_pressure()
    with pytest.raises(memguard.ClosedError):
        buffers.create_buffer("x")


def test_the_block_closes_also_when_it_raises() -> None:
    cleaned: list[int] = []
    manager = ResourceManager()
    manager.register_cleanup_callback(lambda: cleaned.append(1))
    with pytest.raises(ValueError, match="no"), manager:
        raise ValueError("no")
    assert cleaned == [1]
    assert manager.closed


def test_a_dropped_manager_cleans_up_and_warns() -> None:
    cleaned: list[int] = []
    manager = ResourceManager()
    manager.register_cleanup_callback(lambda: cleaned.append(1))
    manager.create_buffer("rows", cleaned.extend).append(2)
    with pytest.warns(ResourceWarning, match="1 buffers and 1 resources"):
        del manager
    assert cleaned == [2, 1]


def test_a_dropped_manager_in_a_cycle() -> None:
    class Host:
        def __init__(self) -> None:
            self.cleaned = cleaned
            self.manager = ResourceManager()
            self.manager.register_cleanup_callback(self.clean)
            self.manager.memory_monitor.register_pressure_callback(self.clean)
            self.manager.create_buffer("rows", self.sink).append(1)

        def clean(self) -> None:
            self.cleaned.append("clean")

        def sink(self, items: list[int]) -> None:
            self.cleaned.append("sink")

    cleaned: list[str] = []
    gc.collect()
    Host()
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert cleaned == ["sink", "clean"]


def test_a_dropped_manager_with_nothing_in_it_is_silent() -> None:
    ResourceManager()
    gc.collect()


def test_a_manager_cannot_be_opened_twice(manager: ResourceManager) -> None:
    with pytest.raises(memguard.ConflictError, match="already open"):
        manager.__init__({})  # type: ignore[misc]


def threads(most: int) -> int:
    """A joined thread may be listed a moment longer; one left behind stays."""
    for _ in range(1000):
        count = len(os.listdir("/proc/self/task"))
        if count <= most:
            break
        time.sleep(0.005)
    return count


def test_many_managers_share_the_threads() -> None:
    before = threads(1)
    managers = [ResourceManager() for _ in range(20)]
    assert before < threads(before + 2) <= before + 2  # the sampler, and its worker
    for manager in managers:
        manager.close()
    assert threads(before) == before


def test_sampling_in_the_background() -> None:
    with ResourceManager({"sample_interval": "10ms"}) as manager:
        deadline = time.monotonic() + 30
        while manager.memory_monitor.latest.number < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_disabled_samples_only_when_asked(manager: ResourceManager) -> None:
    assert not manager.memory_monitor.is_monitoring
    assert manager.memory_monitor.latest.number == 0
    manager.get_memory_pressure()
    assert manager.memory_monitor.latest.number == 1
    manager.memory_monitor.start_monitoring()
    assert not manager.memory_monitor.is_monitoring
