"""BufferManager and the buffers of a ResourceManager."""

import threading
import time
from collections.abc import Callable
from typing import Any

import memguard
import pytest
from memguard import BufferManager, ResourceManager

Logged = Callable[[], list[str]]


@pytest.fixture
def buffers() -> BufferManager:
    return BufferManager({"default_buffer_size": 8, "min_buffer_size": 2})


# ---- lists ------------------------------------------------------------------


def test_a_buffer_is_a_plain_list(buffers: BufferManager) -> None:
    rows = buffers.create_buffer("rows")
    assert type(rows) is list
    rows += [1, 2]
    assert buffers.create_buffer("rows") is rows
    assert buffers.active_buffers["rows"] is rows
    assert dict(buffers.active_buffers) == {"rows": [1, 2]}
    assert buffers.flush_buffer("rows") == [1, 2]
    assert rows == []
    assert buffers.create_buffer("rows") is rows


def test_settings_of_the_section_flat_or_nested() -> None:
    for config in (
        {"default_buffer_size": 200, "auto_resize": False},
        {"buffer_manager": {"default_buffer_size": 200, "auto_resize": False}},
    ):
        buffers = BufferManager(config)
        assert buffers.default_buffer_size == 200
        assert buffers.max_buffer_size == 1000
        assert buffers.min_buffer_size == 10
        assert buffers.auto_resize is False


def test_should_flush_follows_length_and_pressure() -> None:
    buffers = BufferManager({"default_buffer_size": 8, "auto_resize": False})
    rows = buffers.create_buffer("rows")
    assert not buffers.should_flush_buffer("rows", 1.0)
    rows.append(1)
    assert buffers.should_flush_buffer("rows", 0.91)
    assert not buffers.should_flush_buffer("rows", 0.9)
    rows.extend(range(3))
    assert not buffers.should_flush_buffer(name="rows", memory_pressure=0.7)
    rows.extend(range(4))
    assert buffers.should_flush_buffer("rows", 0.7)
    assert buffers.should_flush_buffer("rows")


def test_sizes_shrink_under_pressure(buffers: BufferManager) -> None:
    buffers.create_buffer("rows")
    stats = buffers.buffer_stats["rows"]
    assert stats.current_size == 8
    buffers.should_flush_buffer("rows", 0.85)
    assert stats.current_size == 4


def test_sizes_grow_again_to_the_maximum() -> None:
    buffers = BufferManager({"default_buffer_size": 8, "max_buffer_size": 10})
    buffers.create_buffer("rows")
    stats = buffers.buffer_stats["rows"]
    deadline = time.monotonic() + 30
    while stats.current_size < 10 and time.monotonic() < deadline:
        buffers.should_flush_buffer("rows", 0.1)
        time.sleep(0.05)
    assert stats.current_size == 10
    buffers.should_flush_buffer("rows", 0.1)
    assert stats.current_size == 10


def test_statistics_as_attributes_and_as_a_mapping(buffers: BufferManager) -> None:
    before = time.time()
    rows = buffers.create_buffer("rows")
    stats = buffers.buffer_stats["rows"]
    assert before - 1 <= stats.created_time <= time.time() + 1
    rows.extend("abc")
    buffers.should_flush_buffer("rows", 0.5)
    rows.pop()
    buffers.flush_buffer("rows")
    buffers.flush_buffer("rows")
    assert stats["created_time"] == stats.created_time
    assert stats["max_size_reached"] == stats.max_size_reached == 3
    assert stats["flush_count"] == stats.flush_count == 1
    assert stats["flushed_items"] == stats.flushed_items == 2
    assert stats["current_size"] == stats.current_size == 8
    assert stats["flush_at"] == stats.flush_at == 8
    assert dict(stats) == {key: getattr(stats, key) for key in stats}
    assert len(stats) == len(list(stats)) == 8
    with pytest.raises(memguard.NotFoundError):
        stats["nothing"]
    with pytest.raises(KeyError):
        stats[5]  # type: ignore[index]


def test_statistics_of_a_forgotten_buffer_stay(buffers: BufferManager) -> None:
    buffers.create_buffer("rows").extend("abc")
    stats = buffers.buffer_stats["rows"]
    buffers.flush_buffer("rows")
    assert buffers.cleanup_buffer("rows")
    assert stats.flushed_items == 3
    assert "rows" not in buffers.buffer_stats


def test_views_cannot_be_written(buffers: BufferManager) -> None:
    for view in (buffers.active_buffers, buffers.buffer_stats):
        with pytest.raises(TypeError):
            view["x"] = []  # type: ignore[index]


# ---- sinks ------------------------------------------------------------------


def test_a_sink_gets_the_items_of_a_flush(buffers: BufferManager) -> None:
    batches: list[list[int]] = []
    rows = buffers.create_buffer("rows", batches.append)
    rows.extend([1, 2])
    assert buffers.flush_buffer("rows") == []
    rows.append(3)
    assert buffers.flush_buffer("rows") == []
    assert buffers.flush_buffer("rows") == []
    assert batches == [[1, 2], [3]]


