"""A real memory control group whose limit is below max_memory_mb is found and wins."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

LIMIT_MB = 192

CHILD = """
import json, memguard
with memguard.ResourceManager({"max_memory_mb": 2048}) as manager:
    monitor = manager.memory_monitor
    block = b"x" * (160 * 1048576)
    monitor.collect_memory_stats()
    sample = monitor.latest
    print(json.dumps({
        "domain": sample.domain, "usage": sample.usage, "level": sample.level,
        "limit": sample.cgroup_limit_bytes, "used": sample.cgroup_used_bytes,
        "pressure": manager.get_memory_pressure(),
    }))
"""


def test_the_limit_of_the_group_wins(control_group: Callable[[int], Path]) -> None:
    group = control_group(LIMIT_MB)
    enter = f'echo $$ > {group}/cgroup.procs && exec "$0" -c "$1"'
    done = subprocess.run(
        ["sh", "-c", enter, sys.executable, CHILD],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["domain"] == "cgroup"
    assert seen["limit"] == 192 * 1048576
    assert 160 * 1048576 < seen["used"] < 192 * 1048576
    assert 160 / 192 < seen["usage"] < 1
    assert seen["pressure"] >= 160 / 192
    assert seen["level"] in ("elevated", "high", "critical")
