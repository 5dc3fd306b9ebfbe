"""Objects counted by type while the program goes on."""

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import memguard
import pytest
from common import KEEPS_GENERATIONS
from memguard import _core, census
from memguard.census import Census, referrers

CAN_SLICE = KEEPS_GENERATIONS
sliced = pytest.mark.skipif(not CAN_SLICE, reason="this Python is visited at once")
Run = Callable[..., str]

HEAD = """
import gc, os, sys, threading, time
from memguard import _core
from memguard.census import census, census_difference

def interpreters():
    try:
        import _interpreters as api
    except ImportError:
        import _xxsubinterpreters as api
    return api
"""


class Thing:
    """What is counted."""


THING = f"{__name__}.Thing"


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    gc.collect()
    yield
    gc.unfreeze()
    gc.enable()


def counted(table: _core.Census, name: str = THING) -> int:
    rows = table.rows(0, len(table))
    return sum(count for found, count, _ in rows if found == name)


def stepped(between: Callable[[], None], most: int = 2000) -> _core.Census:
    """A census with something done between its slices."""
    table = _core.Census()
    table.begin()
    for _ in range(100_000):
        if not table.step(most):
            return table
        between()
    raise AssertionError("the walk does not end")


# ---- counting ----------------------------------------------------------------


def test_types_are_counted() -> None:
    things = [Thing() for _ in range(5000)]
    found = census.census()
    count, size = found.types[THING]
    assert count == 5000
    assert size >= 5000 * 32
    assert found.objects > 5000
    assert sum(count for count, _ in found.types.values()) == found.objects
    assert found.walk["is_exact"]
    assert found.walk["is_whole"]
    assert found.walk["is_sliced"] == CAN_SLICE
    assert not found.is_cut
    assert repr(found) == f"<Census of {len(found)} types>"
    del things
    assert THING not in census.census().types


def test_names() -> None:
    class Local:
        pass

    kept = [Local(), threading.Event(), [], {"a": []}]
    types = census.census().types
    assert types[f"{__name__}.test_names.<locals>.Local"][0] == 1
    assert types["threading.Event"][0] >= 1
    assert {"list", "dict", "tuple", "function", "type", "module"} <= types.keys()
    assert len(kept) == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: [None] * 100_000,
        lambda: {number: [] for number in range(100_000)},
        lambda: {(number,) for number in range(100_000)},
        lambda: (None, []) * 50_000,
    ],
)
def test_bytes_are_those_of_the_object_and_its_table(make: Callable[[], Any]) -> None:
    before = census.census()
    made = make()
    after = census.census()
    name = type(made).__name__
    grown = after.types[name][1] - before.types[name][1]
    if CAN_SLICE:
        size = sys.getsizeof(made)
        # Others of that type come and go; the set brings its tuples.
        assert size - 200_000 <= grown <= size + 8_000_000
        assert size > 400_000


@sliced
def test_a_slice_visits_no_more_than_it_may() -> None:
    things = [Thing() for _ in range(30_000)]
    table = stepped(lambda: None, 1000)
    walk = table.walk()
    assert walk["largest_slice"] == 1000
    assert walk["slices"] >= walk["objects"] / 1000
    assert counted(table) == len(things)
    assert stepped(lambda: None, 10**12).walk()["largest_slice"] <= 50_000
    table = _core.Census()
    table.begin()
    for _ in range(5):
        assert table.step(-1)
    assert table.walk()["objects"] == 5


def test_a_step_without_a_walk() -> None:
    table = _core.Census()
    assert table.step() is False
    table.begin()
    table.begin()  # anew
    while table.step():
        pass
    assert table.step() is False
    assert len(table) > 10


# ---- while the program goes on -----------------------------------------------


@sliced
@pytest.mark.parametrize("generation", [0, 1])
def test_collections_of_the_young_between_slices(generation: int) -> None:
    gc.disable()
    old = [Thing() for _ in range(10_000)]
    gc.collect()
    young = [Thing() for _ in range(10_000)]

    def between() -> None:
        Thing().__dict__["me"] = []
        gc.collect(generation)

    table = stepped(between)
    assert table.walk()["is_exact"]
    assert table.walk()["restarts"] == 0
    assert counted(table) == len(old) + len(young)