def test_the_same_name_with_another_sink_is_refused(buffers: BufferManager) -> None:
    taken: list[Any] = []
    rows = buffers.create_buffer("rows", taken.append)
    assert buffers.create_buffer("rows", taken.append) is rows
    assert buffers.create_buffer("rows") is rows
    with pytest.raises(memguard.ConflictError, match=r"'rows' .* another sink"):
        buffers.create_buffer("rows", print)
    buffers.create_buffer("plain")
    with pytest.raises(memguard.ConflictError, match="no sink"):
        buffers.create_buffer("plain", print)


def test_what_a_failed_sink_left_goes_back_to_the_front(
    buffers: BufferManager,
) -> None:
    written: list[int] = []
    errors = [OSError("disk full")]

    def sink(items: list[int]) -> None:
        while items:
            if items[0] == 3 and errors:
                rows.append(9)
                raise errors.pop()
            written.append(items.pop(0))

    rows = buffers.create_buffer("rows", sink)
    rows.extend([1, 2, 3, 4])
    with pytest.raises(OSError, match="disk full"):
        buffers.flush_buffer("rows")
    assert rows == [3, 4, 9]
    assert buffers.buffer_stats["rows"].flushed_items == 2
    assert buffers.flush_buffer("rows") == []
    assert written == [1, 2, 3, 4, 9]
    assert buffers.buffer_stats["rows"].flushed_items == 5


def test_an_interrupted_sink_loses_nothing(buffers: BufferManager) -> None:
    def sink(items: list[int]) -> None:
        raise KeyboardInterrupt

    rows = buffers.create_buffer("rows", sink)
    rows.extend([1, 2])
    with pytest.raises(KeyboardInterrupt):
        buffers.flush_buffer("rows")
    assert rows == [1, 2]


def test_a_sink_may_flush_its_own_buffer(buffers: BufferManager) -> None:
    batches: list[list[int]] = []

    def sink(items: list[int]) -> None:
        batches.append(items)
        if len(batches) == 1:
            rows.append(3)
            assert buffers.buffer_stats["rows"].is_flushing
            assert buffers.flush_buffer("rows") == []

    rows = buffers.create_buffer("rows", sink)
    rows.extend([1, 2])
    buffers.flush_buffer("rows")
    assert batches == [[1, 2]]
    assert rows == [3]
    assert not buffers.buffer_stats["rows"].is_flushing


