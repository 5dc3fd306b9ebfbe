"""Metrics of a process: the text that every reader gets, and what it counts."""

import ctypes
import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memguard
import pytest
from memguard import _core
from metric_rows import segment
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from segments import LIBRARY, SECOND, check_of, until
from test_vectors import rows

FOLDER = Path(__file__).parent.parent / "vectors"
ROWS = {
    row["name"]: row
    for row in json.loads((FOLDER / "metrics.json").read_text())["rows"]
}
MIB = 1048576

# What the linter may say of names that hosts had before; nothing else.
LINT = [
    "memory_gc_pause_ns metric names should not contain abbreviated units",
    "memory_growth_rate_mb_per_minute metric names should not contain abbreviated "
    "units",
    'memory_total_alloc_bytes counter metrics should have "_total" suffix',
]


@rows("metrics.json")
def test_rows(row: dict[str, Any]) -> None:
    text = _core._metrics_read(segment(row), row["openmetrics"], row["groups"])
    assert text.split("\n") == row["expect"]


def everything(openmetrics: bool = False) -> str:
    """Text in which each name occurs that a process can show."""
    node = ROWS[
        "compatible names of a Node process as OpenMetrics: an allocation counter "
        "without its suffix has no type; phases count in no total"
    ]
    readings = 864 + 408 + 152
    # heap_objects and active_connections
    more = [[readings + 8 * 21, "u64", 5, ""], [readings + 8 * 26, "u64", 2, ""]]
    more += [[readings + 8 * place, "u64", 9000, ""] for place in (1, 2, 12)]
    more += [[2480 + 16, "u64", 9, ""], [2480 + 24, "u64", 9, ""]]  # cpu, collected
    made = bytearray(segment({"set": node["set"] + more}))
    for number in range(1, 600):
        point = bytearray(88)
        struct.pack_into("<QQQQ", point, 0, number, 0, number * 1000, number * MIB)
        struct.pack_into("<Q", point, 8, check_of(bytes(point)))
        made[SECOND + number * 88 : SECOND + (number + 1) * 88] = point
    return _core._metrics_read(bytes(made), openmetrics, 3)


