"""LeakDetector and FdWatch on real leaks, time compressed: a window of four minutes
takes two seconds. Each in a process of its own."""

import functools
import json
import threading
from collections.abc import Callable
from typing import Any

import memguard
import pytest
from memguard import _leak_threads, _leak_who
from memguard._leak_finding import LeakCulprit
from memguard._leak_who import attributed

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

def leak():  # as much in each second, however busy the machine
    due = int(8000 * (time.monotonic() - began))
    kept.extend(Session() for _ in range(due - len(kept)))

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
        + """
told = []
with memguard.LeakDetector(FAST) as detector:
    for event in ("leak:suspected", "leak:warning", "leak:critical"):
        detector.on(event, lambda payload, event=event: told.append((event, payload)))
    until(lambda: found(detector, "__main__.Session"), leak)
    until(lambda: [e for e, p in told if e != "leak:suspected"], leak)
    until(lambda: found(detector, "__main__.Session")[0].culprits[0].referrers, leak)
    first = found(detector, "__main__.Session")[0]
    report, rows = detector.report(), detector.as_dict()
    errors = detector.errors

culprit = first.culprits[0]
print(culprit.kind, culprit.name, culprit.growth > 100, culprit.share >= 0.5)
print("list <- __main__.kept" in culprit.referrers)
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
    due = int(80000 * (time.monotonic() - began))
    kept.extend("text %d" % number for number in range(len(kept), due))

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
    if len(kept) < 400:
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
count = 0
def leak():
    global count
    count += 1
    detector.tell("connections", count)
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
def work():
    for _ in range(100):
        kept.append(Session())
    if len(kept) >= 20000:
        kept.clear()

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
    reports.append(report)
    while kept:
        os.close(kept.pop())

def leak():
    if not reports:
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


# ---- who it is, from a census ------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(
            [("dict", 300, 0.5), ("list", 200, 0.33), ("app.Session", 100, 0.17)],
            [("app.Session", 1.0), ("dict", 0.5), ("list", 0.33)],
            id="the objects of a class are the class's",
        ),
        pytest.param(
            [("dict", 60, 0.6), ("a.A", 30, 0.3), ("b.B", 10, 0.1)],
            [("a.A", 0.75), ("b.B", 0.25), ("dict", 0.6)],
            id="of two in proportion",
        ),
        pytest.param(
            [("dict", 1000, 0.99), ("app.Session", 10, 0.01)],
            [("dict", 0.99), ("app.Session", 0.01)],
            id="a class that hardly grows explains nothing",
        ),
        pytest.param(
            [("tuple", 10, 0.5), ("_thread.lock", 10, 0.5)],
            [("tuple", 0.5), ("_thread.lock", 0.5)],
            id="no class at all",
        ),
        pytest.param(
            [("__main__.Session", 10, 1.0)],
            [("__main__.Session", 1.0)],
            id="a class alone",
        ),
    ],
)
def test_growth_is_put_down_to_classes_of_the_program(
    rows: list[tuple[str, int, float]], expected: list[tuple[str, float]]
) -> None:
    given = [("type", name, growth, 0, growth, share) for name, growth, share in rows]
    got: list[Any] = [(row[1], pytest.approx(row[5])) for row in attributed(given)]
    assert expected == got


@pytest.mark.parametrize(
    ("signal", "untracked", "expected"),
    [
        pytest.param(
            "heap",
            0,
            ["A", "B", "x.py:1", "C", "x.py:2", "[heap]"],
            id="two types and a place",
        ),
        pytest.param(
            "blocks",
            61,
            [_leak_who.UNTRACKED, "x.py:1", "A", "x.py:2", "B", "C", "[heap]"],
            id="what no census can tell, and its places",
        ),
        pytest.param(
            "native",
            61,
            ["[heap]", "A", "B", "C", "x.py:1", "x.py:2"],
            id="the mapping",
        ),
    ],
)
def test_three_names_say_what_there_is_to_say(
    signal: str, untracked: int, expected: list[str]
) -> None:
    names = {"A": 30, "B": 20, "C": 10}
    given = [LeakCulprit("type", name, growth) for name, growth in names.items()]
    given += [LeakCulprit("site", f"x.py:{line}", 5) for line in (1, 2)]
    given.append(LeakCulprit("mapping", "[heap]", 1))
    ordered = _leak_who.in_order(signal, given, 60, untracked)
    assert [one.name for one in ordered] == expected


def test_native_memory_without_a_mapping_has_a_name() -> None:
    (one,) = _leak_who.in_order("native", [], 4096, 0)
    assert (one.kind, one.name, one.growth_bytes) == (
        "mapping",
        "(native memory)",
        4096,
    )


def test_what_explains_little_is_not_named() -> None:
    rows = [("type", "A", 96, 0, 96, 0.96), ("type", "B", 4, 0, 4, 0.04)]
    assert _leak_who.explaining(rows) == rows[:1]
    assert _leak_who.explaining(rows, of=0.5) == rows


class Worker(threading.Thread):
    """Has a class of its own."""


@pytest.mark.parametrize(
    ("thread", "expected"),
    [
        (threading.Thread(target=print, name="session-alice"), "builtins.print"),
        (threading.Thread(target=functools.partial(print, 1)), "builtins.print"),
        (threading.Thread(name="worker-12-of-90"), "worker-#-of-#"),
        (Worker(name="session-alice"), f"{__name__}.Worker"),
    ],
)
def test_threads_that_run_the_same_have_one_name(
    thread: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "enumerate", lambda: [thread, thread])
    assert _leak_threads.thread_names() == {expected: 2}


def test_findings_are_plain_data() -> None:
    finding = memguard.LeakFinding(
        signal="fds",
        tier="critical",
        severity="high",
        growth=1200,
        growth_per_minute=40.5,
        unit="count",
        time_to_limit_seconds=7200,
        culprits=(memguard.LeakCulprit("fd", "pipe", 1200, None, 1.0, 1210),),
        advice=("lsof -p 1",),
    )
    assert str(finding) == (
        "fds: critical leak, severity high: +1200, 40.5 a minute, limit reached in "
        "2.0 h\n  fd pipe: +1200, 100% of the growth\n  next: lsof -p 1"
    )
    row = json.loads(json.dumps(finding.as_dict()))
    assert (row["type"], row["severity"], row["growth_rate"]) == ("pipe", "high", 40.5)
    assert row["culprits"][0]["name"] == "pipe"