@sliced
def test_what_dies_around_the_cursor() -> None:
    gc.disable()
    doomed = [[Thing()] for _ in range(20_000)]
    kept = [doomed[number] for number in range(0, 20_000, 10)]

    def between() -> None:
        del doomed[-700:]

    table = stepped(between)
    assert len(kept) == 2000
    assert 2000 <= counted(table) <= 20_000
    assert table.walk()["is_exact"]


@sliced
def test_new_objects_cannot_keep_it_going() -> None:
    gc.disable()
    things = [Thing() for _ in range(5000)]
    more: list[Thing] = []
    table = stepped(lambda: more.extend(Thing() for _ in range(3000)), 1000)
    assert len(more) >= 15_000
    assert counted(table) == len(things)


@sliced
def test_a_full_collection_begins_it_anew() -> None:
    gc.disable()
    things = [Thing() for _ in range(20_000)]
    full = iter([False, False, True])
    table = stepped(lambda: gc.collect() if next(full, False) else None)
    assert table.walk()["restarts"] == 1
    assert table.walk()["is_exact"]
    assert counted(table) == len(things)


@sliced
def test_full_collections_again_and_again() -> None:
    gc.disable()
    things = [Thing() for _ in range(20_000)]
    table = stepped(gc.collect)
    assert table.walk()["restarts"] == 2
    assert not table.walk()["is_exact"]
    assert counted(table) >= len(things) / 2


@sliced
@pytest.mark.parametrize("frozen_first", [False, True])
def test_freezing_between_slices(frozen_first: bool) -> None:
    gc.disable()
    things = [Thing() for _ in range(20_000)]
    if frozen_first:
        gc.freeze()
    steps = iter(range(1000))

    def between() -> None:
        if next(steps) == 15:
            (gc.unfreeze if frozen_first else gc.freeze)()

    table = stepped(between, 1000)
    assert table.walk()["restarts"] <= 1
    assert table.walk()["is_exact"]
    assert counted(table) == len(things)


@sliced
def test_the_frozen_heap_is_counted() -> None:
    things = [Thing() for _ in range(3000)]
    gc.freeze()
    assert census.census().types[THING][0] == len(things)


@sliced
def test_threads_that_change_everything() -> None:
    kept = [Thing() for _ in range(50_000)]
    ends = threading.Event()
    failures: list[BaseException] = []

    def change() -> None:
        mine: list[Any] = []
        try:
            while not ends.is_set():
                mine.append([{"a": [len(mine)]}, (mine,)])
                if len(mine) > 3000:
                    mine.clear()
                    gc.collect(1)
        except BaseException as error:  # told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=change) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            found = census.census()
            assert found.walk["is_whole"]
            if found.walk["is_exact"]:
                assert found.types[THING][0] == len(kept)
    finally:
        ends.set()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert gc.collect() >= 0


@sliced
def test_several_at_the_same_time() -> None:
    things = [Thing() for _ in range(20_000)]
    one, other = _core.Census(), _core.Census()
    one.begin()
    other.begin()
    while one.step(700) | other.step(500):
        pass
    assert counted(one) == counted(other) == len(things)


@sliced
def test_all_objects_looked_at_between_slices() -> None:
    """The cursor may be seen, and kept, by a program that looks at everything."""
    seen: list[Any] = []
    table = stepped(lambda: seen.append(gc.get_objects()), 5000)
    assert len(seen) > 1
    seen.clear()
    gc.collect()
    assert table.walk()["is_whole"]


@sliced
def test_parts_of_the_old_wait() -> None:
    assert _core._gc_can_roll()
    table = _core.Census()
    table.begin()
    assert table.step(10)
    assert _core._gc_roll(1000) == (0, 0, True)
    del table
    assert _core._gc_roll(1000)[0] > 0


def test_a_census_inside_of_a_collection() -> None:
    taken: list[Census] = []

    class Knot:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            taken.append(Census())

    Knot()
    gc.collect()
    assert taken[0].walk["is_whole"]
    assert taken[0].objects > 100


def test_at_once() -> None:
    things = [Thing() for _ in range(1000)]
    if sys.version_info < (3, 12):
        with pytest.raises(memguard.AbsentError, match="cannot be walked"):
            Census(in_slices=False)
        return
    found = Census(in_slices=False)
    assert found.types[THING][0] == len(things)
    assert not found.walk["is_sliced"]
    assert found.walk["slices"] == 1


# ---- hostile types -----------------------------------------------------------


