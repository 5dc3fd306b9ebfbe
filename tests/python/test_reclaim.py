"""Memory is reclaimed by itself and by hand: measured, recorded, at no time and
place of the program's a crash, a deadlock or a storm."""

import gc
from collections.abc import Callable

import memguard
import pytest
from common import RECLAIM_HEAD as HEAD
from common import Knot
from memguard import MemoryMonitor, _reclaim

Run = Callable[..., str]

ROUND = {
    "number",
    "unix_ms",
    "reason",
    "level",
    "took_ms",
    "gc_ms",
    "usage_before",
    "usage_after",
    "rss_before_bytes",
    "rss_after_bytes",
    "heap_before_bytes",
    "heap_after_bytes",
    "freed_bytes",
    "is_unreclaimable",
    "steps",
}


# ---- by hand ----------------------------------------------------------------


def test_release_memory(monitor: MemoryMonitor) -> None:
    gc.disable()
    try:
        for _ in range(30):
            Knot(1048576).payload[:] = b"x" * 1048576
        done = monitor.release_memory()
    finally:
        gc.enable()
    assert set(done) == ROUND
    assert done["reason"] == "manual"
    assert done["freed_bytes"] >= 30 * 1048576
    assert done["rss_before_bytes"] - done["rss_after_bytes"] >= 25 * 1048576
    assert done["took_ms"] >= done["gc_ms"] > 0
    assert done["is_unreclaimable"] is False
    (step,) = done["steps"]
    assert (step["action"], step["was_done"]) == ("release", True)
    assert step["freed_bytes"] >= 25 * 1048576
    assert monitor.get_reclaim_history(1) == [done]


def test_small_garbage_is_measured_to_the_block(monitor: MemoryMonitor) -> None:
    gc.disable()
    try:
        kept = [Knot() for _ in range(20_000)]
        pinned = kept[::50]  # so that most arenas stay
        kept.clear()
        done = monitor._reclaim(("full",), "manual", 0.0)
    finally:
        gc.enable()
    assert len(pinned) == 400
    (step,) = done["steps"]
    assert step["freed_bytes"] > 19_000 * 100


def test_trim_gives_back_what_malloc_holds(monitor: MemoryMonitor) -> None:
    blocks = [b"x" * 65536 for _ in range(1000)]
    pinned = blocks[::50]  # the last one too, or free() would trim by itself
    pinned.append(blocks[-1])
    blocks.clear()
    done = monitor._reclaim(("trim",), "manual", 0.0)
    assert len(pinned) == 21
    (step,) = done["steps"]
    assert (step["action"], step["was_done"]) == ("trim", True)
    assert step["freed_bytes"] > 40 * 1048576


