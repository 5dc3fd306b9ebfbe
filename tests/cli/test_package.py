"""The tool as users get it: in a wheel and in an npm package, each installed alone."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from hosts import until

pytestmark = pytest.mark.timeout(300)  # both are built first

PYTHON_HOST = """
import sys, memguard
assert sys.argv[1] in memguard.__file__, memguard.__file__
print("memguard.start" in sys.modules, flush=True)
input()
"""
NODE_HOST = """
console.log(Boolean(globalThis[Symbol.for('memguard.start')]));
process.stdin.once('data', () => process.exit());
"""

Run = Callable[..., str]


@pytest.fixture
def run(environment: None, tmp_path: Path) -> Run:
    """Runs what must go well; returns what it printed."""

    def call(*words: object) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MEMGUARD_")}
    done = subprocess.run(
        [ROOT / "dev", "package", folder], env=variables,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def assert_runs(run: Run, tool: Path, program: list[object]) -> None:
    """It starts a program under memguard and sees it."""
    assert run(tool, "--version") == "memguard 0.1.0\n"
    with subprocess.Popen(
        [tool, "run", "--", *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as host:
        try:
            assert host.stdout is not None
            assert host.stdout.readline().lower() == b"true\n"
            until(lambda: f'"pid":\t{host.pid}' in run(tool, "ps", "--json"))
            host.communicate(b"\n", timeout=30)
        finally:
            host.kill()
    assert host.returncode == 0
    assert f"{host.pid} " in run(tool, "postmortem")


def test_the_wheel(run: Run, packages: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home)
    wheel = only(packages, "memguard-*.whl")
    run(
        sys.executable, "-m", "pip", "--disable-pip-version-check",
        "--python", home / "bin" / "python", "install", "--no-deps", "--no-index",
        wheel,
    )  # fmt: skip
    assert (home / "share" / "man" / "man1" / "memguard.1").exists()
    assert_runs(
        run,
        home / "bin" / "memguard",
        [home / "bin" / "python", "-c", PYTHON_HOST, str(home)],
    )


def test_the_npm_package(run: Run, packages: Path, tmp_path: Path) -> None:
    """Without a registry: what it depends on is packed here, too."""
    home = tmp_path / "app"
    home.mkdir()
    (home / "package.json").write_text('{"private": true}')
    dependency = ROOT / "node_modules" / "node-gyp-build"
    run("npm", "pack", "--pack-destination", tmp_path, dependency)
    run(
        "npm", "install", "--prefix", home, "--cache", tmp_path / "npm", "--offline",
        "--ignore-scripts",
        "--no-audit", "--no-fund", "--no-update-notifier", "--omit=peer",
        only(packages, "memguard-*.tgz"), only(tmp_path, "node-gyp-build-*.tgz"),
    )  # fmt: skip
    assert_runs(
        run, home / "node_modules" / ".bin" / "memguard", ["node", "-e", NODE_HOST]
    )
