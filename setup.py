"""Builds memguard._core: python/src/*.c plus the core as one file; and the memguard
tool, where the libraries that it alone needs are there. The core holds the web page,
which is made where npm's uPlot is there and goes into the sdist as it was made.

Everything that does not depend on the machine stands in pyproject.toml. The
environment variable MEMGUARD_WERROR=1 makes the project's warnings errors.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from glob import glob
from pathlib import Path

from setuptools import Command, Extension, setup
from setuptools.command.sdist import sdist
from setuptools.modified import newer_group

ROOT = Path(__file__).parent
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow"]


def version() -> str:
    """The one version number, which base.h holds."""
    text = (ROOT / "include/memguard/base.h").read_text()
    found = re.search(r'^#define MG_VERSION "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("include/memguard/base.h has no line #define MG_VERSION")
    return found[1]


def compiler() -> list[str]:
    words = str(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    return words if shutil.which(words[0]) else ["cc", *words[1:]]


def libproc2_soname() -> str:
    """The file name to open at run time, e.g. libproc2.so.0."""
    command = [*compiler(), "-print-file-name=libproc2.so"]
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


def web_page() -> str:
    """The folder of the header that holds the web page: made now, or that of the
    sdist."""
    made = "build/web/web_assets.h"
    command = [sys.executable, "core/web/embed.py", made]
    done = subprocess.run(command, check=False).returncode
    if done not in (0, NO_UPLOT):
        raise SystemExit("memguard: making the web page failed")
    if done == NO_UPLOT and not Path("core/web/web_assets.h").exists():
        sys.stderr.write(
            "memguard: built without its web page, which needs npm's uplot\n"
        )
    return "build/web" if done == 0 else "core/web"


NO_UPLOT = 3  # as in core/web/embed.py
WEB_PAGE = web_page()
WEB_ASSETS = Path(WEB_PAGE, "web_assets.h")
WEB_LICENCE = Path(WEB_PAGE, "LICENSE.uplot")
MACROS = [
    ("MG_STATIC", "1"),
    ("_GNU_SOURCE", "1"),
    ("MG_LIBPROC2_SONAME", f'"{libproc2_soname()}"'),
]
# Whoever makes a wheel that bundles libraries puts their licences into that folder.
LICENCES = [str(WEB_LICENCE)] * WEB_LICENCE.exists() + sorted(glob("licences/*"))
TOOL_SCRIPT = "python/bin/memguard"
TOOL_LIBRARIES = ["-lcjson", "-lyaml", "-lncursesw", "-ltinfo"]
TOOL_PROBE = """
#include <cjson/cJSON.h>
#include <microhttpd.h>
#include <ncurses.h>
#include <yaml.h>
int main(void) { return cJSON_Version() == 0 || yaml_get_version_string() == 0; }
"""


class BuildTool(Command):  # type: ignore[misc] # setuptools tells no types here
    """Compiles core/cli into the package, where libraries can lie beside it, and takes
    along the script that becomes it. Without what it links the package is whole but
    for the tool. A checkout has that of CMake, which finds the checkout's packages."""

    description = "build the memguard tool"
    user_options: list[tuple[str, str, str]] = []  # noqa: RUF012 - as in setuptools
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_dir: str | None = None
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        folders = [("build_scripts", "build_dir"), ("build_lib", "build_lib")]
        self.set_undefined_options("build", *folders)

    def get_source_files(self) -> list[str]:
        return [TOOL_SCRIPT, *sorted(glob("core/cli/*.[ch]"))]

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def run(self) -> None:
        assert self.build_dir is not None
        assert self.build_lib is not None
        script = Path(self.build_dir, "memguard")
        target = Path(self.build_lib, "memguard/bin/memguard")
        for file in (script, target):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
        if self.editable_mode:
            return
        shutil.copy(TOOL_SCRIPT, script)
        if not self._can_build():
            sys.stderr.write(
                "memguard: built without the memguard tool, which needs cJSON, "
                "libyaml, ncursesw and libmicrohttpd (Debian: libcjson-dev "
                "libyaml-dev libncurses-dev libmicrohttpd-dev)\n"
            )
            return
        built = Path("build/tool/memguard")  # alike for all Pythons
        made_of = ["setup.py", *DEPENDS, *self.get_source_files()]
        if newer_group(made_of, str(built)):
            built.parent.mkdir(parents=True, exist_ok=True)
            sources = [*sorted(glob("core/cli/*.c")), "core/memguard.c"]
            draft = built.with_suffix(".new")  # whole, or not there
            self._compile(draft, [*sources, *warning_flags()])
            draft.replace(built)
        shutil.copy(built, target)

    def _compile(self, target: Path, words: list[str], quietly: bool = False) -> bool:
        macros = [f"-D{name}={value}" for name, value in MACROS]
        flags = ["-std=c11", "-O2", "-Iinclude", "-Icore", f"-I{WEB_PAGE}", *macros]
        libraries = [*TOOL_LIBRARIES, "-lpthread", "-ldl", "-lm"]
        command = [*compiler(), *flags, *words, "-o", str(target), *libraries]
        done = subprocess.run(command, check=not quietly, capture_output=quietly)
        return done.returncode == 0

    def _can_build(self) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.c")
            probe.write_text(TOOL_PROBE)
            return self._compile(Path(folder, "p"), [str(probe)], quietly=True)


class SourceDist(sdist):  # type: ignore[misc] # setuptools tells no types here
    """Takes the web page along: whoever builds from it needs no npm."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        for file in (WEB_ASSETS, WEB_LICENCE):
            if file.exists():
                shutil.copyfile(file, Path(base_dir, "core/web", file.name))


# core/memguard.c includes the rest of the core, which setuptools cannot see.
DEPENDS = [
    name
    for pattern in ("core/**/*.[ch]", "include/**/*.h", "python/src/*.h")
    for name in sorted(glob(pattern, recursive=True))
] + [str(WEB_ASSETS)] * WEB_ASSETS.exists()

core = Extension(
    "memguard._core",
    sources=[*sorted(glob("python/src/*.c")), "core/memguard.c"],
    depends=DEPENDS,
    include_dirs=["include", "core", WEB_PAGE],
    define_macros=MACROS,
    extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden", *warning_flags()],
    libraries=["pthread", "dl", "m"],
)

setup(
    version=version(),
    ext_modules=[core],
    scripts=["memguard"],  # what BuildTool makes
    data_files=[
        ("share/man/man1", ["core/cli/memguard.1"]),
        ("share/licenses/memguard", LICENCES),
    ],
    cmdclass={"build_scripts": BuildTool, "sdist": SourceDist},
)
