"""Large blocks are counted to the byte, whoever allocates and frees them."""

import subprocess
import sys
from collections.abc import Callable

import pytest

Run = Callable[..., str]

HEAD = """
import gc, os, sys, threading
from memguard import _core

def read():
    return _core._allocator_read()

def large():
    return read()["large_bytes"]

assert _core._allocator_install()
"""


def test_not_before_a_monitor_asks(run_child: Run) -> None:
    out = run_child("""
        import memguard
        from memguard import _core
        print(_core._allocator_read())
        memguard.MemoryMonitor({"enabled": False})
        memguard.MemoryMonitor({"byte_aware_gc": False})
        print(_core._allocator_read()["large_bytes"])
        memguard.MemoryMonitor()
        print(_core._allocator_read()["large_bytes"] > 0)
        """)
    nothing = {"large_bytes": None, "total_bytes": None, "arena_bytes": None}
    assert out == f"{nothing}\nNone\nTrue\n"


def test_large_blocks(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
before = read()
block = bytearray(10_000_000)
now = read()
print(now["large_bytes"] - before["large_bytes"] in range(10_000_000, 10_010_000))
print(now["total_bytes"] - before["total_bytes"] in range(10_000_000, 10_010_000))
block.extend(bytes(5_000_000))
print(large() - before["large_bytes"] in range(15_000_000, 17_000_000))
del block[100:]
print(large() - before["large_bytes"] in range(0, 10_000))
del block
print(large() - before["large_bytes"])
print(read()["total_bytes"] - before["total_bytes"] >= 20_000_000)
""")
    assert out == "True\nTrue\nTrue\nTrue\n0\nTrue\n"


def test_small_objects_are_seen_by_their_arenas(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
before = read()
kept = [object() for _ in range(1_000_000)]  # 16 bytes each, and the list
now = read()
print(14 <= (now["arena_bytes"] - before["arena_bytes"]) / 1048576 <= 20)
print(8_000_000 <= now["large_bytes"] - before["large_bytes"] <= 9_000_000)
del kept
print((read()["arena_bytes"] - before["arena_bytes"]) / 1048576 <= 3)
""")
    assert out == "True\nTrue\nTrue\n"


def test_blocks_from_before_and_freed_by_others(run_child: Run) -> None:
    """Nothing is lost: not by threads that end, nor by more than have slots."""
    out = run_child(f"""
old = [bytearray(100_000) for _ in range(10)]
{HEAD}
def work():
    for size in range(600, 20_000, 97):
        shared.append(bytes(size))
        if len(shared) > 200:
            shared.pop(0)
    ready.wait()

before = large()
old.clear()
print(before - large() in range(1_000_000, 1_010_000))
shared, before = [], large()
for _ in range(3):
    ready = threading.Barrier(101)
    threads = [threading.Thread(target=work) for _ in range(100)]
    for thread in threads:
        thread.start()
    ready.wait()
    for thread in threads:
        thread.join()
del threads, thread
before_shared = sum(map(sys.getsizeof, shared))
left = large() - before
print(before_shared <= left <= before_shared + 300_000)
shared.clear()
print(abs(large() - before) < 200_000)
""")
    assert out == "True\nTrue\nTrue\n"


def test_threads_without_the_gil(run_child: Run) -> None:
    """The raw domain, called from threads that Python does not know."""
    out = run_child(f"""{HEAD}
import ctypes
raw = ctypes.CDLL(None)  # calls release the GIL
for name in ("PyMem_RawMalloc", "PyMem_RawCalloc", "PyMem_RawRealloc"):
    getattr(raw, name).restype = ctypes.c_void_p
raw.PyMem_RawMalloc.argtypes = [ctypes.c_size_t]
raw.PyMem_RawCalloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
raw.PyMem_RawRealloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
raw.PyMem_RawFree.argtypes = [ctypes.c_void_p]
def work():
    for size in range(1, 3000):
        block = raw.PyMem_RawMalloc(size)
        block = raw.PyMem_RawRealloc(block, size * 3)
        raw.PyMem_RawFree(block)
        raw.PyMem_RawFree(raw.PyMem_RawCalloc(size, 8))
        raw.PyMem_RawFree(None)
    assert raw.PyMem_RawMalloc(1 << 62) is None
    assert raw.PyMem_RawCalloc(1 << 40, 1 << 40) is None
    # Far beyond the budget: growth is told from here.
    blocks = [raw.PyMem_RawMalloc(1048576) for _ in range(50)]
    told.wait(30)
    for block in blocks:
        raw.PyMem_RawFree(block)
import memguard
config = {{"max_memory_mb": 128, "sample_interval": "10ms", "long_pause": "60s"}}
monitor = memguard.MemoryMonitor(config)
while monitor.latest.number == 0:
    monitor.check_memory_pressure()
before = large()
told = threading.Event()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
while not monitor.get_reclaim_history() and threads[0].is_alive():
    told.wait(0.01)
told.set()
for thread in threads:
    thread.join()
del threads, thread
print(abs(large() - before) < 50_000)
rounds = monitor.get_reclaim_history()
print(rounds[0]["reason"], rounds[0]["steps"][0]["was_done"])
monitor.close()
before = large()
kept = raw.PyMem_RawMalloc(1_000_000)
block = raw.PyMem_RawRealloc(kept, 1 << 62)  # fails and leaves it as it is
print(block, large() - before >= 1_000_000)
raw.PyMem_RawFree(kept)
""")
    assert out == "True\nbytes True\nNone True\n"