def complaints(text: str) -> list[str]:
    found = subprocess.run(
        ["promtool", "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return sorted(found.stderr.splitlines())


class Row(ctypes.Structure):
    """mg_metric_row"""

    _fields_ = [
        ("type", ctypes.c_int),
        ("group", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("unit", ctypes.c_char_p),
        ("help", ctypes.c_char_p),
    ]


def test_lint_of_the_table() -> None:
    """All names, those of services too."""
    library = ctypes.CDLL(str(LIBRARY))
    library.mg_metric_row_at.restype = ctypes.POINTER(Row)
    text, count = "", 0
    while row := library.mg_metric_row_at(count):
        name = row.contents.name.decode()
        kind = ["gauge", "counter", "histogram"][row.contents.type]
        text += f"# HELP {name} {row.contents.help.decode()}\n# TYPE {name} {kind}\n"
        if kind == "histogram":
            text += f'{name}_bucket{{le="+Inf"}} 1\n{name}_sum 1\n{name}_count 1\n'
        else:
            text += f"{name} 1\n"
        count += 1
    assert count == 74
    assert complaints(text) == LINT


def test_lint() -> None:
    text = everything()
    # Of services there are none in what a process says of itself.
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert len(shown) == 66
    assert complaints(text) == LINT


def test_parsers() -> None:
    """Those of prometheus_client read the same from both texts."""
    plain = list(text_string_to_metric_families(everything()))
    opened = list(openmetrics_families(everything(True)))
    assert len(plain) == len(opened) == 66
    sampled = [
        {
            (s.name, *sorted(s.labels.items())): s.value
            for f in families
            for s in f.samples
        }
        for families in (plain, opened)
    ]
    # The one for the plain text gives a counter its suffix.
    labels = (("pid", "77"), ("program", "queue.js"), ("runtime", "node"))
    counter = sampled[0].pop(("memory_total_alloc_bytes_total", *labels))
    assert sampled[1].pop(("memory_total_alloc_bytes", *labels)) == counter
    assert sampled[0] == sampled[1]
    growth = next(f for f in plain if f.name == "memory_growth_rate_mb_per_minute")
    assert growth.samples[0].value == pytest.approx(60)


def test_hostile_name() -> None:
    row = next(row for name, row in ROWS.items() if name.startswith("a name with"))
    (family,) = (
        f
        for f in text_string_to_metric_families(
            _core._metrics_read(segment(row), False, 1)
        )
        if f.name == "memguard_process_up"
    )
    program = family.samples[0].labels["program"]
    assert program.startswith('<b>"\\\ufffd\ufffd[31m\ufffd')
    assert program.endswith("\ufffd名")


def test_damaged_segment() -> None:
    data = segment(ROWS["a Python process"])
    with pytest.raises(memguard.ForeignError):
        _core._metrics_read(data[:-1], False, 3)
    with pytest.raises(memguard.InvalidError, match="groups is 8, need 1 to 3"):
        _core._metrics_read(data, False, 8)


# ---- this process -------------------------------------------------------------


def values(text: str, name: str) -> dict[str, float]:
    """By the label that comes last, of what has no histogram."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                found[list(sample.labels.values())[-1]] = sample.value
    return found


def test_without_monitor(folder: Path, run_child: Callable[..., str]) -> None:
    code = "import memguard; text = memguard.metrics_text(compatible=False);print(text)"
    out = run_child(code)
    assert list(folder.iterdir()) == []
    names = {family.name for family in text_string_to_metric_families(out)}
    assert "memguard_process_resident_memory_bytes" in names
    assert "memguard_heap_objects" in names
    assert 'runtime="python"' in out
    # Nobody counts these.
    assert not any("_gc_" in name or "reclaim" in name for name in names)
    assert "memguard_memory_level" not in names
    assert all(name.startswith("memguard_") for name in names)


@pytest.mark.parametrize("place", ["/dev/shm", "/proc/nowhere"])
def test_own_process(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Also where no file can be made."""
    if place[1] != "d":
        monkeypatch.setenv("MEMGUARD_DIR", place)
    with memguard.ResourceManager({"sample_interval": "10ms"}):
        until(lambda: "memguard_memory_usage_ratio" in memguard.metrics_text())
        text = memguard.metrics_text()
        families = memguard.collect_metrics()
    assert values(text, "memguard_process_info").keys() == {_core.version}
    heap = {
        name: values(text, f"memory_heap_{name}_bytes")["python"]
        for name in ("alloc", "inuse", "idle", "sys")
    }
    assert 0 < heap["alloc"] <= heap["inuse"] <= heap["sys"]
    assert heap["idle"] + heap["inuse"] == heap["sys"]
    assert (
        heap["alloc"]
        < values(text, "memory_alloc_bytes")["python"]
        <= values(text, "memory_sys_bytes")["python"]
    )
    assert values(text, "memory_heap_objects")["python"] > 10000
    by_name = {family.name: family for family in families}
    rss = by_name["process_memory_rss_bytes"]
    assert (rss.type, rss.unit) == ("gauge", "bytes")
    assert rss.help == "As memguard_process_resident_memory_bytes."
    assert rss.samples[0].labels["pid"] == str(os.getpid())
    assert rss.samples[0].buckets is None
    pauses = by_name["memory_gc_pause_ns"].samples[0].buckets
    assert pauses is not None
    assert [bound for bound, _ in pauses[:2]] == [10000.0, 30000.0]
    assert pauses[-1][0] == math.inf


COUNTS = """
import collections, gc, sys, time
import memguard
from prometheus_client.parser import text_string_to_metric_families

seen = collections.Counter()

def callback(phase, info):
    if phase == "stop":
        seen[str(info["generation"])] += 1

def shown():
    counts, sums = {}, {}
    for family in text_string_to_metric_families(memguard.metrics_text()):
        for sample in family.samples:
            last = list(sample.labels.values())[-1]
            if sample.name == "gc_collections_by_generation_total":
                counts[last] = sample.value
            if sample.name.startswith("memory_gc_") and "bucket" not in sample.name:
                sums[sample.name] = sample.value
            if sample.name == "gc_pause_duration_seconds_count":
                assert sample.value == counts.setdefault(last, sample.value)
    return counts, sums

class Knot:
    def __init__(self):
        self.me = self

def wait(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, (shown(), seen, gc.get_stats())
        time.sleep(0.01)

def total():
    return sum(entry["collections"] for entry in gc.get_stats())

def collects():
    # Not while another thread does, whose collection then is over.
    count = sum(seen.values())
    gc.collect(0)
    return sum(seen.values()) > count

def agree():
    # Another thread may be in the middle of a collection; none begins any more.
    counts, _ = shown()
    return (
        counts == {name: before[name] + seen[name] for name in counts}
        and sum(seen.values()) == total() - stats
    )

with memguard.ResourceManager({"sample_interval": "20ms"}) as manager:
    wait(lambda: "memory_gc_count_total" in memguard.metrics_text())
    gc.disable()
    gc.callbacks.append(callback)
    wait(collects)
    seen.clear()
    before, _ = shown()
    stats = total()
    gc.enable()
    number = 0
    while sum(seen.values()) < 10_000:
        Knot()
        number += 1
        gc.collect(1 if number % 50 == 0 else 0)
    gc.disable()
    wait(agree)
    assert seen["0"] > 5000 < sum(seen.values())
    after, sums = shown()
    assert sums["memory_gc_pause_ns_count"] == sums["memory_gc_count_total"]
    assert sums["memory_gc_count_total"] == sum(after.values())
    assert sums["memory_gc_pause_ns_sum"] > 0
print("equal")
"""


def test_counts_of_collections() -> None:
    """As the runtime has them, over 10 000 of them."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTS], capture_output=True, text=True, timeout=150
    )
    assert done.stdout == "equal\n", done.stderr


def test_connections(run_child: Callable[..., str]) -> None:
    """In a process of its own: pools that other tests forgot count until then."""
    out = run_child(
        """
import gc, re, memguard

def active():
    text = memguard.metrics_text()
    (count,) = re.findall(r"^memguard_active_connections{.*} (.*)$", text, re.M)
    return float(count)

pool = memguard.ManagedConnectionPool(list, close=list.clear)
other = memguard.ManagedConnectionPool(list, close=list.clear)
counts = [active()]
taken = [pool.acquire(), pool.acquire(), other.acquire()]
counts.append(active())
pool.release(taken[0])
pool.release(taken[1], discard=True)
counts.append(active())
other.close()
pool.close()
other.release(taken[2])
counts.append(active())
lost = memguard.ManagedConnectionPool(list, close=list.clear)
lost.acquire()
counts.append(active())
del lost
gc.collect()
counts.append(active())
print(counts)
"""
    )
    assert out == "[0.0, 3.0, 1.0, 0.0, 1.0, 0.0]\n"


def test_dropped_pool_in_a_child() -> None:
    pool = memguard.ManagedConnectionPool(list, close=list.clear)
    connection = pool.acquire()
    child = os.fork()
    if child == 0:
        shown = values(memguard.metrics_text(), "active_connections")
        os._exit(0 if shown == {"python": 0.0} else 1)
    assert os.waitpid(child, 0)[1] == 0
    pool.release(connection)
    pool.close()
