"""A real memory control group whose limit is below max_memory_mb is found and wins."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT_MB = 192
ROOT = Path("/sys/fs/cgroup")

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


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with a limit of LIMIT_MB, removed at the end."""
    is_v1 = (ROOT / "memory/memory.limit_in_bytes").exists()
    made = (ROOT / "memory" if is_v1 else ROOT) / f"memguard-test-{os.getpid()}"
    try:
        if not is_v1:
            with contextlib.suppress(OSError):  # may be delegated already
                (ROOT / "cgroup.subtree_control").write_text("+memory")
        made.mkdir()
        name = "memory.limit_in_bytes" if is_v1 else "memory.max"
        (made / name).write_text(str(LIMIT_MB * 1048576))
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    yield made
    made.rmdir()


def test_the_limit_of_the_group_wins(group: Path) -> None:
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
