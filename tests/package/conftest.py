"""What the tests of packages share: those of build/package, which `./dev test package`
makes, and a machine without a compiler, which is a PATH that has none."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "build" / "package"
NODE_NAMES = {"x86_64": "x64", "aarch64": "arm64"}
MACHINE = platform.machine()
PROGRAMS = ("sh", "env", "dirname", "readlink", "uname", "node", "npm")

Run = Callable[..., str]


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def unpack(archive: Path, folder: str | Path) -> None:
    """By tar, because Python's own way is another one before 3.11.4."""
    subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True, timeout=100)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with what the packages may use, and nothing that compiles."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    assert not any(shutil.which(name, path=str(folder)) for name in ("cc", "gcc"))
    return str(folder)


@pytest.fixture
def variables(folder: Path, path: str) -> dict[str, str]:
    """Nothing of whoever runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NODE_", "PYTHON", "VIRTUAL_ENV"))
    }
    return {**kept, "MEMGUARD_LONG_PAUSE": "60s", "PATH": path}


@pytest.fixture
def run(variables: dict[str, str], tmp_path: Path) -> Run:
    """Runs what must go well; returns what it printed."""

    def call(*words: object, **more: str) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path,
            stdin=subprocess.DEVNULL, env={**variables, **more},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call
