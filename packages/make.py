"""Makes the packages that install without a compiler.

usage: make.py [--all] FOLDER

FOLDER gets the sdist, a wheel made of it for the Python of .venv, tagged by
auditwheel with the oldest C library it runs on, and the npm package with the addon
and the tool for this processor. With --all also wheels for the Pythons of .venv-3.*,
and in the npm package what packages/cross.py made for the other processor.

Only the tool needs more than the C library; what it links lies beside it, with the
licences, in wheels placed by auditwheel, in the npm package here. Run by `./dev
package`, which builds first.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
UPLOT = "LICENSE.uplot"
# What the tool links, and the Debian package whose licence goes along.
BUNDLED = {
    "libcjson.so.1": "libcjson1",
    "libyaml-0.so.2": "libyaml-0-2",
    "libncursesw.so.6": "libncursesw6",
    "libtinfo.so.6": "libtinfo6",
}
SYSTEM = ("libc.so.", "libm.so.", "libdl.so.", "libpthread.so.", "ld-linux-")
PROCESSORS = {  # uname -m: (Node's name of it, GNU's)
    "x86_64": ("x64", "x86_64-linux-gnu"),
    "aarch64": ("arm64", "aarch64-linux-gnu"),
}


def run(*words: object, cwd: Path = ROOT, **more: str) -> str:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **more}
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{words[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def library(root: Path, triplet: str, name: str) -> Path:
    for folder in ("usr/lib", "lib"):
        file = root / folder / triplet / name
        if file.exists():
            return file.resolve()
    raise SystemExit(f"{name} is not in the library folders of {root}")


def needed(root: Path, triplet: str, file: Path) -> Iterator[str]:
    """What has to be bundled with a program, in any depth."""
    waiting, seen = [file], set[str]()
    while waiting:
        for name in run("patchelf", "--print-needed", waiting.pop()).split():
            if name.startswith(SYSTEM) or name in seen:
                continue
            if name not in BUNDLED:
                raise SystemExit(f"{name} would be bundled, its licence is not known")
            seen.add(name)
            yield name
            waiting.append(library(root, triplet, name))


def licences(root: Path, names: list[str], folder: Path) -> None:
    for name in names:
        text = root / "usr/share/doc" / BUNDLED[name] / "copyright"
        shutil.copyfile(text, folder / f"LICENSE.{name.partition('.so')[0]}")


def bundle(root: Path, triplet: str, tool: Path, folder: Path) -> None:
    """Puts the tool into `folder`, what it links into `folder`/lib."""
    names = list(needed(root, triplet, tool))
    target = folder / "memguard"
    (folder / "lib").mkdir()
    strip(triplet, tool, target)
    run("patchelf", "--set-rpath", "$ORIGIN/lib", target)
    for name in names:
        strip(triplet, library(root, triplet, name), folder / "lib" / name)
        run("patchelf", "--set-rpath", "$ORIGIN", folder / "lib" / name)
    licences(root, names, folder)


def strip(triplet: str, source: Path, target: Path) -> None:
    own = PROCESSORS[platform.machine()][1] == triplet
    program = "strip" if own else f"{triplet}-strip"
    run(program, "--strip-unneeded", "-o", target, source)


def prebuild(root: Path, machine: str, build: Path) -> None:
    """The part of the npm package for one processor."""
    name, triplet = PROCESSORS[machine]
    folder = ROOT / "prebuilds" / f"linux-{name}"
    folder.mkdir(parents=True)
    # With this name it is not tried where the C library is another.
    strip(triplet, build / "Release/memguard.node", folder / "memguard.glibc.node")
    bundle(root, triplet, build / "bin" / "memguard", folder)
    shutil.copy(build / "web" / UPLOT, folder)


def npm(folder: Path, machines: list[str]) -> None:
    shutil.rmtree(ROOT / "prebuilds", ignore_errors=True)
    for machine in machines:
        own = machine == platform.machine()
        build = ROOT / "build" if own else ROOT / "build" / f"cross-{machine}"
        prebuild(Path("/") if own else build / "root", machine, build)
    run("npm", "pack", "--silent", "--pack-destination", folder, "--no-update-notifier")


def sdist(folder: Path) -> Path:
    command = "import sys; from setuptools import build_meta as b"
    command += "; print(b.build_sdist(sys.argv[1]))"
    printed = run(BIN / "python", "-W", "ignore", "-c", command, folder)
    return folder / printed.split()[-1]


def unpacked(source: Path, folder: Path) -> Path:
    """The sdist with the licences of what will be bundled with its tool."""
    run("tar", "-xzf", source, "-C", folder)
    (tree,) = folder.iterdir()
    (tree / "licences").mkdir()
    tool = ROOT / "build/bin/memguard"
    names = list(needed(Path("/"), PROCESSORS[platform.machine()][1], tool))
    licences(Path("/"), names, tree / "licences")
    return tree


def wheel(python: Path, tree: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as draft:
        run(
            python, "-m", "pip", "--disable-pip-version-check", "wheel",
            "--no-build-isolation", "--no-deps", "-w", draft, tree,
        )  # fmt: skip
        (made,) = Path(draft).glob("memguard-*.whl")
        run(BIN / "python", "-m", "auditwheel", "repair", "--strip", "-w", folder, made)


def main(everything: bool, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    machine = platform.machine()
    others = [name for name in PROCESSORS if name != machine] if everything else []
    pythons = [BIN / "python"]
    if everything:
        pythons += sorted(ROOT.glob(".venv-3.*/bin/python"))
    npm(folder, [machine, *others])
    source = sdist(folder)
    with tempfile.TemporaryDirectory() as draft:
        tree = unpacked(source, Path(draft))
        for python in pythons:
            wheel(python, tree, folder)


if __name__ == "__main__":
    words = sys.argv[1:]
    everything = words[:1] == ["--all"]
    if len(words) != 1 + everything:
        sys.exit(__doc__)
    main(everything, Path(words[-1]).resolve())
