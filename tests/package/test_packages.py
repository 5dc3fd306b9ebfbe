"""Packages as users get them: each installed alone, where there is no compiler."""

import json
import os
import re
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MACHINE, NODE_NAMES, PACKAGES, ROOT, Run, only

pytestmark = pytest.mark.timeout(900)

PYTHONS = sorted(path.parent.parent.name for path in ROOT.glob(".venv*/bin/python"))
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
LICENCES = {
    "LICENSE.libcjson": "Dave Gamble",
    "LICENSE.libncursesw": "Free Software Foundation",
    "LICENSE.libtinfo": "Free Software Foundation",
    "LICENSE.libyaml-0": "Kirill Simonov",
    "LICENSE.uplot": "Copyright (c) 2022 Leon Sorokin",
}
IN_WHEEL = [
    r"memguard/([a-z_]+/)?[a-z0-9_]+\.pyi?",
    r"memguard/py\.typed",
    r"memguard/_core\.cpython-3\d+-[a-z0-9_-]+\.so",
    r"memguard/bin/memguard",
    r"memguard\.libs/lib(cjson|ncursesw|tinfo|yaml-0)-[0-9a-f]+\.so[.0-9]+",
    r"memguard-0\.1\.0\.data/scripts/memguard",
    r"memguard-0\.1\.0\.data/data/share/man/man1/memguard\.1",
    r"memguard-0\.1\.0\.data/data/share/licenses/memguard/LICENSE\.[a-z0-9-]+",
    r"memguard-0\.1\.0\.dist-info/([A-Z]+|[a-z_]+\.txt)",
    r"memguard-0\.1\.0\.dist-info/licenses/LICENSE",
    r"memguard-0\.1\.0\.dist-info/sboms/auditwheel\.cdx\.json",
]
IN_NPM = [
    r"(package\.json|LICENSE|README\.md|README\.zh\.md|CHANGELOG\.md)",
    r"core/cli/memguard\.1",
    r"node/(README\.md|bin/memguard|(index|jest|stress|start|jest-environment)\.[a-z.]+)",
    r"node/lib/([a-z]+/)?[a-z_]+\.js",
    r"prebuilds/linux-(x64|arm64)/(memguard|memguard\.glibc\.node|LICENSE\.[a-z0-9-]+)",
    r"prebuilds/linux-(x64|arm64)/lib/lib(cjson|ncursesw|tinfo|yaml-0)\.so\.\d",
]


def assert_only(names: list[str], allowed: list[str]) -> None:
    """No name but what is allowed, and something of each."""
    patterns = [re.compile(pattern) for pattern in allowed]
    junk = [name for name in names if not any(p.fullmatch(name) for p in patterns)]
    assert junk == []
    for pattern in patterns:
        assert any(pattern.fullmatch(name) for name in names), pattern.pattern


def assert_licences(folder: Path) -> None:
    assert {file.name for file in folder.glob("LICENSE.*")} == set(LICENCES)
    for name, words in LICENCES.items():
        assert words in (folder / name).read_text(encoding="utf-8"), name


def assert_dashboard(binary: Path) -> None:
    """It holds the page, with the licence of what is in it."""
    content = binary.read_bytes()
    assert b"<title>memguard</title>" in content
    assert b"Copyright (c) 2022 Leon Sorokin" in content


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.2)


def assert_runs(
    run: Run, variables: dict[str, str], tool: Path, program: list[object]
) -> None:
    """It starts a program under memguard and sees it."""
    assert run(tool, "--version") == "memguard 0.1.0\n"
    with subprocess.Popen(
        list(map(str, [tool, "run", "--", *program])),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables,
    ) as host:  # fmt: skip
        try:
            assert host.stdout is not None
            assert host.stdout.readline().lower() == b"true\n"
            until(lambda: f'"pid":\t{host.pid}' in run(tool, "ps", "--json"))
            assert f" {host.pid} " in run(tool, "top", "--once")
            host.communicate(b"\n", timeout=60)
        finally:
            host.kill()
    assert host.returncode == 0
    assert f"{host.pid} " in run(tool, "postmortem")


def fresh(run: Run, python: str, home: Path) -> Path:
    """A new environment for a Python; returns its python."""
    run(ROOT / python / "bin" / "python", "-m", "venv", "--without-pip", home)
    return home / "bin" / "python"


def install(run: Run, python: Path, *words: object, **more: str) -> None:
    pip = [ROOT / ".venv/bin/python", "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", *words, **more)


def wheel_for(run: Run, python: Path) -> Path:
    code = "import sys; print('cp%d%d' % sys.version_info[:2])"
    return only(PACKAGES, f"memguard-*-{run(python, '-c', code).strip()}-*.whl")


