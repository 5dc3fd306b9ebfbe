"""What the tests share: real child processes, real memory, captured logs."""

import contextlib
import gc
import logging
import mmap
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import memguard
import pytest
from common import FAR
from servers import Server, serving
from sockets import echoing

MB = 1048576


@pytest.fixture
def run_child() -> Callable[..., str]:
    """Runs Python code in a process of its own; returns what it printed. It must
    end well, by itself, and say nothing on stderr."""

    def run(code: str, *options: str, stderr: str = "") -> str:
        done = subprocess.run(
            [sys.executable, *options, "-c", textwrap.dedent(code)],
            # On a busy machine any collection may take long: that is not told.
            env={**os.environ, "MEMGUARD_LONG_PAUSE": "60s"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if stderr:
            assert stderr in done.stderr
        else:
            assert done.stderr == ""
        return done.stdout

    return run


@pytest.fixture
def control_group() -> Iterator[Callable[[int], Path]]:
    """Makes a memory control group with a limit in MB, removed at the end."""
    root = Path("/sys/fs/cgroup")
    made: list[Path] = []

    def make(limit_mb: int) -> Path:
        is_v1 = (root / "memory/memory.limit_in_bytes").exists()
        name = f"memguard-test-{os.getpid()}-{len(made)}"
        folder = (root / "memory" if is_v1 else root) / name
        try:
            if not is_v1:
                with contextlib.suppress(OSError):  # may be delegated already
                    (root / "cgroup.subtree_control").write_text("+memory")
            folder.mkdir()
            made.append(folder)
            limit = "memory.limit_in_bytes" if is_v1 else "memory.max"
            (folder / limit).write_text(str(limit_mb * MB))
            if not is_v1:
                with contextlib.suppress(OSError):  # the kernel may have no swap
                    (folder / "memory.swap.max").write_text("0")
        except OSError as error:
            pytest.skip(f"no memory control group can be made here: {error}")
        return folder

    yield make
    for folder in made:
        folder.rmdir()


@pytest.fixture
def memory() -> Iterator[Callable[[int], mmap.mmap]]:
    """Allocates resident memory in MB; close() gives it back to the system."""
    taken: list[mmap.mmap] = []

    def take(megabytes: int) -> mmap.mmap:
        block = mmap.mmap(-1, megabytes * MB)
        taken.append(block)
        block.write(b"\1" * len(block))
        return block

    yield take
    for block in taken:
        block.close()


@pytest.fixture
def rss_mb() -> float:
    """Resident set of this process now, in MB."""
    bytes_now = memguard.rss_bytes()
    assert bytes_now is not None
    return bytes_now / MB


def _messages(
    caplog: pytest.LogCaptureFixture, pauses: bool
) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "memguard")

    def take() -> list[str]:
        said = [r.getMessage() for r in caplog.records if r.name == "memguard"]
        caplog.clear()
        return [line for line in said if ("garbage collection" in line) is pauses]

    return take


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Messages sent to the logger "memguard" since the last call, but for those of
    long collections: on a busy machine any may be long."""
    return _messages(caplog, pauses=False)


@pytest.fixture
def logged_pauses(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Messages of long collections since the last call."""
    return _messages(caplog, pauses=True)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of shrink() does it all, however slow the machine is now."""
    monkeypatch.setattr("memguard._caches.BUDGET_S", 60.0)


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Sets the heap of all tests aside: what collects often would take minutes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def own_collector() -> Iterator[None]:
    """Settings of the collector for one test: the usual ones, put back afterwards."""
    threshold, enabled = gc.get_threshold(), gc.isenabled()
    gc.set_threshold(700, 10, 10)
    gc.enable()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    (gc.enable if enabled else gc.disable)()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listens on the loopback interface and echoes."""
    with echoing() as listener:
        yield listener


@pytest.fixture
def full() -> Iterator[memguard.ResourceManager]:
    """A manager whose limit is far below what the process uses: pressure 1.0."""
    with memguard.ResourceManager({"max_memory_mb": 1}) as manager:
        yield manager


@pytest.fixture
def manager() -> Iterator[memguard.ResourceManager]:
    """A manager with nothing in the background."""
    with memguard.ResourceManager({"enabled": False}) as made:
        yield made


@pytest.fixture
def monitor() -> Iterator[memguard.MemoryMonitor]:
    """One that samples only when asked, far from its limit."""
    with memguard.MemoryMonitor(FAR) as made:
        made.stop_monitoring()
        made.reset()
        yield made


@pytest.fixture
def pressed() -> Iterator[memguard.MemoryMonitor]:
    """One that samples only when asked, far above its limit."""
    with memguard.MemoryMonitor({"max_memory_mb": 1}) as made:
        made.stop_monitoring()
        made.reset()
        yield made


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that do not break it."""
    with serving("redis", tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that do not break it."""
    with serving("nats", tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[memguard.MemoryPool]:
    """A pool that all buffers must have come back to in the end."""
    with memguard.MemoryPool() as made:
        yield made
        stats = made.stats()
        assert (stats["current"], stats["lost"]) == (0, 0)
        assert made.findings() == []