def test_two_sinks_that_flush_each_other_do_not_wait_for_ever(
    buffers: BufferManager,
) -> None:
    both = threading.Barrier(2, timeout=30)
    seen: list[int] = []

    def sink(other: str) -> Callable[[list[int]], None]:
        def run(items: list[int]) -> None:
            both.wait()
            buffers.flush_buffer(other)
            both.wait()
            seen.extend(items)

        return run

    buffers.create_buffer("a", sink("b")).append(1)
    buffers.create_buffer("b", sink("a")).append(2)
    threads = [
        threading.Thread(target=buffers.flush_buffer, args=(name,)) for name in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(seen) == [1, 2]


def test_flushes_of_one_buffer_take_turns_in_order(buffers: BufferManager) -> None:
    got: list[int] = []
    inside = threading.Event()
    go_on = threading.Event()

    def sink(items: list[int]) -> None:
        inside.set()
        assert go_on.wait(30)
        got.extend(items)

    rows = buffers.create_buffer("rows", sink)
    rows.extend([1, 2])
    first = threading.Thread(target=buffers.flush_buffer, args=("rows",))
    first.start()
    assert inside.wait(30)
    rows.extend([3, 4])
    second = threading.Thread(target=buffers.flush_buffer, args=("rows",))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    assert got == []
    go_on.set()
    first.join(30)
    second.join(30)
    assert got == [1, 2, 3, 4]


def test_objects_that_run_code_while_they_go(buffers: BufferManager) -> None:
    rows = buffers.create_buffer("rows")

    class Meddler:
        def __del__(self) -> None:
            rows.append("late")

    rows.extend([Meddler(), Meddler()])
    taken = buffers.flush_buffer("rows")
    assert len(taken) == 2
    assert rows == []
    del taken
    assert rows == ["late", "late"]


# ---- bad input --------------------------------------------------------------


@pytest.mark.parametrize("name", [5, None, b"rows", ["rows"], ("rows",)], ids=repr)
def test_names_that_are_not_strings(buffers: BufferManager, name: Any) -> None:
    with ResourceManager({"enabled": False}) as manager:
        for call in (
            buffers.create_buffer,
            buffers.should_flush_buffer,
            buffers.flush_buffer,
            manager.create_buffer,
            manager.should_flush_buffer,
            manager.flush_buffer,
        ):
            with pytest.raises(memguard.ConfigTypeError, match="name of a buffer"):
                call(name)


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b", "\ud800"], ids=repr)
def test_names_that_cannot_be(buffers: BufferManager, name: str) -> None:
    with pytest.raises(memguard.InvalidError):
        buffers.create_buffer(name)
    assert dict(buffers.buffer_stats) == {}


def test_longest_name(buffers: BufferManager) -> None:
    buffers.create_buffer("é" * 127).append(1)
    assert buffers.flush_buffer("é" * 127) == [1]


def test_unknown_buffers(buffers: BufferManager) -> None:
    with ResourceManager({"enabled": False}) as manager:
        for call in (
            buffers.should_flush_buffer,
            buffers.flush_buffer,
            manager.should_flush_buffer,
            manager.flush_buffer,
        ):
            with pytest.raises(memguard.NotFoundError, match="'none'") as caught:
                call("none")
            assert isinstance(caught.value, KeyError)
    assert buffers.cleanup_buffer("none") is False


@pytest.mark.parametrize("pressure", [-0.1, 1.1, float("nan"), float("inf")])
def test_pressures_out_of_range(buffers: BufferManager, pressure: float) -> None:
    buffers.create_buffer("rows")
    with pytest.raises(memguard.RangeError, match=r"allowed: 0\.0 to 1\.0"):
        buffers.should_flush_buffer("rows", pressure)


def test_arguments_of_the_wrong_type(buffers: BufferManager) -> None:
    buffers.create_buffer("rows")
    with pytest.raises(memguard.ConfigTypeError, match="memory_pressure"):
        buffers.should_flush_buffer("rows", "high")  # type: ignore[arg-type]
    with pytest.raises(memguard.ConfigTypeError, match="sink is 5"):
        buffers.create_buffer("other", 5)  # type: ignore[arg-type]
    assert list(buffers.buffer_stats) == ["rows"]


# ---- clean-up ---------------------------------------------------------------


def test_cleanup_flushes_to_sinks_and_warns_of_the_rest(
    buffers: BufferManager, logged: Logged
) -> None:
    written: list[int] = []
    buffers.create_buffer("sunk", written.extend).extend([1, 2])
    plain = buffers.create_buffer("plain")
    plain.extend([3, 4, 5])
    buffers.create_buffer("empty")
    buffers.cleanup_all_buffers()
    assert written == [1, 2]
    assert plain == [3, 4, 5]
    assert dict(buffers.active_buffers) == {}
    assert logged() == ["buffer 'plain' is gone: its 3 items stay in the list"]
    buffers.cleanup_all_buffers()
    assert logged() == []


def test_a_buffer_whose_sink_fails_stays(
    buffers: BufferManager, logged: Logged
) -> None:
    healthy: list[int] = []
    errors = [ValueError("no")]

    def sink(items: list[int]) -> None:
        if errors:
            raise errors.pop()
        healthy.extend(items)

    buffers.create_buffer("bad", sink).extend([1, 2])
    buffers.create_buffer("good", healthy.extend).append(3)
    buffers.cleanup_all_buffers()
    assert healthy == [3]
    assert list(buffers.active_buffers.items()) == [("bad", [1, 2])]
    assert logged() == ["the sink of buffer 'bad' failed; its items stay"]
    buffers.cleanup_all_buffers()
    assert healthy == [3, 1, 2]
    assert dict(buffers.active_buffers) == {}


def test_a_sink_that_cleans_up_its_own_buffer(buffers: BufferManager) -> None:
    gone: list[bool] = []

    def sink(items: list[int]) -> None:
        gone.append(buffers.cleanup_buffer("rows"))
        raise ValueError("after all")

    rows = buffers.create_buffer("rows", sink)
    rows.append(1)
    with pytest.raises(ValueError, match="after all"):
        buffers.flush_buffer("rows")
    assert gone == [False]
    assert buffers.active_buffers["rows"] == [1]


def test_a_sink_that_never_stops_appending(buffers: BufferManager) -> None:
    def sink(items: list[int]) -> None:
        rows.append(items[0] + 1)

    rows = buffers.create_buffer("rows", sink)
    rows.append(0)
    assert buffers.cleanup_buffer("rows") is False
    assert rows == [10]


def test_close(buffers: BufferManager, logged: Logged) -> None:
    written: list[int] = []
    with buffers:
        buffers.create_buffer("rows", written.extend).append(1)
        plain = buffers.create_buffer("plain")
        plain.append(2)
    assert written == [1]
    assert plain == [2]
    assert logged() == ["buffer 'plain' is gone: its 1 items stay in the list"]
    assert buffers.closed
    buffers.close()
    for call in (
        buffers.create_buffer,
        buffers.should_flush_buffer,
        buffers.flush_buffer,
    ):
        with pytest.raises(memguard.ClosedError, match="BufferManager is closed"):
            call("rows")
