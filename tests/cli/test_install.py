"""The library as others' builds find it: pkg-config and find_package(memguard)."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

CMAKE = """
cmake_minimum_required(VERSION 3.25)
project(reader C)
find_package(memguard 0.1 REQUIRED)
add_executable(shared program.c)
target_link_libraries(shared PRIVATE memguard::memguard)
add_executable(static program.c)
target_link_libraries(static PRIVATE memguard::memguard_static)
"""


def run(*words: object) -> str:
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    run("cmake", "--install", ROOT / "build", "--prefix", tmp_path / "usr")
    page = (ROOT / "core" / "README.md").read_text(encoding="utf-8")
    program = re.search(r"^```c\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert program is not None
    (tmp_path / "program.c").write_text(program[1])
    return tmp_path / "usr"


def test_pkg_config(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (library,) = prefix.glob("lib*/**/pkgconfig")
    monkeypatch.setenv("PKG_CONFIG_PATH", str(library))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    flags = run("pkg-config", "--cflags", "--libs", "memguard").split()
    program = prefix.parent / "program"
    run("cc", prefix.parent / "program.c", *flags, "-o", program)
    assert " of the limit, by " in run(program)
    assert run("pkg-config", "--modversion", "memguard") == "0.1.0\n"


def test_find_package(prefix: Path) -> None:
    folder = prefix.parent
    (folder / "CMakeLists.txt").write_text(CMAKE)
    build = folder / "build"
    run(
        "cmake",
        "-G",
        "Ninja",
        "-S",
        folder,
        "-B",
        build,
        f"-DCMAKE_PREFIX_PATH={prefix}",
    )
    run("cmake", "--build", build)
    assert " of the limit, by " in run(build / "shared")
    assert " of the limit, by " in run(build / "static")
