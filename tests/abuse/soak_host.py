"""A service that uses all of memguard until its input ends.

soak_host.py SECONDS_BETWEEN_ROUNDS
"""

import contextlib
import gc
import logging
import select
import sys
import urllib.request

import memguard
from memguard import alerts, census

logging.disable()
pause_s = float(sys.argv[1])
rounds = answers = 0


class Cyclic:
    def __init__(self) -> None:
        self.me = self


def one_round(manager: memguard.ResourceManager, rows: list[int], url: str) -> int:
    """@return how many requests were answered."""
    monitor = manager.memory_monitor
    for number in range(200):
        rows.append(number)
        if manager.should_flush_buffer("rows"):
            manager.flush_buffer("rows")
        Cyclic()
    with manager.pool.rent(5000 + rounds % 7 * 3000) as rented:
        memoryview(rented).release()
    manager.get_resource_stats()
    monitor.get_memory_report()
    monitor.collect_memory_stats()
    # Where time is fast, time-outs are short.
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as got:
        return int(b"memguard_" in got.read())
    return 0


def now_and_then(manager: memguard.ResourceManager) -> None:
    """What a service does a few times a day."""
    monitor = manager.memory_monitor
    gc.collect()
    census.census()
    monitor.optimize_memory("aggressive")
    with memguard.ResourceManager() as other:
        other.create_buffer("rows", lambda items: None).append(1)
        other.memory_monitor.start_monitoring()
    # Critical, with everything that follows from it, and well again.
    manager.update_config({"max_memory_mb": 1})
    monitor.check_memory_pressure()
    manager.update_config({"max_memory_mb": 4096})
    monitor.check_memory_pressure()


with (
    memguard.ResourceManager({"max_memory_mb": 4096}) as manager,
    memguard.serve(port=0) as server,
):
    rows = manager.create_buffer("rows", lambda items: None)
    memguard.register_cache({number: str(number) for number in range(1000)})
    manager.memory_monitor.alerts.add(alerts.Callback(lambda alert: None))
    manager.memory_monitor.start_monitoring()
    manager.leak_detector.start()
    url = "http://{}:{}/metrics".format(*server.address)
    waits = select.poll()
    waits.register(sys.stdin)
    while not waits.poll(pause_s * 1000):
        answers += one_round(manager, rows, url)
        rounds += 1
        if rounds % 100 == 0:
            now_and_then(manager)
    latest = manager.memory_monitor.latest
    samples = latest.number if latest is not None else 0
print(rounds, samples, answers)