@pytest.mark.parametrize(
    ("setting", "counted"),
    [("debug", True), ("pymalloc", True), ("malloc", False), ("malloc_debug", False)],
)
def test_other_allocators(
    monkeypatch: pytest.MonkeyPatch, run_child: Run, setting: str, counted: bool
) -> None:
    """Where large objects do not come by, nothing is told."""
    monkeypatch.setenv("PYTHONMALLOC", setting)
    out = run_child("""
        import memguard
        from memguard import _core
        monitor = memguard.MemoryMonitor()
        before = _core._allocator_read()["large_bytes"]
        block = bytearray(3_000_000)
        block.extend(bytes(4_000_000))
        now = _core._allocator_read()["large_bytes"]
        print(before and 7_000_000 <= now - before <= 8_000_000)
        del block
        print(before and abs(_core._allocator_read()["large_bytes"] - before) < 9)
        monitor.close()
        """)
    assert out == ("True\nTrue\n" if counted else "None\nNone\n")


def test_tracemalloc_on_top(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
import tracemalloc
before = large()
tracemalloc.start()
block = bytearray(2_000_000)
print(large() - before >= 2_000_000, tracemalloc.get_traced_memory()[0] >= 2_000_000)
tracemalloc.stop()
del block
other = bytearray(1_000_000)
# What tracemalloc allocated itself before and freed now is a few bytes less.
print(990_000 <= large() - before < 2_000_000)
""")
    assert out == "True True\nTrue\n"


def test_tracemalloc_below(monkeypatch: pytest.MonkeyPatch, run_child: Run) -> None:
    """It takes away whatever lies on top of it when it stops: we stay away."""
    monkeypatch.setenv("PYTHONTRACEMALLOC", "1")
    out = run_child("""
        import tracemalloc
        from memguard import _core
        print(_core._allocator_install(), _core._allocator_read()["large_bytes"])
        tracemalloc.stop()
        print(_core._allocator_install(), _core._allocator_read()["large_bytes"] > 0)
        """)
    assert out == "False None\nTrue True\n"


def test_a_forked_child_counts_on(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
import memguard, warnings
warnings.simplefilter("ignore")
stop = threading.Event()
def work():
    bytearray(100_000)
    stop.wait()
threads = [threading.Thread(target=work) for _ in range(70)]
for thread in threads:
    thread.start()
def generations(deep):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    before = large()
    block = bytearray(1_000_000)
    good = large() - before in range(1_000_000, 1_010_000)
    del block
    good = good and large() == before
    os._exit(not good or (deep and generations(deep - 1)))
print(generations(3))
stop.set()
for thread in threads:
    thread.join()
""")
    assert out == "0\n"


def test_interpreters_come_and_go(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
try:
    import _interpreters as api
except ImportError:
    import _xxsubinterpreters as api
code = '''
import memguard
from memguard import _core
assert _core._allocator_install()
before = _core._allocator_read()["large_bytes"]
block = bytearray(1_000_000)
assert _core._allocator_read()["large_bytes"] - before >= 1_000_000
'''
for _ in range(3):
    sub = api.create()
    failure = api.run_string(sub, code)
    assert failure is None, failure
    api.destroy(sub)
before = large()
block = bytearray(1_000_000)
print(large() - before >= 1_000_000)
""")
    assert out == "True\n"


def test_the_interpreter_ends_while_threads_allocate() -> None:
    """What is freed last is freed after everything else is gone."""
    code = """
import sys, threading
import memguard
monitor = memguard.MemoryMonitor()
kept = [bytearray(10_000) for _ in range(1000)]
class Last:
    def __del__(self, make=bytearray):
        make(100_000)
last = Last()
def work():
    while True:
        bytearray(50_000)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
print("end")
"""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
