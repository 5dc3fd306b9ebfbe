"""The tool as users get it: in a wheel and in an npm package, each installed alone."""

import os
import shutil
import subprocess
import sys
import tarfile
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


def assert_dashboard(binary: Path) -> None:
    """It holds the page, with the licence of what is in it."""
    content = binary.read_bytes()
    assert b"<title>memguard</title>" in content
    assert b"Copyright (c) 2022 Leon Sorokin" in content


def assert_licence(file: Path) -> None:
    assert "Copyright (c) 2022 Leon Sorokin" in file.read_text()


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
    assert_dashboard(home / "bin" / "memguard")
    assert_dashboard(only(home, "lib/python3*/site-packages/memguard/_core*.so"))
    assert_licence(home / "share" / "licenses" / "memguard" / "LICENSE.uplot")
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
    prebuilds = only(home / "node_modules" / "memguard" / "prebuilds", "linux-*")
    assert_dashboard(prebuilds / "memguard")
    assert_dashboard(prebuilds / "memguard.node")
    assert_licence(prebuilds / "LICENSE.uplot")
    assert_runs(
        run, home / "node_modules" / ".bin" / "memguard", ["node", "-e", NODE_HOST]
    )


def test_the_sdist_needs_no_npm(run: Run, packages: Path, tmp_path: Path) -> None:
    """The page is in it as it was made."""
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", "build", "dist", "prebuilds", "node_modules"
    )
    shutil.copytree(ROOT, checkout, ignore=ignored)
    shutil.copytree(ROOT / "node_modules/uplot", checkout / "node_modules/uplot")
    build = f"import os, runpy, sys; os.chdir({str(checkout)!r})"
    build += f"; sys.argv = ['setup.py', '-q', 'sdist', '-d', {str(tmp_path)!r}]"
    build += "; runpy.run_path('setup.py', run_name='__main__')"
    run(sys.executable, "-W", "ignore", "-c", build)
    with tarfile.open(only(tmp_path, "memguard-*.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    web = only(tmp_path, "memguard-*/core/web")
    assert "<title>memguard</title>" in page_of(web / "web_assets.h")
    assert_licence(web / "LICENSE.uplot")


def page_of(header: Path) -> str:
    """The first file in a header made by core/web/embed.py."""
    numbers = header.read_text().split("*/", 2)[2].split("}", 1)[0].split(",")
    return bytes(int(number) for number in numbers if number.strip()).decode()
