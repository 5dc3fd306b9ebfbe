"""Threads, forks, subinterpreters and exit, each in a process of its own."""

from collections.abc import Callable
from pathlib import Path

import memguard
import pytest

Run = Callable[..., str]

HEAD = """
import os, sys, threading, time, warnings
import memguard

def threads(expected=1):
    # A joined thread may be listed a moment longer; one left behind stays.
    for _ in range(1000):
        count = len(os.listdir("/proc/self/task"))
        if count == expected:
            break
        time.sleep(0.005)
    return count

def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)

def wait_for_child(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


# ---- exit -------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
def test_exit_with_a_running_monitor(run_child: Run, background: bool) -> None:
    out = run_child(f"""{HEAD}
config = {{"max_memory_mb": 1, "sample_interval": "10ms",
           "background_callbacks": {background}}}
called = []
manager = memguard.ResourceManager(config)
manager.memory_monitor.register_pressure_callback(lambda: called.append(1))
monitor = memguard.MemoryMonitor(config)
if {background}:
    wait_for(lambda: called)
print("end")
""")
    assert out == "end\n"


def test_exit_cleans_up_in_order(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
import atexit
atexit.register(lambda: print("after"))
manager = memguard.ResourceManager()
manager.register_cleanup_callback(lambda: print("callback"))
manager.create_buffer("rows", lambda items: print("sink", items)).append(1)
buffers = memguard.BufferManager()
buffers.create_buffer("rows", lambda items: print("alone", items)).append(2)
print("end")
""")
    assert sorted(out.split("\n")[1:]) == sorted(
        ["after", "alone [2]", "sink [1]", "callback", ""]
    )
    assert out.index("sink") < out.index("callback")


def test_exit_by_an_exception_and_by_sys_exit(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
manager = memguard.ResourceManager()
manager.register_cleanup_callback(lambda: print("cleaned"))
sys.exit(0)
""")
    assert out == "cleaned\n"


def test_exit_while_a_callback_runs_in_the_background(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
config = {{"max_memory_mb": 1, "sample_interval": "10ms",
           "background_callbacks": True}}
inside = threading.Event()
def slow():
    inside.set()
    time.sleep(0.3)
    print("callback is over", flush=True)
manager = memguard.ResourceManager(config)
manager.memory_monitor.register_pressure_callback(slow)
assert inside.wait(30)
print("end", flush=True)
""")
    lines = out.split()
    assert lines[0] == "end"
    assert "over" in lines


def test_a_manager_made_while_the_interpreter_ends(run_child: Run) -> None:
    run_child(f"""{HEAD}
import atexit
class Late:
    def __del__(self):
        memguard.ResourceManager({{"max_memory_mb": 1}}).get_memory_pressure()
# Registered before memguard's own, so it runs after.
late = Late()
""")


def test_daemon_threads_at_exit(run_child: Run) -> None:
    run_child(f"""{HEAD}
manager = memguard.ResourceManager({{"max_memory_mb": 1}})
rows = manager.create_buffer("rows", lambda items: None)
def work():
    while True:
        rows.append(1)
        try:
            manager.should_flush_buffer("rows")
            manager.flush_buffer("rows")
        except (memguard.ClosedError, memguard.NotFoundError):
            return
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
""")


# ---- threads ----------------------------------------------------------------


