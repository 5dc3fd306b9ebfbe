"""A real memory control group, v1 or v2, for the benchmarks that need a limit."""

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
REMOVE_SECONDS = 5.0

_numbers = itertools.count()


class Group:
    """Processes started in it share one limit; swap does not add to it."""

    def __init__(self, limit_mb: int) -> None:
        limit = str(limit_mb * 1048576)
        self.is_v1 = (ROOT / "memory/memory.limit_in_bytes").exists()
        parent = ROOT / "memory" if self.is_v1 else ROOT
        self.folder = parent / f"memguard-bench-{os.getpid()}-{next(_numbers)}"
        if not self.is_v1:
            with contextlib.suppress(OSError):  # may be delegated already
                (ROOT / "cgroup.subtree_control").write_text("+memory")
        self.folder.mkdir()
        try:
            self._set("memory.limit_in_bytes" if self.is_v1 else "memory.max", limit)
            # Kernels without swap accounting have no such file, and then no swap.
            with contextlib.suppress(FileNotFoundError):
                if self.is_v1:
                    self._set("memory.memsw.limit_in_bytes", limit)
                else:
                    self._set("memory.swap.max", "0")
        except BaseException:
            self.remove()
            raise

    def _set(self, name: str, value: str) -> None:
        # A missing file must not be made: the file system would refuse later.
        with (self.folder / name).open("r+") as file:
            file.write(value)

    def command(self, command: list[str]) -> list[str]:
        """`command`, begun inside the group."""
        enter = 'echo $$ >"$0" && exec "$@"'
        return ["sh", "-c", enter, str(self.folder / "cgroup.procs"), *command]

    def kills(self) -> int:
        """How many of its processes the kernel has killed for memory."""
        name = "memory.oom_control" if self.is_v1 else "memory.events"
        rows = (line.split() for line in (self.folder / name).read_text().splitlines())
        return int(dict(rows).get("oom_kill", 0))

    def remove(self) -> None:
        """Ends what still runs in it. A group is busy until its last is gone."""
        until = time.monotonic() + REMOVE_SECONDS
        while True:
            for pid in (self.folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                self.folder.rmdir()
                return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)


@contextlib.contextmanager
def memory_group(limit_mb: int) -> Iterator[Group]:
    """A group that is gone afterwards, also when the benchmark is interrupted."""
    group = Group(limit_mb)
    try:
        yield group
    finally:
        group.remove()


@contextlib.contextmanager
def ended_cleanly() -> Iterator[None]:
    """SIGTERM, as from `timeout`, unwinds as Ctrl-C does."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
