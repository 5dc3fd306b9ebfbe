"""LeakDetector and FdWatch on real leaks, time compressed: a window of four minutes
takes two seconds. Each in a process of its own."""

from collections.abc import Callable

import memguard
import pytest
from common import KEEPS_GENERATIONS

Run = Callable[..., str]

HEAD = """
import gc, json, os, sys, threading, time
import memguard

class Session:
    def __init__(self):
        self.values = {"secret-4711": [1]}

kept = []

def until(condition, work=lambda: None, seconds=50):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        work()
        time.sleep(0.005)

began = time.monotonic()

def due(per_second):  # as much in each second, however busy the machine
    return int(per_second * (time.monotonic() - began))

def leak():
    kept.extend(Session() for _ in range(due(8000) - len(kept)))

def alarms(detector):
    tiers = ("likely", "confirmed", "critical")
    return [f for f in detector.findings if f.tier in tiers]

def found(detector, name):
    return [f for f in detector.findings if any(c.name == name for c in f.culprits)]

FAST = {"leak": {"time_scale": 120}, "max_memory_mb": 256}
"""


# ---- what leaks ---------------------------------------------------------------


def test_objects_are_found_and_named(run_child: Run) -> None:
    said = run_child(
        HEAD
        + f"can_slice = {KEEPS_GENERATIONS}\n"
        + """
told = []
with memguard.LeakDetector(FAST) as detector:
    for event in ("leak:suspected", "leak:warning", "leak:critical"):
        detector.on(event, lambda payload, event=event: told.append((event, payload)))
    until(lambda: found(detector, "__main__.Session"), leak)
    until(lambda: [e for e, p in told if e != "leak:suspected"], leak)
    session = lambda: found(detector, "__main__.Session")[0]
    until(lambda: session().culprits[0].referrers or not can_slice, leak)
    first = found(detector, "__main__.Session")[0]
    report, rows = detector.report(), detector.as_dict()
    errors = detector.errors

culprit = first.culprits[0]
print(culprit.kind, culprit.name, culprit.growth > 100, culprit.share >= 0.5)
print(("list <- __main__.kept" in culprit.referrers) == can_slice)
print(first.signal in ("blocks", "heap"), first.growth > 0)
print(bool(first.advice), str(os.getpid()) in " ".join(first.advice))
print("type __main__.Session: +" in report, "next: " in report)
row = [r for r in rows["leak_detection"] if r["type"] == "__main__.Session"][0]
print(row["severity"] in ("low", "medium", "high"), row["growth_rate"] > 0)
payload = [p for e, p in told if e != "leak:suspected"][0]
print(payload["signal"], payload["finding"]["signal"])
print("4711" in report + json.dumps(rows) + json.dumps([p for _, p in told]), errors)
"""
    )
    lines = said.splitlines()
    assert lines[:6] == [
        "type __main__.Session True True",
        "True",
        "True True",
        "True True",
        "True True",
        "True True",
    ]
    signal, *same = lines[6].split()
    assert signal in ("blocks", "heap")
    assert same == [signal]
    assert lines[7] == "False 0"


def test_descriptors_are_found_by_target(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
def leak():
    while len(kept) < due(15):  # as long as is waited, few enough
        kept.append(os.open(os.devnull, os.O_RDONLY))

with memguard.LeakDetector(FAST) as detector:
    until(lambda: found(detector, "file /dev/null"), leak)
    first = found(detector, "file /dev/null")[0]
print(first.signal in ("fds", "fd_files", "fd_others"), first.unit)
print(first.culprits[0].kind, any("lsof" in line for line in first.advice))
"""
    )
    assert said.splitlines() == ["True count", "fd True"]


def test_strings_are_found_by_their_place_if_allowed(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
def leak():
    kept.extend("text %d" % number for number in range(len(kept), due(80000)))

with memguard.LeakDetector(FAST, leak_trace=True) as detector:
    until(lambda: [c for f in alarms(detector) for c in f.culprits
                   if c.kind == "site"], leak)
    sites = [c for f in alarms(detector) for c in f.culprits if c.kind == "site"]
    print(sites[0].name.rpartition(":")[0], sites[0].growth_bytes > 1000)
import tracemalloc
print(tracemalloc.is_tracing())
"""
    )
    assert said.splitlines() == ["<string> True", "False"]


def test_garbage_is_not_named_first(run_child: Run) -> None:
    """Cycles that only a collection frees, more of them than of what leaks."""
    said = run_child(
        HEAD
        + """
class Knot:
    def __init__(self):
        self.me = self

def work():
    leak()
    for _ in range(30):
        Knot()

gc.set_threshold(1_000_000)
with memguard.LeakDetector(FAST) as detector:
    until(lambda: found(detector, "__main__.Session"), work)
    print(found(detector, "__main__.Session")[0].culprits[0].name, detector.errors)
"""
    )
    assert said == "__main__.Session 0\n"