def test_the_actions_asked_for_in_their_order(
    monitor: MemoryMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    monkeypatch.setattr(_reclaim, "caches", lambda share: shares.append(share) is None)
    before = monitor.get_reclaim_stats()
    done = monitor._reclaim(["full", "young", "trim", "caches"], "idle", 0.5)
    assert [s["action"] for s in done["steps"]] == ["caches", "trim", "young", "full"]
    assert [s["was_done"] for s in done["steps"]] == [True] * 4
    assert shares == [0.5]
    assert done["reason"] == "idle"
    after = monitor.get_reclaim_stats()
    assert after["rounds"] == before["rounds"] + 1
    assert after["failed"] == before["failed"]
    changed = {k: after["actions"][k] - n for k, n in before["actions"].items()}
    assert changed == {
        "caches": 1,
        "pools": 0,
        "trim": 1,
        "young": 1,
        "full": 1,
        "release": 0,
        "shed": 0,
    }


def test_history_and_bad_input(monitor: MemoryMonitor) -> None:
    for _ in range(70):
        monitor._reclaim(("young",), "manual", 0.0)
    history = monitor.get_reclaim_history(1000)
    assert len(history) == 64
    numbers = [done["number"] for done in history]
    assert numbers == list(range(numbers[0], numbers[0] + 64))
    assert [d["number"] for d in monitor.get_reclaim_history(3)] == numbers[-3:]
    assert monitor._rounds(-1) == []
    with pytest.raises(memguard.RangeError, match="count is 0, allowed: 1"):
        monitor.get_reclaim_history(0)
    with pytest.raises(memguard.ConfigTypeError):
        monitor.get_reclaim_history("all")  # type: ignore[arg-type]
    with pytest.raises(memguard.InvalidError, match="action is 'all', allowed: caches"):
        monitor._reclaim(("all",), "manual", 0.0)
    with pytest.raises(memguard.InvalidError, match="reason is 'none', allowed: bytes"):
        monitor._reclaim(("full",), "none", 0.0)
    with pytest.raises(memguard.InvalidError, match="no action"):
        monitor._reclaim((), "manual", 0.0)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(memguard.RangeError, match=r"allowed: 0\.0 to 1\.0"):
            monitor._reclaim(("caches",), "manual", share)
    with pytest.raises(memguard.ConfigTypeError):
        monitor._reclaim((1,), "manual", 0.0)  # type: ignore[arg-type]
    monitor.close()
    with pytest.raises(memguard.ClosedError):
        monitor.release_memory()
    with pytest.raises(memguard.ClosedError):
        monitor.get_reclaim_stats()


def test_collections_are_counted(manager: memguard.ResourceManager) -> None:
    assert manager.get_resource_stats().gc_collections == 0
    manager.memory_monitor.release_memory()
    manager.memory_monitor.trigger_gc()
    assert manager.get_resource_stats().gc_collections == 2
    with memguard.ResourceManager({"enabled": False}) as other:
        assert other.get_resource_stats().gc_collections == 0


# ---- by itself ----------------------------------------------------------------


def test_growth_of_large_blocks(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
told = []
manager = memguard.ResourceManager({{"max_memory_mb": 256, "sample_interval": "10ms"}})
monitor = manager.memory_monitor
monitor.on("optimization:automatic", told.append)
before = monitor.get_gc_stats()["pauses"]["count"]
burst(1000)
print(monitor.peak_memory < 256, memguard.rss_bytes() < 256 * 1048576)
rounds = monitor.get_reclaim_history()
assert rounds[-1]["reason"] == "bytes", rounds[-1]
assert {{s["action"] for r in rounds for s in r["steps"]}} <= {{"young", "full"}}
assert sum(r["freed_bytes"] for r in rounds) > 500 * 1048576
def check():
    manager.get_memory_pressure()
    return len(told) >= len(rounds)
wait_for(check)
assert told[0]["reason"] == "bytes" and told[0]["freed_bytes"] > 0, told[0]
stats = monitor.get_reclaim_stats()
print(stats["rounds"] >= 4, stats["failed"], stats["is_unreclaimable"])
print(manager.get_resource_stats().gc_collections >= 4)
""")
    assert out == "True True\nTrue 0 False\nTrue\n"


def test_buffers_that_die_by_themselves_trigger_nothing(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
from collections import deque
monitor = memguard.MemoryMonitor({{"max_memory_mb": 1024, "sample_interval": "10ms"}})
wait_for(lambda: monitor.latest.number > 0)
kept = deque(maxlen=5)
for _ in range(3000):
    kept.append(bytearray(1048576))
print(monitor.get_reclaim_history())
""")
    assert out == "[]\n"


@pytest.mark.parametrize("setting", ["enable_auto_gc", "byte_aware_gc"])
def test_switched_off(run_child: Run, setting: str) -> None:
    out = run_child(f"""{HEAD}
monitor = memguard.MemoryMonitor(
    {{"max_memory_mb": 2048, "sample_interval": "10ms", "{setting}": False}})
gc.set_threshold(0)
wait_for(lambda: monitor.latest.number > 0)
burst(600)
print(monitor.get_reclaim_history())
monitor.update_config({{"{setting}": True}})
seen = monitor.latest.number
wait_for(lambda: monitor.latest.number > seen + 1)
burst(600)
print(done(monitor, "young", "full") > 0)
""")
    assert out == "[]\nTrue\n"


def test_a_host_that_has_its_collector_off(run_child: Run) -> None:
    """It is left in peace by growth, and overruled only when memory is critical."""
    out = run_child(f"""{HEAD}
gc.disable()
monitor = memguard.MemoryMonitor({{"max_memory_mb": 512, "sample_interval": "10ms"}})
wait_for(lambda: monitor.latest.number > 0)
burst(200)
print(done(monitor, "young", "full", "release"), gc.isenabled())
while done(monitor, "young", "full", "release") == 0:
    Knot(1048576).payload[::4096] = bytes(256)
    time.sleep(0.0005)
reasons = {{r["reason"] for r in monitor.get_reclaim_history()
           if any(s["was_done"] and s["gc_ms"] > 0 for s in r["steps"])}}
print(reasons, gc.isenabled())
gc.enable()
before = done(monitor, "young", "full")
burst(600)
print(done(monitor, "young", "full") > before)
""")
    assert out == "0 False\n{'forced'} False\nTrue\n"


def test_a_limit_lowered_under_current_use(run_child: Run) -> None:
    """No storm: a forced round, then one for each further 1 %."""
    out = run_child(f"""{HEAD}
kept = bytearray(100_000_000)
kept[::4096] = bytes(len(range(0, len(kept), 4096)))
monitor = memguard.MemoryMonitor({{"max_memory_mb": 4096, "sample_interval": "10ms"}})
wait_for(lambda: monitor.latest.number > 0)
before = monitor.get_reclaim_stats()["rounds"]
monitor.update_config({{"max_memory_mb": 64}})
wait_for(lambda: monitor.get_reclaim_stats()["rounds"] > before)
seen = monitor.latest.number
wait_for(lambda: monitor.latest.number > seen + 100)
print(monitor.get_reclaim_stats()["rounds"] - before <= 6)
print(monitor.get_reclaim_history()[0]["level"])
""")
    assert out == "True\ncritical\n"


def test_unreclaimable_memory_is_told_and_shed(run_child: Run) -> None:
    out = run_child(f"""{HEAD}
shed, told = [], []
def bad():
    raise ValueError("not me")
import logging
logging.getLogger("memguard").addHandler(logging.NullHandler())
kept = bytearray(100_000_000)
kept[::4096] = bytes(len(range(0, len(kept), 4096)))
monitor = memguard.MemoryMonitor(
    {{"max_memory_mb": 64, "sample_interval": "10ms", "gc_interval": 0}})
monitor.register_shed_callback(bad)
monitor.register_shed_callback(shed.append)
monitor.on("memory:unreclaimable", told.append)
wait_for(lambda: shed)
report = shed[0]
print(sorted(report), report["reason"], report["level"], report["usage"] > 1)
print(monitor.get_reclaim_stats()["is_unreclaimable"])
def check():
    monitor.check_memory_pressure()
    return told
wait_for(check)
payload = told[0]
print(sorted(payload), payload["level"], payload["round"]["is_unreclaimable"])
try:
    monitor.register_shed_callback(None)
except memguard.ConfigTypeError as error:
    print(error)
""")
    assert out == (
        "['domain', 'level', 'reason', 'stats', 'usage'] unreclaimable critical True\n"
        "True\n"
        "['domain', 'level', 'round', 'stats', 'usage'] critical True\n"
        "callback is None, allowed: a callable\n"
    )


def test_programs_own_code_never_runs_between_two_bytecodes(run_child: Run) -> None:
    """Caches shrink on memguard's thread or in calls of the program: the main
    thread may hold the cache's lock."""
    out = run_child(f"""{HEAD}
from memguard import _reclaim
threads = set()
def caches(share):
    threads.add(threading.get_ident())
    with lock:  # no RLock: a second time on one thread would hang
        return True
lock = threading.Lock()
_reclaim.has_caches = lambda _=None: True
_reclaim.caches = caches
_reclaim.pools = lambda share: False
config = {{"max_memory_mb": 256, "sample_interval": "10ms", "gc_interval": 0}}
monitor = memguard.MemoryMonitor(config)
kept = []
until = time.monotonic() + 30
while not threads and time.monotonic() < until:
    with lock:
        Knot(1048576).payload[::4096] = bytes(256)
        if monitor.pressure < 0.85:
            kept.append(bytearray(b"x") * 262144)
print(len(threads), threading.get_ident() in threads)
""")
    assert out == "1 False\n"


def test_the_main_thread_collects_if_it_can(run_child: Run) -> None:
    """Finalizers may belong to it. If it is blocked, memguard's thread does it."""
    out = run_child(f"""{HEAD}
kept = bytearray(100_000_000)
kept[::4096] = bytes(len(range(0, len(kept), 4096)))
where = []
class Tells(Knot):
    def __del__(self):
        where.append(threading.get_ident() == threading.main_thread().ident)
gc.disable()
def began():
    gc.collect()
    where.clear()
    monitor = memguard.MemoryMonitor({{"max_memory_mb": 4096,
                                       "sample_interval": "10ms"}})
    wait_for(lambda: monitor.latest.number > 0)
    Tells()
    return monitor
def busy():
    with began() as monitor:
        monitor.update_config({{"max_memory_mb": 64}})
        until = time.monotonic() + 30
        while not where and time.monotonic() < until:
            pass
    return where == [True]
# On a machine that leaves it no processor in time it counts as blocked.
print(any(busy() for _ in range(100)))

def ask():
    monitor.update_config({{"max_memory_mb": 64}})
    wait_for(lambda: where)
    lock.release()
lock = threading.Lock()
lock.acquire()
with began() as monitor:
    threading.Timer(0.05, ask).start()
    lock.acquire()
print(where)
""")
    assert out == "True\n[False]\n"
