"""Settings of the collector: profiles, temporary ones, freezing."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import memguard
import pytest
from common import TUNE_HEAD as HEAD
from common import Knot
from memguard import GC_PROFILES

Logged = Callable[[], list[str]]
Run = Callable[..., str]

pytestmark = pytest.mark.usefixtures("own_collector")


# ---- profiles ---------------------------------------------------------------


def test_profiles() -> None:
    named = {name: GC_PROFILES[name] for name in list(GC_PROFILES)[1:4]}
    assert named == {
        "high-frequency": (600, 8, 8),
        "conservative": (900, 15, 12),
        "aggressive": (1200, 20, 15),
    }
    assert GC_PROFILES["throughput"][0] == 50_000
    assert GC_PROFILES["steady"][0] == 10_000
    with pytest.raises(TypeError):
        GC_PROFILES["own"] = (1, 1, 1)  # type: ignore[index]


def test_default_is_the_interpreters_own(run_child: Run) -> None:
    out = run_child("""
import gc
own = gc.get_threshold()
import memguard
gc.set_threshold(1, 2, 3)
print(memguard.GC_PROFILES["default"] == own, memguard.apply_gc_profile("default"))
print(gc.get_threshold() == own)
""")
    assert out in ("True (1, 2, 3)\nTrue\n", "True (1, 2, 0)\nTrue\n")


def test_apply() -> None:
    assert memguard.apply_gc_profile("aggressive") == (700, 10, 10)
    assert gc.get_threshold()[0] == 1200
    with pytest.raises(memguard.InvalidError, match=r"'fast', allowed: default, high"):
        memguard.apply_gc_profile("fast")
    with pytest.raises(memguard.ConfigTypeError, match="profile is 5"):
        memguard.apply_gc_profile(5)  # type: ignore[arg-type]
    assert gc.get_threshold()[0] == 1200


# ---- temporary settings -----------------------------------------------------


def state() -> tuple[int, bool]:
    return gc.get_threshold()[0], gc.isenabled()


def test_temporary_settings() -> None:
    with memguard.temporary_gc_settings(threshold=(123, 4, 5)):
        assert state() == (123, True)
        with memguard.temporary_gc_settings(enabled=False):
            assert state() == (123, False)
            with memguard.temporary_gc_settings(profile="aggressive", enabled=True):
                assert state() == (1200, True)
            assert state() == (123, False)
        assert state() == (123, True)
    assert state() == (700, True)


def test_temporary_settings_after_an_exception() -> None:
    gc.disable()
    block = memguard.temporary_gc_settings(profile="steady", enabled=True, freeze=True)

    def fail() -> None:
        with block:
            assert state() == (10_000, True)
            assert gc.get_freeze_count() > 0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert state() == (700, False)
    assert gc.get_freeze_count() == 0


def test_one_object_nests_in_itself() -> None:
    block = memguard.temporary_gc_settings(threshold=(50, 5, 5))
    with block:
        with block:
            assert state() == (50, True)
        assert state() == (50, True)
    assert state() == (700, True)
    with block:
        assert state() == (50, True)
    assert state() == (700, True)


def test_blocks_of_two_threads_end_in_any_order() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with memguard.temporary_gc_settings(threshold=(222, 2, 2), enabled=False):
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with memguard.temporary_gc_settings(threshold=(111, 1, 1)):
        thread.start()
        assert inside.wait(20)
        assert state() == (222, False)
    assert state() == (222, False)
    leave.set()
    thread.join(20)
    assert state() == (700, True)


def test_what_was_frozen_before_stays_frozen() -> None:
    gc.freeze()
    with memguard.temporary_gc_settings(freeze=True):
        pass
    assert gc.get_freeze_count() > 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"profile": "fast"}, memguard.InvalidError, "fast"),
        ({"profile": "steady", "threshold": (1, 1, 1)}, memguard.InvalidError, "one"),
        ({"threshold": (1, 1)}, memguard.ConfigTypeError, "three ints"),
        ({"threshold": (1, 1, True)}, memguard.ConfigTypeError, "three ints"),
        ({"threshold": (-1, 1, 1)}, memguard.RangeError, "-1, allowed: 0 to"),
        ({"threshold": (1 << 31, 1, 1)}, memguard.RangeError, "allowed: 0 to"),
        ({"enabled": 1}, memguard.ConfigTypeError, "enabled is 1"),
    ],
)
def test_bad_temporary_settings(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        memguard.temporary_gc_settings(**arguments)
    assert state() == (700, True)


def test_a_fork_inside_another_threads_block(run_child: Run) -> None:
    out = run_child("""
import gc, os, threading, warnings
import memguard
warnings.simplefilter("ignore", DeprecationWarning)
gc.set_threshold(700, 10, 10)
inside, leave = threading.Event(), threading.Event()

def other():
    with memguard.temporary_gc_settings(threshold=(222, 2, 2)):
        inside.set()
        leave.wait(20)

thread = threading.Thread(target=other)
thread.start()
inside.wait(20)
child = os.fork()
if child == 0:
    os._exit(0 if gc.get_threshold()[0] == 700 else 1)
print(os.waitpid(child, 0)[1], gc.get_threshold()[0])
leave.set()
thread.join()
print(gc.get_threshold()[0])
""")
    assert out == "0 222\n700\n"


# ---- freezing ---------------------------------------------------------------


def test_freeze() -> None:
    kept = Knot()
    gc.collect()
    gc.disable()
    Knot()
    assert memguard.freeze() >= 1
    assert gc.get_freeze_count() > 0
    assert not any(found is kept for found in gc.get_objects())
    del kept
    assert gc.collect() == 0
    memguard.unfreeze()
    assert gc.get_freeze_count() == 0
    assert gc.collect() >= 1


def test_freeze_before_fork(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
def frozen_in_child():
    child = os.fork()
    if child == 0:
        os._exit(gc.get_freeze_count() > 1000)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

counts = []
gc.callbacks.append(lambda phase, info: counts.append(phase))
print(frozen_in_child())
memguard.freeze_before_fork()
memguard.freeze_before_fork(True)
print(frozen_in_child(), len(counts) > 0)
del counts[:]
print(frozen_in_child(), counts)
memguard.freeze_before_fork(False)
gc.unfreeze()
print(frozen_in_child())
try:
    memguard.freeze_before_fork("yes")
except memguard.ConfigTypeError as error:
    print(error)
""")
    assert out == "0\n1 True\n1 []\n0\nenabled is 'yes', allowed: a bool\n"
