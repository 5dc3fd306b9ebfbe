"""What several test files share and is no fixture. Code for children is text that
goes before their own."""

import sys
import sysconfig

IS_INCREMENTAL = (3, 14, 0) <= sys.version_info[:3] < (3, 14, 5)
# Whether the collector's lists are those that memguard knows.
KEEPS_GENERATIONS = not (IS_INCREMENTAL or sysconfig.get_config_var("Py_GIL_DISABLED"))

FAR = {"max_memory_mb": 1 << 20, "rss_warning": 1 << 20, "rss_critical": 1 << 20}


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self, payload: int = 0) -> None:
        self.me = self
        self.payload = bytearray(payload)


RECLAIM_HEAD = """
import gc, os, signal, sys, threading, time
import memguard

class Knot:
    def __init__(self, payload=0):
        self.me = self
        self.payload = bytearray(payload)

def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)

def burst(count=300, size=1048576):
    for _ in range(count):
        Knot(size)

def done(monitor, *kinds):
    actions = monitor.get_reclaim_stats()["actions"]
    return sum(actions[kind] for kind in kinds)
"""

TUNE_HEAD = """
import gc, os, sys, time
import memguard

def wait(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        sum(range(1000))

def heap(count=150_000):
    return [{"id": i, "row": [i]} for i in range(count)]
"""
