"""A small service under memguard: says what came of it, as JSON.

host.py [SECONDS]
"""

import gc
import json
import logging
import os
import sys
import time

import memguard

logging.basicConfig(level=logging.WARNING)
seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
taken: list[int] = []
config = {"sample_interval": "20ms", "max_memory_mb": 4096}
with memguard.ResourceManager(config) as manager:
    rows = manager.create_buffer("rows", sink=taken.extend)
    print("ready", flush=True)
    end = time.monotonic() + seconds
    put = 0
    while time.monotonic() < end:
        for _ in range(100):
            rows.append(put)
            put += 1
            if manager.should_flush_buffer("rows"):
                manager.flush_buffer("rows")
        with manager.pool.rent(5000) as buffer, memoryview(buffer) as view:
            view[0] = 1
        gc.collect()
        manager.get_memory_pressure()
        manager.memory_monitor.collect_memory_stats()
        time.sleep(0.01)
    latest = manager.memory_monitor.latest
    samples = latest.number if latest is not None else 0
tasks = "/proc/self/task"
threads = len(os.listdir(tasks)) if os.path.exists(tasks) else 1
print(
    json.dumps(
        {
            "is_whole": taken == list(range(put)),
            "has_samples": samples > 0,
            "threads": threads,
        }
    )
)