def test_threads_are_named_by_what_they_run(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
done = threading.Event()
def work():
    done.wait()

def leak():
    while len(kept) < due(15):  # as long as is waited, few enough
        kept.append(threading.Thread(target=work))
        kept[-1].start()

with memguard.LeakDetector(FAST) as detector:
    until(lambda: [f for f in detector.findings if f.signal == "threads"], leak)
    first, = [f for f in detector.findings if f.signal == "threads"]
    culprit = first.culprits[0]
    print(culprit.kind, culprit.name, culprit.growth > 10, culprit.share > 0.9)
done.set()
for thread in kept:
    thread.join()
"""
    )
    assert said == "thread __main__.work True True\n"


def test_told_numbers(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
def leak():
    detector.tell("connections", due(200))
    detector.check()

with memguard.LeakDetector(FAST) as detector:
    until(lambda: any(f.signal == "connections" for f in alarms(detector)), leak)
    try:
        detector.tell("fds", 3)
    except memguard.InvalidError as error:
        print(error)
"""
    )
    assert said == 'signal is \'fds\', allowed: "connections", "handles"\n'


def test_what_does_not_leak_raises_no_alarm(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
def work():  # from nothing to the highest in each second
    height = due(20000) % 20000
    if len(kept) > height:
        kept.clear()
    kept.extend(Session() for _ in range(height - len(kept)))

kept.extend(Session() for _ in range(20000))  # the saw-tooth's highest
kept.clear()
with memguard.LeakDetector(FAST) as detector:
    until(lambda: detector.stats()["wide"] >= 60, work)
    print(detector.stats()["alarms"], detector.errors)
"""
    )
    assert said == "0 0\n"


# ---- life ---------------------------------------------------------------------


def test_runs_with_the_manager_unless_told_not_to(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
with memguard.ResourceManager() as manager:
    detector = manager.leak_detector
    print(detector.is_running, detector is manager.memory_monitor.leak_detector)
    manager.update_config({"leak_detection": False})
    until(lambda: not detector.is_running)
    print(detector.closed)
    manager.update_config({"leak_detection": True})
    until(lambda: detector.is_running)
    try:
        memguard.LeakDetector(monitor=manager.memory_monitor)
    except memguard.ExistsError:
        print("one at a time")
    detector.close()
    again = manager.leak_detector
    print(again.is_running, again is detector)
print(detector.closed, again.closed, again.is_running)
try:
    again.findings
except memguard.ClosedError as error:
    print(error)
with memguard.ResourceManager({"leak_detection": False}) as manager:
    print(manager.memory_monitor._detector)
"""
    )
    assert said.splitlines() == [
        "True True",
        "False",
        "one at a time",
        "True False",
        "True True False",
        "LeakDetector is closed",
        "None",
    ]


def test_of_two_one_counts_and_both_know(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
from memguard import _leak_detector
counts = []
count = _leak_detector._census
_leak_detector._census = lambda: counts.append(detectors[0]._turn.locked()) or count()

detectors = [memguard.LeakDetector(FAST), memguard.LeakDetector(FAST)]
first, second = detectors
until(lambda: found(second, "__main__.Session"), leak)
print(bool(found(first, "__main__.Session")), len(counts) >= 2, all(counts))
first.close()
print(second._first() is second)
second.close()
"""
    )
    assert said.splitlines() == ["True True True", "True"]


def test_stop_and_start(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
detector = memguard.LeakDetector(FAST)
print(detector.is_running)
detector.stop()
detector.stop()
samples = detector.stats()["samples"]
print(detector.is_running, detector.findings)
detector.start()
until(lambda: detector.stats()["samples"] > samples)
detector.close()
detector.close()
for call in (detector.start, detector.check, lambda: detector.findings):
    try:
        call()
    except memguard.ClosedError:
        print("closed")
detector.stop()
print(detector.is_running, detector.closed)
"""
    )
    assert said.splitlines() == [
        "True",
        "False []",
        "closed",
        "closed",
        "closed",
        "False True",
    ]


def test_ends_with_the_interpreter_and_without_close(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
detector = memguard.LeakDetector(FAST, leak_trace=True)
forgotten = memguard.LeakDetector(FAST)
del forgotten
gc.collect()
until(lambda: detector.stats()["wide"] >= 20, leak)
print("end")
"""
    )
    assert said == "end\n"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
import warnings
warnings.simplefilter("ignore")
detector = memguard.LeakDetector(FAST)
until(lambda: detector.findings, leak)
pid = os.fork()
if pid == 0:
    try:
        mine = memguard.LeakDetector(FAST)
        mine.check()
        mine.close()
        detector.check()
        until(lambda: detector.findings, leak)
        detector.close()
        print("child", flush=True)
    finally:
        os._exit(0)
os.waitpid(pid, 0)
began = time.monotonic() - len(kept) / 8000  # it goes on where it waited
until(lambda: found(detector, "__main__.Session"), leak)
print("parent")
detector.close()
"""
    )
    assert said.splitlines() == ["child", "parent"]


