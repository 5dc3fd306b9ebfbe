"""What grew between two tables, who holds it, and the line that allocates it."""

import gc
import os
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import memguard
import pytest
from common import KEEPS_GENERATIONS
from memguard import _core, census
from memguard.census import Culprit, census_difference, referrers, trace_window

CAN_SLICE = KEEPS_GENERATIONS
sliced = pytest.mark.skipif(not CAN_SLICE, reason="this Python is visited at once")
Run = Callable[..., str]


class Thing:
    """What is counted."""


THING = f"{__name__}.Thing"
HOLDER: dict[str, Any] = {}
LARGE: list[Thing] = []


class Registry:
    """Holds in an attribute of its own."""

    kept: ClassVar[list[Any]] = []


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    gc.collect()
    yield
    HOLDER.clear()
    LARGE.clear()
    Registry.kept.clear()
    gc.enable()


# ---- difference --------------------------------------------------------------


def test_the_difference_names_the_type() -> None:
    gc.disable()
    before = census.census()
    things = [Thing() for _ in range(5000)]
    after = census.census()
    worst = census_difference(before, after)[0]
    assert (worst.kind, worst.name, worst.growth) == ("type", THING, 5000)
    assert worst.count == len(things)
    assert worst.share > 0.9
    assert worst.growth_bytes >= 5000 * 32
    assert census_difference(after, after) == []
    assert census_difference(before, after, limit=0) == []
    assert census_difference(before, after, by="bytes")[0].name == THING


def test_what_is_not_tracked_is_said() -> None:
    gc.disable()
    before = census.census()
    kept = {f"name {number}" for number in range(20_000)}
    after = census.census()
    worst = census_difference(before, after)[0]
    assert worst.name == census.UNTRACKED
    assert worst.growth >= 19_000
    assert worst.share > 0.9
    assert sum(one.share for one in census_difference(before, after)) < 1.0001
    assert len(kept) == 20_000


def test_bad_tables() -> None:
    types, fds = census.census(), census.census_fds()
    with pytest.raises(memguard.InvalidError, match="table of types, after of fds"):
        census_difference(types, fds)
    with pytest.raises(memguard.ConfigTypeError, match="before is 5, allowed: a Table"):
        census_difference(5, fds)  # type: ignore[arg-type]
    with pytest.raises(memguard.InvalidError, match="by is 'size', allowed"):
        census_difference(fds, fds, by="size")  # type: ignore[arg-type]
    with pytest.raises(memguard.RangeError, match="limit is 1001, allowed: 0 to 1000"):
        census_difference(fds, fds, limit=1001)
    with pytest.raises(memguard.RangeError, match="allowed: 1 to 100000"):
        _core.Census(100_001)


# ---- descriptors and mappings ------------------------------------------------


def test_descriptors_by_target() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        before = census.census_fds()
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        after = census.census_fds()
        for client in clients:
            client.close()
    (found,) = (
        one
        for one in census_difference(before, after)
        if one.name == f"socket tcp 127.0.0.1:{port}"
    )
    assert found == Culprit("fd", found.name, 4, 0, 4, found.share)
    assert found.share > 0.5


def test_private_memory_by_mapping() -> None:
    before = census.census_maps()
    block = bytearray(os.urandom(1)) * (64 << 20)
    worst = census_difference(before, census.census_maps())[0]
    assert (worst.kind, worst.name) == ("mapping", "anon")
    assert worst.growth_bytes > 60 << 20
    assert len(block) == 64 << 20


# ---- referrers ---------------------------------------------------------------


def paths(name: str = THING, limit: int = 20) -> dict[str, int]:
    return {one.path: one.count for one in referrers(name, limit)}


@sliced
def test_a_list_that_a_module_holds() -> None:
    LARGE.extend(Thing() for _ in range(120_000))  # more than a slice looks at
    assert paths() == {f"list <- {__name__}.LARGE": 20}
    assert paths(limit=3) == {f"list <- {__name__}.LARGE": 3}


