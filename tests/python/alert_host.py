"""A program for test_alertmanager.py: raises every kind of alert, and ends them.

argv: URL of Alertmanager, URL of a webhook, "oom" or "host". The first run of two
with the same arguments, but for the environment, ends out of memory.
"""

import gc
import mmap
import os
import resource
import signal
import sys
import threading
import time

import memguard
from memguard.alerts import Alertmanager, Webhook

WAIT_S = 60
MB = 1048576
LOUD = {
    "max_memory_mb": 1,
    "sample_interval": "10ms",
    "monitor_interval": "20ms",
    "long_pause": "0.001ms",
    "rapid_growth_mb_per_minute": 1,
    "leak": {"time_scale": 1000, "critical_within": 0, "fd_warning_count": 1},
    "alert": {
        "high_usage_for": 0,
        "gc_high_for": 0,
        "gc_high_percent": 0.1,
        "resolve_after": "200ms",
        "cooldown": 0,
    },
}
CALM = {
    "max_memory_mb": 1 << 20,
    "long_pause": 60,
    "rapid_growth_mb_per_minute": 1 << 20,
    "leak": {"leak_detection": False, "fd_warning_count": 1_000_000},
    "alert": {"gc_high_percent": 100},
}


def end_out_of_memory() -> None:
    """At 96 % of a limit on addresses, as the recorder has seen it."""
    # 4 % of these addresses are enough for the little that follows.
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    reserved = mmap.mmap(-1, 4 << 30, flags=private, prot=mmap.PROT_READ)
    monitor = memguard.MemoryMonitor({"sample_interval": "10ms"})
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (int(used * 1.04), hard))
    end = time.monotonic() + WAIT_S
    seen = 0
    while time.monotonic() < end:
        latest = monitor.latest
        if latest.domain == "address" and latest.usage > 0.95:
            seen = seen or latest.number
            if monitor.segment_path and latest.number > seen + 3:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
    reserved.close()
    sys.exit("no sample saw the limit")


def make_noise(monitor: memguard.MemoryMonitor, is_calm: threading.Event) -> None:
    """Connections that are never closed, memory that grows, much collecting."""
    detector, held, began = monitor.leak_detector, [], time.monotonic()
    garbage = [[n] for n in range(100_000)]
    while not is_calm.is_set():
        ms = (time.monotonic() - began) * 1000
        detector.tell("connections", 20 + int(ms * 5))
        if len(held) < 400:
            held.append(bytearray(b"x" * MB))
        gc.collect()
        time.sleep(0.002)
    del garbage


def main() -> None:
    if os.environ.get("ALERT_HOST") == "oom":
        end_out_of_memory()
    monitor = memguard.MemoryMonitor(LOUD)
    times = {"retry_first": 0.2, "retry_most": 0.5, "service": "alert host"}
    monitor.alerts.add(
        Alertmanager(
            sys.argv[1], resend=1, least=4, runbook="https://r.example", **times
        )
    )
    monitor.alerts.add(Webhook(sys.argv[2], **times))
    is_calm = threading.Event()
    noise = threading.Thread(target=make_noise, args=(monitor, is_calm))
    noise.start()
    print("ready", flush=True)
    sys.stdin.readline()
    is_calm.set()
    noise.join()
    monitor.update_config(CALM)
    print("calm", flush=True)
    sys.stdin.readline()
    monitor.close()


main()