def test_in_a_subinterpreter(run_child: Run) -> None:
    said = run_child(
        """
import sys
if sys.version_info >= (3, 13):
    import _interpreters as api
else:
    import _xxsubinterpreters as api
code = '''
import memguard
kept = []
detector = memguard.LeakDetector({"leak": {"time_scale": 240}})
for _ in range(5):
    kept.append([])
    detector.check()
print(detector.errors, flush=True)
'''
one = api.create()
api.run_string(one, code)
api.destroy(one)
print("ended")
"""
    )
    assert said.splitlines() == ["0", "ended"]


# ---- the host is not hurt ----------------------------------------------------


def test_errors_inside_are_survived_and_told_once(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
from memguard import _leak_detector
def fail():
    raise RuntimeError("inside")
_leak_detector._census = fail
with memguard.LeakDetector(FAST) as detector:
    until(lambda: detector.errors and detector.findings, leak)
    print(bool(detector.findings))
""",
        stderr="looking for who leaks (census_base) failed (told once until it works",
    )
    assert said == "True\n"


def test_a_listener_that_raises_is_logged(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
told = []
def fail(payload):
    raise RuntimeError("theirs")
with memguard.LeakDetector(FAST) as detector:
    detector.on("leak:suspected", fail)
    detector.on("leak:suspected", told.append)
    until(lambda: told, leak)
    try:
        detector.on("leak:wanring", fail)
    except memguard.InvalidError as error:
        print(error)
""",
        stderr="failed (told once until it works again)",
    )
    assert said == (
        "event 'leak:wanring', allowed: leak:suspected, leak:warning, leak:critical, "
        "leak:withdrawn, fd:warning\n"
    )


def test_no_collection_is_forced_while_the_program_forbids_it(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
gc.collect()
gc.disable()
before = gc.get_stats()[2]["collections"]
with memguard.LeakDetector(FAST) as detector:
    until(lambda: detector.stats()["wide"] >= 30, leak)
    detector.check()
print(gc.get_stats()[2]["collections"] - before, detector.errors)
"""
    )
    assert said == "0 0\n"


def test_tracing_of_the_program_is_left_alone(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
import tracemalloc
tracemalloc.start(2)
with memguard.LeakDetector(FAST, leak_trace=True) as detector:
    until(lambda: found(detector, "__main__.Session"), leak)
print(tracemalloc.is_tracing(), tracemalloc.get_traceback_limit())
"""
    )
    assert said == "True 2\n"


def test_bad_settings_are_refused() -> None:
    with pytest.raises(memguard.RangeError, match=r"leak\.time_scale"):
        memguard.LeakDetector({"leak": {"time_scale": 0}})
    with pytest.raises(memguard.ConfigKeyError, match=r"leak\.leak_window"):
        memguard.LeakDetector(leak_windwo=3)
    with pytest.raises(memguard.RangeError, match="fd_warning_count"):
        memguard.FdWatch(0)
    with pytest.raises(memguard.ConfigTypeError, match="cleanup is 7, allowed"):
        memguard.FdWatch(cleanup=7)  # type: ignore[arg-type]


# ---- descriptors ----------------------------------------------------------------


def test_fd_watch_warns_once_and_cleans_up(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
reports = []
def clean_up(report):
    while kept:
        os.close(kept.pop())
    reports.append(report)  # last: it is waited for

def leak():
    if not reports and len(kept) < 400:
        kept.append(os.open(os.devnull, os.O_RDONLY))

with memguard.FdWatch(200, 1_000_000, cleanup=clean_up) as watch:
    until(lambda: reports, leak)
    report = reports[0]
    print(report["count"] >= 200, report["threshold"], watch.warnings, watch.failures)
    target = next(iter(report["targets"]))
    print(target, report["targets"][target] > 100, watch.count < 100)
    seen = watch._detector.stats()["samples"]
    until(lambda: watch._detector.stats()["samples"] > seen + 1)  # it is over
    reports.clear()
    until(lambda: reports, leak)
    print(watch.warnings)
print(len(reports))
"""
    )
    assert said.splitlines() == [
        "True 200 1 0",
        "file /dev/null True True",
        "2",
        "1",
    ]


def test_fd_watch_survives_its_hook(run_child: Run) -> None:
    said = run_child(
        HEAD
        + """
def fail(report):
    raise RuntimeError("theirs")

def leak():
    if len(kept) < 300:
        kept.append(os.open(os.devnull, os.O_RDONLY))

with memguard.MemoryMonitor({"background_callbacks": True}) as monitor:
    watch = memguard.FdWatch(200, 1_000_000, cleanup=fail, monitor=monitor)
    until(lambda: watch.failures, leak)
    print(watch.warnings, monitor.settings["leak"]["fd_warning_count"])
    watch.close()
    print(monitor.leak_detector.is_running)
""",
        stderr="(told once until it works again)",
    )
    assert said.splitlines() == ["1 200", "True"]
