"""The project's own rules, each with the reason why it is one.

Run by `dev lint`. Prints `file:line: what, because why` and exits 1.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES = 600
FUNCTION_LINES = 60
LOCK_FILES = {"package-lock.json"}

Finding = tuple[str, int, str]


def text_files() -> dict[str, str]:
    """What git tracks or would track, by path; binary files left out."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = {}
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            try:
                files[name] = (ROOT / name).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return files


def is_code(name: str) -> bool:
    kinds = (".c", ".h", ".py", ".pyi", ".js", ".mjs", ".ts", ".sh")
    return name.endswith(kinds) or name == "dev"


def is_c(name: str) -> bool:
    return name.endswith((".c", ".h"))


def whitespace(name: str, lines: list[str]) -> Iterator[Finding]:
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield name, number, "white space at the end, because diffs show it"
        if "\t" in line:
            yield name, number, "a tab, because its width differs between readers"


def private_words(name: str, lines: list[str]) -> Iterator[Finding]:
    """Nothing of the machine a change was made on belongs into the project."""
    folders = {f"{folder}/" for folder in (ROOT, ROOT.parent, Path.home())} - {"//"}
    host = re.compile(r"registry\.npmjs|pythonhosted\.org|deb\.debian")
    for number, line in enumerate(lines, 1):
        for folder in sorted(folders):
            if re.search(rf"(?<![\w.$~}}]){re.escape(folder)}", line):
                yield name, number, f"the path {folder}, because it is one machine's"
        if host.search(line):
            yield name, number, "a registry's host, because each user has their own"


def unfinished(name: str, lines: list[str]) -> Iterator[Finding]:
    marker = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    for number, line in enumerate(lines, 1):
        if marker.search(line):
            yield name, number, "a marker of unfinished work, because it ships"


def size(name: str, lines: list[str]) -> Iterator[Finding]:
    if len(lines) >= FILE_LINES and not name.endswith((".d.ts", ".pyi")):  # references
        yield name, len(lines), f"{len(lines)} lines, because a reader holds < 600"


def function_size(name: str, lines: list[str]) -> Iterator[Finding]:
    """A C function runs from a line ending in `) {` to a `}` in column one."""
    start = 0
    for number, line in enumerate(lines, 1):
        if start == 0 and line.endswith(") {"):
            start = number
        elif start and line.startswith("}"):
            length = number - start + 1
            if length > FUNCTION_LINES:
                why = f"a function of {length} lines, because a reader holds <= 60"
                yield name, start, why
            start = 0


def includes(name: str, lines: list[str]) -> Iterator[Finding]:
    """Includes flow one way: bindings -> include/ <- core, os/ -> os.h."""
    found = [
        (number, match[1])
        for number, line in enumerate(lines, 1)
        if (match := re.match(r'#\s*include\s+["<]([^">]+)[">]', line))
    ]
    for number, target in found:
        runtime = target.startswith(("Python.h", "node_api", "js_native_api"))
        if runtime and name.startswith(("core/", "include/")):
            yield name, number, f"{target}, because the core serves every runtime"
        if name.startswith("include/"):
            ours = target.startswith("memguard/") or target.startswith("std")
            if '"' in lines[number - 1] and not ours:
                yield name, number, f"{target}, because users have public headers only"
        if name.startswith(("python/src/", "node/src/")):
            local = (ROOT / name).parent / target
            inside = (ROOT / "core" / target).exists() and not local.exists()
            if inside or "core/" in target:
                yield name, number, f"{target}, because bindings use the public API"
    first = found[0] if found else (1, "no include")
    if re.fullmatch(r"core/os/\w+\.c", name):
        own = first[1] if first[1].startswith("memguard/") else "os.h"
    elif (ROOT / f"include/memguard/{Path(name).stem}.h").exists():
        own = f"memguard/{Path(name).stem}.h"
    else:
        return
    if re.fullmatch(r"core/(os/)?\w+\.c", name) and first[1] != own:
        why = f"{own} comes first, because that proves it needs nothing before it"
        yield name, first[0], why


def source_list(files: dict[str, str]) -> Iterator[Finding]:
    """core/memguard.c lists every core source, or a build would lack it."""
    name = "core/memguard.c"
    listed = re.findall(r'^#include "(.+\.c)"', files.get(name, ""), re.MULTILINE)
    there = {
        other.removeprefix("core/")
        for other in files
        if re.fullmatch(r"core/(os/)?\w+\.c", other) and other != name
    }
    for missing in sorted(there - set(listed)):
        yield name, 1, f"{missing} is not in the list, because builds read it here"


def versions(files: dict[str, str]) -> Iterator[Finding]:
    match = re.search(r'MG_VERSION "(.+)"', files.get("include/memguard/base.h", ""))
    want = match[1] if match else "?"
    for name in ("package.json", "package-lock.json"):
        have = json.loads(files[name])["version"]
        if have != want:
            yield name, 1, f"version {have}, because memguard/base.h says {want}"


def findings() -> Iterator[Finding]:
    files = text_files()
    for name, text in files.items():
        lines = text.split("\n")
        yield from private_words(name, lines)
        if Path(name).name in LOCK_FILES:
            continue
        yield from whitespace(name, lines)
        if text and not text.endswith("\n"):
            yield name, len(lines), "no newline at the end, because tools append"
        if is_code(name):
            yield from size(name, lines)
            yield from unfinished(name, lines)
        if is_c(name):
            yield from function_size(name, lines)
            yield from includes(name, lines)
    yield from source_list(files)
    yield from versions(files)


def main() -> int:
    found = list(findings())
    for name, number, why in found:
        print(f"{name}:{number}: {why}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
