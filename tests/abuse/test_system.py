"""Hosts where the system refuses: descriptors, room, files, calls, time."""

import ctypes.util
import os
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest
from conftest import GOOD, HOSTS, ROOT, compiled, result, run

# asm/unistd_64.h: what the sampler and its watches are made of, and perf.
CALLS_X86_64 = {
    "flock": 73,
    "statfs": 137,
    "fstatfs": 138,
    "timerfd_create": 283,
    "fallocate": 285,
    "inotify_init1": 294,
    "perf_event_open": 298,
    "memfd_create": 319,
}
EPERM, ENOSYS = 1, 38


def in_namespace(setup: str, words: list[str]) -> list[str]:
    """The command with mounts of its own."""
    return ["unshare", "--mount", "sh", "-ec", f'{setup}\nexec "$@"', "sh", *words]


@pytest.fixture(scope="session")
def namespaces() -> None:
    done = run(in_namespace("mount -t tmpfs none /mnt", ["true"]))
    if done.returncode != 0:
        pytest.skip(f"no mounts of its own: {done.stderr.strip()}")


@pytest.mark.timeout(900)
def test_each_call_refused(tmp_path: Path) -> None:
    """From the first call that the library makes to the last, each once."""
    library = compiled("fail_calls.c", tmp_path / "fail.so", "-shared", "-fPIC")
    build = ROOT / "build"
    flags = [
        f"-I{ROOT / 'include'}",
    ]
    links = [f"-L{build}", f"-Wl,-rpath,{build}", "-lmemguard"]
    program = tmp_path / "host"
    compiled("host.c", program, *flags, links=links)
    failures, most = [], 1
    at = 0
    while at < most:
        at += 1
        calls = tmp_path / "calls"
        # For the program alone, not for what starts it.
        preload = f"LD_PRELOAD={library} FAIL_AT={at}"
        done = run(["sh", "-c", f"exec 3>{calls}; {preload} exec {program}"])
        if done.returncode != 0:
            failures.append((at, done.returncode, done.stderr))
        # How many there are differs a little from run to run.
        most = max(most, min(int(calls.read_text() or 0), 700))
    assert failures == []
    assert most > 200


@pytest.mark.parametrize(("runtime", "limit"), [("python", 16), ("node", 32)])
def test_few_descriptors(runtime: str, limit: int) -> None:
    """Node itself needs some 24."""
    done = run(["prlimit", f"--nofile={limit}", *HOSTS[runtime]])
    assert result(done) == GOOD


def test_no_room(namespaces: None, folder: Path, host: list[str]) -> None:
    mount = f"mount -t tmpfs -o size=64k,mode=0700 none {folder}"
    done = run(in_namespace(mount, host))
    assert result(done) == GOOD
    assert done.stderr.count("cannot keep 139360 bytes") == 1


def test_read_only(namespaces: None, folder: Path, host: list[str]) -> None:
    mount = f"mount -t tmpfs -o ro,mode=0700 none {folder}"
    done = run(in_namespace(mount, host))
    assert result(done) == GOOD
    assert done.stderr.count("Read-only file system") == 1


def test_no_proc(namespaces: None) -> None:
    """Python: Node does not start without it."""
    done = run(in_namespace("mount -t tmpfs none /proc", HOSTS["python"]))
    assert result(done) == GOOD


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize("error", [EPERM, ENOSYS])
def test_calls_refused(tmp_path: Path, host: list[str], error: int) -> None:
    refuse = compiled("refuse.c", tmp_path / "refuse")
    numbers = [str(number) for number in CALLS_X86_64.values()]
    done = run([refuse, str(error), *numbers, "--", *host])
    assert result(done) == GOOD


def test_stopped_for_a_minute(host: list[str]) -> None:
    """And then goes on, with samples of now."""
    running = subprocess.Popen([*host, "3"], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    os.kill(running.pid, signal.SIGSTOP)
    time.sleep(60)
    os.kill(running.pid, signal.SIGCONT)
    out, _ = running.communicate(timeout=60)
    done = subprocess.CompletedProcess(host, running.returncode, out, "")
    assert result(done) == GOOD


def test_clock_steps(tmp_path: Path, host: list[str]) -> None:
    """An hour on, a day back, while it samples."""
    library = compiled("clock_steps.c", tmp_path / "clock.so", "-shared", "-fPIC")
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("q", 0))
    running = subprocess.Popen(
        [*host, "2"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LD_PRELOAD": library, "CLOCK_FILE": str(clock)},
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    for seconds in (3600, -86400, 0):
        time.sleep(0.5)
        with clock.open("r+b") as file:
            file.write(struct.pack("q", seconds))
    out, _ = running.communicate(timeout=60)
    done = subprocess.CompletedProcess(host, running.returncode, out, "")
    assert result(done) == GOOD


@pytest.mark.parametrize("library", ["mimalloc", "jemalloc"])
def test_other_allocator(host: list[str], library: str) -> None:
    name = ctypes.util.find_library(library)
    assert name is not None, f"lib{library} is not installed"
    done = run(host, env={**os.environ, "LD_PRELOAD": name})
    assert result(done) == GOOD
