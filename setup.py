"""Builds memguard._core: python/src/*.c plus the core as one file.

Everything that does not depend on the machine stands in pyproject.toml. The
environment variable MEMGUARD_WERROR=1 makes the project's warnings errors.
"""

import os
import re
import shutil
import subprocess
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow"]


def version() -> str:
    """The one version number, which base.h holds."""
    text = (ROOT / "include/memguard/base.h").read_text()
    found = re.search(r'^#define MG_VERSION "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("include/memguard/base.h has no line #define MG_VERSION")
    return found[1]


def libproc2_soname() -> str:
    """The file name to open at run time, e.g. libproc2.so.0."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    command = [*compiler.split(), "-print-file-name=libproc2.so"]
    if shutil.which(command[0]) is None:
        command[0] = "cc"
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found = re.search(r"libproc2\.so\.\d+", os.path.realpath(answer.stdout.strip()))
    if found is None:
        raise SystemExit("memguard needs libproc2 to build (Debian: libproc2-dev)")
    return found[0]


def warning_flags() -> list[str]:
    """Our warnings, with Python's own headers left out of them."""
    if os.environ.get("MEMGUARD_WERROR") != "1":
        return []
    return [*WARNINGS, "-Werror", f"-isystem{sysconfig.get_path('include')}"]


core = Extension(
    "memguard._core",
    sources=[*sorted(glob("python/src/*.c")), "core/memguard.c"],
    # core/memguard.c includes the rest of the core, which setuptools cannot see.
    depends=[
        name
        for pattern in ("core/**/*.[ch]", "include/**/*.h", "python/src/*.h")
        for name in sorted(glob(pattern, recursive=True))
    ],
    include_dirs=["include", "core"],
    define_macros=[
        ("MG_STATIC", "1"),
        ("_GNU_SOURCE", "1"),
        ("MG_LIBPROC2_SONAME", f'"{libproc2_soname()}"'),
    ],
    extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden", *warning_flags()],
    libraries=["pthread", "dl", "m"],
)

setup(version=version(), ext_modules=[core])