def test_no_thread_is_left_behind(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
config = {{"max_memory_mb": 1, "sample_interval": "10ms",
           "background_callbacks": True}}
counts = [threads()]
for _ in range(3):
    called = []
    with memguard.ResourceManager(config) as manager:
        manager.memory_monitor.register_pressure_callback(lambda: called.append(1))
        wait_for(lambda: called)
        counts.append(threads(3))
    counts.append(threads())
manager = memguard.ResourceManager()
manager.cleanup()
counts.append(threads())
manager.close()
with memguard.MemoryMonitor() as monitor:
    # The sampler; its worker follows with the first sample.
    counts.append(threads(2) in (2, 3))
    monitor.stop_monitoring()
    counts.append(threads())
memguard.MemoryMonitor()
counts.append(threads())
print(counts)
""")
    assert out == "[1, 3, 1, 3, 1, 3, 1, 1, True, 1, 1]\n"


def test_a_callback_on_memguards_thread_may_close_everything(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
config = {{"max_memory_mb": 1, "sample_interval": "10ms",
           "background_callbacks": True}}
closed = threading.Event()
def close():
    global manager
    manager.close()
    del manager
    closed.set()
manager = memguard.ResourceManager(config)
manager.memory_monitor.register_pressure_callback(close)
assert closed.wait(30)
wait_for(lambda: threads() == 1)
with memguard.ResourceManager(config) as manager:
    manager.get_memory_pressure()
print(threads())
""")
    assert out == "1\n"


def test_both_sides_start_and_stop_monitoring(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
config = {{"max_memory_mb": 1, "sample_interval": "10ms",
           "background_callbacks": True}}
turns = []
def callback():
    turns.append(1)
    try:
        monitor.stop_monitoring()
        monitor.start_monitoring()
    except memguard.ClosedError:
        pass  # the program has closed it meanwhile
with memguard.MemoryMonitor(config) as monitor:
    monitor.register_pressure_callback(callback)
    for _ in range(20):
        monitor.stop_monitoring()
        monitor.start_monitoring()
        seen = len(turns)
        wait_for(lambda: len(turns) > seen)
print(threads())
""")
    assert out == "1\n"


def test_background_callbacks_while_the_program_holds_the_gil(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
config = {{"max_memory_mb": 1, "sample_interval": "10ms",
           "background_callbacks": True}}
for _ in range(20):
    manager = memguard.ResourceManager(config)
    rows = manager.create_buffer("rows", lambda items: None)
    manager.memory_monitor.register_pressure_callback(lambda: None)
    for item in range(20000):
        rows.append(item)
        if manager.should_flush_buffer("rows"):
            manager.flush_buffer("rows")
    manager.close()
print(threads())
""")
    assert out == "1\n"


def test_no_thread_to_be_had(run_child: Run) -> None:
    out = run_child(
        f"""{HEAD}
import linecache, logging, resource, tokenize
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if os.geteuid() == 0:  # the limit does not hold for root
    os.setuid(65534)
manager = memguard.ResourceManager({{"max_memory_mb": 1}})
print(manager.memory_monitor.is_monitoring, manager.get_memory_pressure())
manager.close()
memguard.MemoryMonitor().close()
""",
        stderr="no background samples: no thread to be had",
    )
    assert out == "False 1.0\n"


# ---- fork -------------------------------------------------------------------


def test_fork_without_a_warning_and_with_a_monitor_on_both_sides(
    run_child: Run,
) -> None:
    out = run_child(f"""{HEAD}
manager = memguard.ResourceManager({{"sample_interval": "10ms"}})
wait_for(lambda: manager.memory_monitor.latest.number > 0)
def moves():
    before = manager.memory_monitor.latest.number
    wait_for(lambda: manager.memory_monitor.latest.number > before + 2)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                moves()
                assert threads(3) == 3
                assert memguard.rss_bytes() != 0
                code = 0
            finally:
                os._exit(code)
        wait_for_child(pid)
        moves()
        assert threads(3) == 3
print([str(warning.message) for warning in caught])
manager.close()
print(threads())
""")
    assert out == "[]\n1\n"


def test_a_fork_off_the_main_thread_resumes_with_the_next_check(
    run_child: Run,
) -> None:
    out = run_child(f"""{HEAD}
warnings.simplefilter("ignore")
manager = memguard.ResourceManager({{"sample_interval": "10ms"}})
def fork_and_go_on():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    wait_for_child(pid)
    manager.get_memory_pressure()
    before = manager.memory_monitor.latest.number
    wait_for(lambda: manager.memory_monitor.latest.number > before + 2)
    done.release()
done = threading.Lock()
done.acquire()
worker = threading.Thread(target=fork_and_go_on)
worker.start()
assert done.acquire()  # in one call: no pending call is run here meanwhile
manager.close()
worker.join()
print(threads())
""")
    assert out == "1\n"


