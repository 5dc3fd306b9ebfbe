"""assert_no_leak(): real leaks of each kind are found and named, what looks like one
is not. Each group in a process of its own, which is quiet."""

from collections.abc import Callable

import memguard
import pytest
from memguard import leak

HEAD = """
import ctypes, functools, itertools, os, resource, sys, threading
import memguard
from memguard.leak import assert_no_leak, find_leaks

class Session:
    def __init__(self):
        self.values = {"a": [1]}

kept = []
numbers = itertools.count()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [
    ctypes.c_long]

def signals(fn, **options):
    return [finding.signal for finding in find_leaks(fn, **options)]
"""


def test_objects_are_named(run_child: Callable[..., str]) -> None:
    said = run_child(
        HEAD
        + """
def handle():
    kept.append(Session())

try:
    assert_no_leak(handle)
except memguard.MemoryLeakDetected as error:
    print(str(error).partition("\\n")[0])
    finding, = error.findings
first = finding.culprits[0]
print(first.kind, first.name, first.growth >= 1600, finding.unit, finding.tier)
print(finding.advice[0])
print(finding.as_dict()["type"], finding.calls >= 1600, finding.severity)
"""
    )
    assert said.splitlines() == [
        "handle leaks",
        "type __main__.Session True count confirmed",
        "objgraph.show_backrefs(objgraph.by_type('Session')[-3:], max_depth=5)",
        "__main__.Session True low",
    ]


def test_what_the_collector_does_not_see_is_named_by_its_place(
    run_child: Callable[..., str],
) -> None:
    said = run_child(
        HEAD
        + """
def interned():
    kept.append(sys.intern("name %d" % next(numbers)))

def numbered(known={}):
    known[next(numbers) + 1000] = None

def appended(rows=[]):
    rows.append(1)  # no object more, but a longer list

for fn in (interned, numbered, appended):
    finding, = find_leaks(fn)
    site, = [c for c in finding.culprits if c.kind == "site"][:1]
    print(finding.signal, site.name.rpartition(":")[0], site.growth_bytes > 1000)
"""
    )
    assert said.splitlines() == [
        "blocks <string> True",
        "blocks <string> True",
        "heap <string> True",
    ]


def test_native_memory(run_child: Callable[..., str]) -> None:
    said = run_child(
        HEAD
        + """
for fn in (lambda: libc.malloc(100),
           lambda: libc.mmap(None, 4096, 3, 0x22, -1, 0)):
    finding, = find_leaks(fn)
    print(finding.signal, finding.unit, finding.culprits[0].kind,
          finding.culprits[0].name, finding.growth / finding.calls >= 100)
"""
    )
    assert said.splitlines() == [
        "native bytes mapping memory of malloc True",
        "native bytes mapping anonymous mappings True",
    ]


def test_descriptors_and_threads_before_they_run_out(
    run_child: Callable[..., str],
) -> None:
    said = run_child(
        HEAD
        + """
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
finding, = find_leaks(lambda: os.open(os.devnull, os.O_RDONLY))
print(finding.signal, finding.severity, finding.culprits[0].name)
os.closerange(3, 256)

finding, = find_leaks(lambda: [os.pipe() for _ in range(3)], iterations=20)
print(finding.signal, finding.culprits[0].name)
os.closerange(3, 256)

done = threading.Event()
def work():
    done.wait()

threads = find_leaks(lambda: threading.Thread(target=work, daemon=True).start())[0]
print(threads.signal, threads.culprits[0].kind, threads.culprits[0].name)
print(threading.active_count() < 500)
done.set()
"""
    )
    assert said.splitlines() == [
        "fds high file /dev/null",
        "fds pipe",
        "threads thread __main__.work",
        "True",
    ]


def test_what_looks_like_a_leak_is_none(run_child: Callable[..., str]) -> None:
    said = run_child(
        HEAD
        + """
@functools.lru_cache(maxsize=1024)
def lazily(number):
    return [number]

ring = []
def flushed():
    ring.append(Session())
    if len(ring) >= 500:
        ring.clear()

def cyclic():
    session = Session()
    session.me = session

def threaded():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()

table = {}
def once():
    table.setdefault("table", [Session() for _ in range(10000)])

def opened():
    os.close(os.open(os.devnull, os.O_RDONLY))

def freed():
    libc.free(ctypes.c_void_p(libc.malloc(100)))

async def awaited():
    Session()

for fn in (lambda: lazily(next(numbers)), flushed, cyclic, threaded, once, opened,
           freed, awaited, Session):
    assert_no_leak(fn)
print("none")
"""
    )
    assert said == "none\n"


def test_hostile_types_are_only_named(run_child: Callable[..., str]) -> None:
    said = run_child(
        HEAD
        + """
class Meta(type):
    def __hash__(cls): raise RuntimeError("hash")
    def __eq__(cls, other): raise RuntimeError("eq")
    def __repr__(cls): raise RuntimeError("repr")
    def __getattribute__(cls, name): raise RuntimeError("getattribute")

class Hostile(metaclass=Meta):
    def __repr__(self): raise RuntimeError("repr")
    @property
    def __class__(self): raise RuntimeError("class")
    def __sizeof__(self): raise RuntimeError("sizeof")
    def __eq__(self, other): raise RuntimeError("eq")

def handle(secret="4711-secret"):
    kept.append(type.__call__(Hostile))

finding = find_leaks(handle)[0]
print(finding.culprits[0].name)
print("4711" in str(finding), "4711" in repr(finding.as_dict()))
"""
    )
    assert said.splitlines() == ["__main__.Hostile", "False False"]


def test_coroutine_functions(run_child: Callable[..., str]) -> None:
    said = run_child(
        HEAD
        + """
async def handle():
    kept.append(Session())

print(find_leaks(handle, iterations=20)[0].culprits[0].name)
"""
    )
    assert said == "__main__.Session\n"


def test_only_the_chosen_signals(run_child: Callable[..., str]) -> None:
    said = run_child(
        HEAD
        + """
def both():
    kept.append((Session(), os.open(os.devnull, os.O_RDONLY)))

print(signals(both, signals=["fds"], iterations=20))
print(signals(both, signals="threads", iterations=20))
print(sorted(signals(both, iterations=20)))
"""
    )
    assert said.splitlines() == ["['fds']", "[]", "['blocks', 'fds']"]


def test_errors_of_the_function_are_its_own() -> None:
    def fail() -> None:
        raise LookupError("theirs")

    with pytest.raises(LookupError, match="theirs"):
        leak.assert_no_leak(fail)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(memguard.ConfigTypeError, match="fn is 7, allowed: a callable"):
        leak.assert_no_leak(7)  # type: ignore[arg-type]
    with pytest.raises(memguard.RangeError, match="iterations is 3, allowed: 4 to"):
        leak.assert_no_leak(int, iterations=3)
    with pytest.raises(memguard.RangeError, match="warmup is -1, allowed: 0 to"):
        leak.assert_no_leak(int, warmup=-1)
    with pytest.raises(memguard.ConfigTypeError, match=r"iterations is 1\.5, allowed"):
        leak.assert_no_leak(int, iterations=1.5)  # type: ignore[arg-type]
    with pytest.raises(memguard.InvalidError, match="signal 'rss', allowed: blocks"):
        leak.find_leaks(int, signals=["rss"])
