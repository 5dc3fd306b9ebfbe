"""Inside a real control group of 256 MB: dead with CPython alone, alive with us.

Each program is run twice, the same code with and without memguard.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

LIMIT_MB = 256
KILLED = -9

# 5000 jobs, each a dead cycle that carries a megabyte: nothing of it is live.
JOBS = """
import sys
if sys.argv[1] == "with":
    import memguard
    monitor = memguard.MemoryMonitor()
class Job:
    pass
for number in range(5000):
    job, other = Job(), Job()
    job.other, other.other = other, job
    job.payload = bytearray(1048576)
    job.payload[::4096] = bytes(256)  # a page is taken when written to
print(number + 1)
"""

# The same on a thread, while the main thread waits and runs no bytecode.
WAITING = """
import sys, threading
if sys.argv[1] == "with":
    import memguard
    monitor = memguard.MemoryMonitor()
class Job:
    pass
def work():
    for number in range(3000):
        job, other = Job(), Job()
        job.other, other.other = other, job
        job.payload = bytearray(1048576)
        job.payload[::4096] = bytes(256)
    print(number + 1)
    done.release()
done = threading.Lock()
done.acquire()
threading.Thread(target=work).start()
done.acquire()
"""

# The garbage is old: it outlived every young collection before it died.
OLD = """
import sys
from collections import deque
if sys.argv[1] == "with":
    import memguard
    monitor = memguard.MemoryMonitor()
class Job:
    pass
kept = deque(maxlen=40)
for number in range(3000):
    job, other = Job(), Job()
    job.other, other.other = other, job
    job.payload = bytearray(1048576)
    job.payload[::4096] = bytes(256)
    kept.append(job)
    filler = [[] for _ in range(200)]
print(number + 1)
"""


@pytest.mark.parametrize(
    ("program", "jobs"), [(JOBS, 5000), (WAITING, 3000), (OLD, 3000)]
)
def test_survival(
    control_group: Callable[[int], Path], program: str, jobs: int
) -> None:
    group = control_group(LIMIT_MB)
    enter = f'echo $$ > {group}/cgroup.procs && exec "$0" -c "$1" "$2"'

    def run(how: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", enter, sys.executable, program, how],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    alone = run("without")
    assert (alone.returncode, alone.stdout) == (KILLED, ""), alone.stderr
    guarded = run("with")
    assert (guarded.returncode, guarded.stdout) == (0, f"{jobs}\n"), guarded.stderr
