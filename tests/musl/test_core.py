"""The core with musl's C library: it compiles without a warning, and its tests pass.

Left out are those that need a library which Debian has for glibc alone: cJSON, in
which vectors are written, and libproc2; and the loops of all public functions, whose
list CMake makes.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "musl"
TESTS = ROOT / "tests" / "core"
LEFT_OUT = ("vectors.h", "cJSON.h", "os/linux_wide.c", "leaks/leaks.h")
FLAGS = [
    "-std=c11", "-g", "-O2", "-static",
    "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror",
    "-D_GNU_SOURCE=1", "-DMG_STATIC=1",
    f"-I{HERE}", f"-I{ROOT / 'include'}", f"-I{ROOT / 'core'}", f"-I{TESTS}",
]  # fmt: skip


def is_left_out(file: Path) -> bool:
    includes = [line for line in file.read_text().splitlines() if "#include" in line]
    return any(name in line for line in includes for name in LEFT_OUT)


PROGRAMS = sorted(file for file in TESTS.glob("test_*.c") if not is_left_out(file))


def compile_(*words: object, cwd: Path = ROOT) -> None:
    done = subprocess.run(
        ["musl-gcc", *FLAGS, *map(str, words)],
        capture_output=True, text=True, timeout=800, check=False, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The headers of the kernel, which musl does not bring."""
    folder = tmp_path_factory.mktemp("kernel")
    for name in ("linux", "asm", "asm-generic"):
        places = [Path("/usr/include", name), *Path("/usr/include").glob(f"*/{name}")]
        (folder / name).symlink_to(next(place for place in places if place.is_dir()))
    return folder


def core_sources() -> list[Path]:
    """By its one list, as CMake reads it."""
    text = (ROOT / "core" / "memguard.c").read_text()
    return [
        ROOT / "core" / name for name in re.findall(r'^#include "(.+\.c)"', text, re.M)
    ]


@pytest.fixture(scope="module")
def parts(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The core as a library, some of whose parts a test may replace, and what its
    tests share."""
    folder = tmp_path_factory.mktemp("parts")
    page = folder / "web" / "web_assets.h"
    subprocess.run(
        [sys.executable, ROOT / "core" / "web" / "embed.py", page],
        timeout=60,
        check=True,
    )
    more = ["-isystem", kernel, f"-I{page.parent}"]
    compile_(*more, "-c", *core_sources(), TESTS / "fixture.c", cwd=folder)
    shared = (folder / "fixture.o").rename(folder / "shared")
    library = folder / "libmemguard.a"
    subprocess.run(["ar", "rcs", library, *folder.glob("*.o")], timeout=60, check=True)
    return [*more, shared, library]


def test_most_tests_are_here() -> None:
    assert len(PROGRAMS) >= 30


@pytest.mark.timeout(1200)  # the first has the core compiled
@pytest.mark.parametrize("source", PROGRAMS, ids=lambda file: file.stem)
def test_core(source: Path, parts: list[object], tmp_path: Path) -> None:
    program = tmp_path / source.stem
    compile_(source, *parts, "-o", program)
    done = subprocess.run(
        [program], env={**os.environ, "MG_VECTORS": str(ROOT / "tests" / "vectors")},
        capture_output=True, text=True, timeout=180, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