def test_a_child_owns_nothing_of_its_parent(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
import tempfile
folder = tempfile.mkdtemp()
path = os.path.join(folder, "file")
open(path, "w").close()
manager = memguard.ResourceManager()
manager.register_temp_file(path)
manager.register_cleanup_callback(lambda: print(os.getpid() == parent, flush=True))
rows = manager.create_buffer("rows", lambda items: print(items, flush=True))
rows.extend([1, 2])
alone = memguard.BufferManager()
other = alone.create_buffer("other", lambda items: print("alone", items, flush=True))
other.append(3)
parent = os.getpid()
pid = os.fork()
if pid == 0:
    assert rows == [] and other == []
    assert manager.temp_files == [] and manager.cleanup_callbacks == []
    assert manager.create_buffer("rows") is rows
    rows.append("child")
    sys.exit(0)
wait_for_child(pid)
print("parent", flush=True)
assert os.path.exists(path)
manager.close()
alone.close()
assert not os.path.exists(path)
os.rmdir(folder)
""")
    assert out.split("\n") == [
        "['child']",
        "parent",
        "[1, 2]",
        "True",
        "alone [3]",
        "",
    ]


def test_fork_inside_a_sink_and_inside_callbacks(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
def fork():
    pid = os.fork()
    if pid == 0:
        return True
    wait_for_child(pid)
    return False
def sink(items):
    if fork():
        sys.exit(0)
    print("sink", items, flush=True)
manager = memguard.ResourceManager({{"max_memory_mb": 1}})
rows = manager.create_buffer("rows", sink)
rows.extend([1, 2])
def callback():
    if fork():
        os._exit(0)
    print("callback", flush=True)
manager.memory_monitor.pressure_callbacks.append(callback)
manager.flush_buffer("rows")
manager.memory_monitor._pass(False)
manager.get_memory_pressure()
manager.register_cleanup_callback(lambda: fork() and os._exit(0))
manager.close()
print(threads())
""")
    assert out.count("sink [1, 2]\n") == 1
    assert "callback\n" in out
    assert out.endswith("1\n")


def test_fork_on_memguards_own_thread(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
done = threading.Event()
def callback():
    if done.is_set():
        return
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    wait_for_child(pid)
    done.set()
config = {{"max_memory_mb": 1, "sample_interval": "10ms",
           "background_callbacks": True}}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    manager = memguard.ResourceManager(config)
    manager.memory_monitor.register_pressure_callback(callback)
    assert done.wait(30)
    manager.close()
print(threads())
""")
    assert out == "1\n"


def test_fork_while_other_threads_use_everything(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
warnings.simplefilter("ignore")
manager = memguard.ResourceManager({{"max_memory_mb": 1, "sample_interval": "10ms"}})
def work(name):
    rows = manager.create_buffer(name, lambda items: None)
    while not done.is_set():
        rows.append(1)
        manager.should_flush_buffer(name)
        manager.flush_buffer(name)
        manager.memory_monitor._pass(False)
done = threading.Event()
workers = [threading.Thread(target=work, args=(f"b{{i}}",)) for i in range(3)]
for worker in workers:
    worker.start()
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for name in ("b0", "b1", "b2"):
                manager.create_buffer(name).append(1)
                manager.flush_buffer(name)
            manager.get_memory_pressure()
            manager.memory_monitor.collect_memory_stats()
            manager.close()
            code = 0
        finally:
            os._exit(code)
    wait_for_child(pid)
done.set()
for worker in workers:
    worker.join()
manager.close()
print(threads())
""")
    assert out == "1\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(run_child: Run, tmp_path: object, method: str) -> None:
    script = f"{tmp_path}/script.py"
    with open(script, "w") as file:
        file.write(f"""{HEAD}
import multiprocessing

def work(number):
    with memguard.ResourceManager({{"sample_interval": "10ms"}}) as manager:
        written = []
        rows = manager.create_buffer("rows", written.extend)
        rows.extend(range(number))
        manager.flush_buffer("rows")
        manager.get_memory_pressure()
        return sum(written)

if __name__ == "__main__":
    manager = memguard.ResourceManager()
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        print(pool.map(work, [10, 20, 30]))
        pool.close()
        pool.join()
    manager.close()
""")
    out = run_child(f"""
import runpy, warnings
warnings.simplefilter("ignore")
runpy.run_path({script!r}, run_name="__main__")
""")
    assert out == "[45, 190, 435]\n"