@sliced
def test_keys_are_not_told() -> None:
    HOLDER["a customer"] = [Thing()]
    HOLDER.update((f"customer {number}", 0) for number in range(100_000))
    assert paths() == {f"list <- dict <- {__name__}.HOLDER": 1}


@sliced
def test_an_attribute_of_a_type() -> None:
    class Owner:
        def __init__(self) -> None:
            self.rows = [Thing() for _ in range(5)]

    Registry.kept.append(Owner())
    (path,) = paths()
    name = f"{__name__}.test_an_attribute_of_a_type.<locals>.Owner"
    assert path == f"list <- {name} <- list <- {__name__}.Registry.kept"
    assert paths() == {path: 5}


@sliced
def test_a_closure() -> None:
    held = [Thing()]
    HOLDER["call"] = lambda: held
    (path,) = paths()
    assert path.startswith(f"list <- cell <- tuple <- function {__name__}.test_a_cl")
    assert path.endswith(f"dict <- {__name__}.HOLDER")


@sliced
def test_circles_and_nobody() -> None:
    one = Thing()
    one.__dict__["me"] = one
    assert sum(paths().values()) == 1
    assert referrers("no.such.Type") == []
    del one
    gc.collect()
    assert referrers(THING) == []


@sliced
def test_what_is_held_is_let_go_of() -> None:
    LARGE.extend(Thing() for _ in range(50))
    before = [sys.getrefcount(one) for one in LARGE]
    paths()
    assert [sys.getrefcount(one) for one in LARGE] == before


@pytest.mark.parametrize("limit", [0, -1, 21])
def test_bad_limits(limit: int) -> None:
    with pytest.raises(
        memguard.RangeError, match=f"limit is {limit}, allowed: 1 to 20"
    ):
        referrers(THING, limit)
    with pytest.raises(memguard.ConfigTypeError):
        referrers(5)  # type: ignore[arg-type]


# ---- tracing -----------------------------------------------------------------


def test_a_window_names_the_line() -> None:
    ends = threading.Event()
    kept: list[bytes] = []

    def leak() -> None:
        while not ends.wait(0.001):
            kept.append(bytes(10_000))

    thread = threading.Thread(target=leak)
    thread.start()
    try:
        worst = trace_window(1.0)[0]
    finally:
        ends.set()
        thread.join(30)
    line = leak.__code__.co_firstlineno + 2
    assert (worst.kind, worst.name) == ("site", f"{__file__}:{line}"[-159:])
    assert worst.growth_bytes >= 10_000
    assert worst.share > 0.5
    assert not tracemalloc.is_tracing()


def test_a_window_is_refused_while_tracing() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(memguard.ConflictError, match="tracing already"):
            trace_window(0.01)
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_a_window_that_the_program_ends() -> None:
    def end() -> None:
        until = time.monotonic() + 30
        while not tracemalloc.is_tracing() and time.monotonic() < until:
            time.sleep(0.001)
        tracemalloc.stop()

    thread = threading.Thread(target=end)
    thread.start()
    assert trace_window(60) == []
    thread.join(30)


@pytest.mark.parametrize("seconds", [0, -1, 61, float("nan"), float("inf")])
def test_bad_windows(seconds: float) -> None:
    with pytest.raises(memguard.RangeError, match="above 0, at most 60"):
        trace_window(seconds)


def test_a_window_beside_other_interpreters(run_child: Run) -> None:
    out = run_child("""
try:
    import _interpreters as api
except ImportError:
    import _xxsubinterpreters as api
from memguard.census import trace_window
sub = api.create()
try:
    trace_window(0.01)
except RuntimeError as error:
    print(error)
api.destroy(sub)
print(type(trace_window(0.01)).__name__)
""")
    assert out == "allocations cannot be traced beside other interpreters\nlist\n"