@pytest.mark.filterwarnings("ignore:non-string key")
def test_no_code_of_the_program_is_run() -> None:
    calls: list[str] = []

    def called(name: str) -> Callable[..., Any]:
        def method(*_: Any) -> Any:
            calls.append(name)
            raise SystemExit(name)

        return method

    class Meta(type):
        __getattribute__ = called("getattribute")
        __repr__ = called("repr of the type")
        __instancecheck__ = called("instancecheck")

    class Key:
        armed = False

        def __hash__(self) -> int:
            return hash("__module__")

        def __eq__(self, other: object) -> bool:
            if Key.armed:
                calls.append("eq of a key")
            return self is other

    class Text(str):
        __slots__ = ()
        armed = False

        def __str__(self) -> str:
            calls.append("str of a name")
            return ""

    hostile = Meta(
        "Hostile",
        (),
        {
            Key(): 1,  # type: ignore[dict-item]
            "__repr__": called("repr"),
            "__sizeof__": called("sizeof"),
            "__class__": property(called("class")),
            "__getattribute__": called("getattribute of an instance"),
        },
    )

    class Plain:
        pass

    class Sized(dict[str, int]):
        __sizeof__ = called("sizeof")
        __len__ = called("len")

    Plain.__qualname__ = Text("renamed")
    Plain.__module__ = 5  # type: ignore[assignment]
    kept = [object.__new__(hostile), Plain(), Sized()]
    Key.armed = True
    calls.clear()
    found = census.census()
    types = found.types
    paths = referrers("renamed") if CAN_SLICE else ["not looked for"]
    Key.armed = False
    assert calls == []
    assert any(name.endswith(".Hostile") for name in types)
    assert types["renamed"][0] == 1
    assert len(paths) == 1
    del kept, hostile


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a\nb\0c", "a?b?c"),
        ("\ud800", "?"),
        ("größe", "größe"),
        ("\U0001f40d" * 50, "\U0001f40d" * 36),
        ("x" * 500, "x" * 146),
        ("", "?"),
    ],
)
def test_odd_names(name: str, expected: str) -> None:
    made = type("Odd", (), {"__module__": "given.module"})
    made.__qualname__ = name
    kept = made()
    assert f"given.module.{expected}" in census.census().types
    assert kept is not None


@pytest.mark.parametrize("module", [None, 5, property(), "", "builtins"])
def test_odd_modules(module: Any) -> None:
    made = type("Odd", (), {"__module__": module})
    kept = made()
    assert "Odd" in census.census().types
    assert kept is not None


def test_a_hundred_thousand_types(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
gc.disable()
kept = [type(f"T{{number}}", (), {{}})() for number in range(100_000)]
found = census()
count, _ = found.types["(other)"]
print(found.is_cut, len(found), count > 100, found.walk["is_whole"],
      sum(row[0] for row in found.types.values()) == found.objects, flush=True)
print(len(census_difference(found, census())) < 9, flush=True)
os._exit(0)
""")
    assert out == "True 100001 True True True\nTrue\n"


# ---- interpreters and processes ----------------------------------------------


@sliced
def test_a_subinterpreter_counts_its_own(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
api = interpreters()
class Thing: pass
kept = [Thing() for _ in range(5000)]
sub = api.create()
failure = api.run_string(sub, '''
from memguard.census import census, referrers
class Thing: pass
kept = [Thing() for _ in range(700)]
found = census()
assert found.types["__main__.Thing"][0] == 700, found.types["__main__.Thing"]
assert found.walk["is_sliced"]
assert referrers("__main__.Thing", 5)[0].path == "list <- __main__.kept"
''')
assert failure is None, failure
print(census().types["__main__.Thing"][0])
api.destroy(sub)
""")
    assert out == "5000\n"


@sliced
def test_a_fork_between_slices(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
class Thing: pass
kept = [Thing() for _ in range(5000)]
gc.collect()
table = _core.Census()
table.begin()
table.step(1000)
child = os.fork()
while table.step(1000):
    pass
count = sum(row[1] for row in table.rows(0, 10000) if row[0] == "__main__.Thing")
again = census().types["__main__.Thing"][0]
if child == 0:
    os._exit(0 if (count, again) == (5000, 5000) and _core._gc_can_roll()
             and _core._gc_roll(10)[0] > 0 else 1)
print(count, again, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert out == "5000 5000 0\n"


def test_an_exit_between_slices(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
table = _core.Census()
table.begin()
table.step(100)
def count():
    while True:
        census()
threading.Thread(target=count, daemon=True).start()
time.sleep(0.05)
print("ends")
""")
    assert out == "ends\n"