def test_subprocesses(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
import subprocess
manager = memguard.ResourceManager()
for _ in range(3):
    print(subprocess.run(["echo", "x"], capture_output=True).stdout)
subprocess.run(["true"], preexec_fn=lambda: None, check=True)
manager.close()
""")
    assert out == "b'x\\n'\n" * 3


# ---- subinterpreters --------------------------------------------------------

SUB = """
import memguard, os, time
config = {"max_memory_mb": 1, "sample_interval": "10ms", "background_callbacks": True}
called = []
manager = memguard.ResourceManager(config)
manager.memory_monitor.register_pressure_callback(lambda: called.append(1))
rows = manager.create_buffer("rows", called.extend)
rows.extend([1, 2])
deadline = time.monotonic() + 30
while len(called) < 3:  # before 3.14 callbacks run in the program's own calls
    assert time.monotonic() < deadline
    manager.get_memory_pressure()
    time.sleep(0.005)
if CLOSE:
    manager.close()
try:
    memguard.ResourceManager({"max_memory_mb": -1})
except memguard.RangeError:
    pass
"""


def test_subinterpreters_side_by_side(run_child: Run) -> None:
    """From 3.12 on each has a GIL of its own."""
    out = run_child(f"""{HEAD}
try:
    import _interpreters as api
except ImportError:
    import _xxsubinterpreters as api
def interpret(code):
    sub = api.create()
    try:
        failure = api.run_string(sub, code)
        assert failure is None, failure
    finally:
        wait_for(lambda: destroyed(sub))
def destroyed(sub):
    try:
        api.destroy(sub)
    except RuntimeError as error:
        # 3.11 refuses while a callback of the sub-interpreter is at work.
        assert "more than one thread" in str(error)
        return False
    return True
code = {SUB!r}
main = memguard.ResourceManager({{"sample_interval": "10ms"}})
workers = [
    threading.Thread(target=interpret, args=(f"CLOSE = {{i % 2}}" + code,))
    for i in range(6)
]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert main.memory_monitor.is_monitoring
main.close()
print(threads())
""")
    assert out == "1\n"


def test_subinterpreters_one_after_another(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
try:
    import _interpreters as api
except ImportError:
    import _xxsubinterpreters as api
for close in (0, 1, 0):
    sub = api.create()
    failure = api.run_string(sub, f"CLOSE = {{close}}" + {SUB!r})
    assert failure is None, failure
    api.destroy(sub)
print(threads())
""")
    assert out == "1\n"


# ---- import -----------------------------------------------------------------


def test_import_is_light(run_child: Run) -> None:
    folder = str(Path(memguard.__file__).parent.parent)
    out = run_child(
        f"""
import sys
sys.path.insert(0, {folder!r})
import memguard
heavy = {{"logging", "json", "yaml", "enum", "typing", "dataclasses", "threading",
          "tempfile", "inspect", "contextlib", "collections", "re", "warnings",
          "tomllib", "weakref", "functools", "tracemalloc"}}
# What looks for who leaks, on suspicion, may import more.
manager = memguard.ResourceManager({{"leak_census": False, "leak_collect": 0}})
manager.create_buffer("rows").append(1)
manager.should_flush_buffer("rows")
manager.flush_buffer("rows")
manager.memory_monitor._tick()  # as memguard's thread does now and then
manager.close()
print(sorted(heavy & set(sys.modules)))
""",
        "-I",
        "-S",
    )
    assert out == "[]\n"