@pytest.mark.parametrize("python", PYTHONS)
def test_a_wheel(
    run: Run, variables: dict[str, str], tmp_path: Path, python: str
) -> None:
    home = tmp_path / "home"
    program = fresh(run, python, home)
    install(run, program, wheel_for(run, program))
    manual = home / "share" / "man" / "man1" / "memguard.1"
    assert manual.read_text() == (ROOT / "core/cli/memguard.1").read_text()
    package = only(home, "lib/python3*/site-packages/memguard")
    assert_dashboard(package / "bin" / "memguard")
    assert_dashboard(only(package, "_core*.so"))
    assert_licences(home / "share" / "licenses" / "memguard")
    tool = home / "bin" / "memguard"
    assert_runs(run, variables, tool, [program, "-c", PYTHON_HOST, home])
    linked = run("ldd", package / "bin/memguard", PATH=os.environ["PATH"])
    for name in ("libcjson", "libncursesw", "libtinfo", "libyaml-0"):
        assert re.search(rf"=> .*memguard\.libs/{name}-", linked), linked


def test_into_a_folder(run: Run, tmp_path: Path) -> None:
    """pip install --target: the tool finds the package it is part of there, too."""
    program = fresh(run, ".venv", tmp_path / "home")
    target = tmp_path / "target"
    install(run, program, "--target", target, wheel_for(run, program))
    tool = target / "bin" / "memguard"
    host = "import sys; print('memguard.start' in sys.modules)"
    assert run(tool, "run", "--", program, "-c", host) == "True\n"


@pytest.mark.parametrize("wheel", sorted(PACKAGES.glob("*.whl")), ids=lambda w: w.name)
def test_what_is_in_a_wheel(wheel: Path) -> None:
    assert re.search(rf"-cp3\d+-cp3\d+-manylinux_2_\d+_{MACHINE}\.whl$", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        assert_only([n for n in archive.namelist() if n[-1] != "/"], IN_WHEEL)


def test_what_is_in_the_npm_package() -> None:
    with tarfile.open(only(PACKAGES, "memguard-*.tgz")) as archive:
        names = [name.removeprefix("package/") for name in archive.getnames()]
        description = archive.extractfile("package/package.json")
        assert description is not None
        content = json.load(description)
    assert_only(names, IN_NPM)
    assert "scripts" not in content
    assert content["man"] == "core/cli/memguard.1"
    for processor in ("x64", "arm64"):
        for name in ("memguard", "memguard.glibc.node", *LICENCES):
            assert f"prebuilds/linux-{processor}/{name}" in names


def test_the_npm_package(run: Run, variables: dict[str, str], tmp_path: Path) -> None:
    """Without a registry: what it depends on is packed here, too."""
    home = tmp_path / "app"
    home.mkdir()
    (home / "package.json").write_text('{"private": true}')
    dependency = ROOT / "node_modules" / "node-gyp-build"
    run("npm", "pack", "--pack-destination", tmp_path, dependency)
    run(
        "npm", "install", "--prefix", home, "--cache", tmp_path / "npm", "--offline",
        "--no-audit", "--no-fund", "--no-update-notifier", "--omit=peer",
        only(PACKAGES, "memguard-*.tgz"), only(tmp_path, "node-gyp-build-*.tgz"),
    )  # fmt: skip
    package = home / "node_modules" / "memguard"
    prebuilds = package / "prebuilds" / f"linux-{NODE_NAMES[MACHINE]}"
    assert_dashboard(prebuilds / "memguard")
    assert_dashboard(prebuilds / "memguard.glibc.node")
    assert_licences(prebuilds)
    code = f"console.log(require({str(package)!r}).rssBytes() > 0)"
    assert run("node", "-e", code) == "true\n"
    tool = home / "node_modules" / ".bin" / "memguard"
    assert_runs(run, variables, tool, ["node", "-e", NODE_HOST])


def test_the_sdist_builds(run: Run, tmp_path: Path) -> None:
    """By a compiler and setuptools; without npm, the page is in it as it was made."""
    home = tmp_path / "home"
    program = fresh(run, ".venv", home)
    tools = tmp_path / "tools"
    tools.mkdir()
    modules = only(ROOT, ".venv/lib/python3*/site-packages")
    for pattern in ("setuptools*", "_distutils_hack", "pkg_resources"):
        for file in modules.glob(pattern):
            (tools / file.name).symlink_to(file)
    compiler = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tools)}
    source = only(PACKAGES, "memguard-*.tar.gz")
    install(run, program, "--no-build-isolation", source, **compiler)
    assert run(home / "bin" / "memguard", "--version") == "memguard 0.1.0\n"
    package = only(home, "lib/python3*/site-packages/memguard")
    assert_dashboard(only(package, "_core*.so"))
    assert [file.name for file in (home / "share/licenses/memguard").iterdir()] == [
        "LICENSE.uplot"
    ]
