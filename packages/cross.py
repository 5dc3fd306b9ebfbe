"""Builds the addon and the tool for the other processor, with a cross compiler.

usage: cross.py

They come to stand in build/cross-MACHINE as in build/: Release/memguard.node and
bin/memguard. The tool's libraries come from Debian's packages for that processor,
which are fetched and unpacked into build/cross-MACHINE/root with lists of their own:
the system's own packages stay as they are. The compiler is Debian's
gcc-TRIPLET.
"""

import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

from make import BUNDLED, PROCESSORS, ROOT, run

DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
PACKAGES = [
    *BUNDLED.values(),
    "libcjson-dev",
    "libyaml-dev",
    "libncurses-dev",
    "libmicrohttpd-dev",
    "libproc2-0",
    "libproc2-dev",
]


def apt(state: Path, architecture: str, *words: str) -> None:
    """apt-get with lists in `state`, for that processor."""
    (state / "lists/partial").mkdir(parents=True, exist_ok=True)
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "APT::Sandbox::User": "",  # may not read our folder
        "Acquire::Languages": "none",
        "Dir::State": state,
        "Dir::State::status": "/dev/null",
        "Dir::Cache": state,
        "Debug::NoLocking": "1",
    }
    given = [f"-o{name}={value}" for name, value in options.items()]
    run("apt-get", "-qq", *given, *words, cwd=state)


def fetch(root: Path, machine: str) -> None:
    """Headers and libraries for that processor, below `root`."""
    system = Path("/etc/os-release").read_text()
    key = hashlib.sha256(f"{system} {PACKAGES}".encode()).hexdigest()
    stamp = root / "fetched"
    if stamp.exists() and stamp.read_text() == key:
        return
    shutil.rmtree(root, ignore_errors=True)
    state = root / "apt"
    apt(state, DEBIAN[machine], "update")
    apt(state, DEBIAN[machine], "download", *PACKAGES)
    for file in sorted(state.glob("*.deb")):
        run("dpkg-deb", "--extract", file, root)
    shutil.rmtree(state)
    gather(root, PROCESSORS[machine][1])
    stamp.write_text(key)


def gather(root: Path, triplet: str) -> None:
    """All libraries into one folder, no link of which leads out of it."""
    folder = root / "usr/lib" / triplet
    for file in (root / "lib" / triplet).glob("*"):
        file.rename(folder / file.name)
    for file in folder.glob("*.so*"):
        if file.is_symlink():
            name = os.path.basename(os.readlink(file))
            file.unlink()
            file.symlink_to(name)


def build(root: Path, machine: str) -> None:
    triplet = PROCESSORS[machine][1]
    include, libraries = root / "usr/include", root / "usr/lib" / triplet
    options = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": machine,
        "CMAKE_C_COMPILER": f"{triplet}-gcc",
        "CMAKE_C_FLAGS": f"-isystem {include} -isystem {include}/{triplet}",
        "CMAKE_EXE_LINKER_FLAGS": f"-L{libraries} -Wl,-rpath-link,{libraries}",
        "LIBPROC2_INCLUDE": include,
        "LIBPROC2_LIBRARY": libraries / "libproc2.so",
        "MEMGUARD_WERROR": "ON",
        "MEMGUARD_BUILD_TOOL": "ON",
        "MEMGUARD_NODE_API_INCLUDE": ROOT / "node_modules/node-api-headers/include",
    }
    given = [f"-D{name}={value}" for name, value in options.items()]
    configs = libraries / "pkgconfig"
    folder = root.parent
    run(
        "cmake", "-S", ".", "-B", folder, "-G", "Ninja", *given,
        PKG_CONFIG_LIBDIR=str(configs), PKG_CONFIG_SYSROOT_DIR=str(root),
    )  # fmt: skip
    run("cmake", "--build", folder, "--target", "memguard_node", "memguard_tool")


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit(__doc__)
    for machine in PROCESSORS:
        if machine != platform.machine():
            root = ROOT / "build" / f"cross-{machine}" / "root"
            fetch(root, machine)
            build(root, machine)
