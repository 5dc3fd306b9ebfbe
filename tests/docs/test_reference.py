"""The API references: each public name is there, with its text."""

import inspect
import json
import re
import subprocess
import sys

import memguard
import pytest
from blocks import ROOT

sys.path.append(str(ROOT / "docs"))

import reference

DOCS = ROOT / "docs"


def sections(page: str, pattern: str = r"### (\w+)") -> dict[str, str]:
    """What stands under each title that matches."""
    text = (DOCS / page).read_text(encoding="utf-8")
    parts = re.split(rf"^{pattern}$", text, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for name, part in zip(parts[1::2], parts[2::2], strict=True):
        found[name] = found.get(name, "") + part
    return found


def told(section: str) -> str:
    """Without declarations."""
    return re.sub(r"```(cpp|pyi|ts)\n.*?```", "", section, flags=re.DOTALL).strip()


def test_every_function_and_type_of_c() -> None:
    page = (DOCS / "reference-c.md").read_text(encoding="utf-8")
    under = sections("reference-c.md")
    functions = types = 0
    for header in sorted((ROOT / "include" / "memguard").glob("*.h")):
        text = header.read_text(encoding="utf-8")
        for name in re.findall(r"^MG_API [^;(]*?(\w+)\(", text, re.MULTILINE):
            functions += 1
            assert re.search(rf"\b{name}\(", page), name
            if name in under:
                assert told(under[name]), name
        for name in re.findall(r"^\} (mg_\w+);", text, re.MULTILINE):
            types += 1
            assert f"}} {name};" in page, name
        assert f"\n## {header.name}\n" in page
    assert functions > 250
    assert types > 80


def test_every_name_of_python() -> None:
    under = sections("reference-python.md")
    for name in memguard.__all__:
        assert told(under[name]), name


@pytest.mark.parametrize("name", [n for n in memguard.__all__ if n[0].isupper()])
def test_every_member_of_python(name: str) -> None:
    """As the class itself has them, its bases of memguard included."""
    found = getattr(memguard, name)
    if not inspect.isclass(found):
        return
    page = (DOCS / "reference-python.md").read_text(encoding="utf-8")
    public = {base for base in found.__mro__ if base.__name__ in memguard.__all__} | {
        found
    }
    for owner in public:
        hidden = {
            base for base in owner.__mro__ if base.__module__.startswith("memguard")
        } - (public - {owner})
        for base in hidden:
            for member in vars(base):
                if not member.startswith("_"):
                    title = rf"\*\*{owner.__name__}\.{member}(\(\))?\*\*"
                    assert re.search(title, page), f"{owner.__name__}.{member}"


def test_every_name_of_node() -> None:
    under = sections("reference-node.md")
    done = subprocess.run(
        ["node", "-p", "JSON.stringify(Object.keys(require('./node')))"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    names = json.loads(done.stdout)
    assert len(names) > 30
    for name in names:
        assert f" {name}" in under[name], name
    for name in ("ResourceManager", "MemoryPool", "registerCache", "serve"):
        assert told(under[name]), name


def test_what_a_declaration_becomes() -> None:
    assert list(
        reference.fenced(["MG_API int mg_a(int one,\n           int two);"])
    ) == ["\n```cpp\nint mg_a(int one,\n    int two);\n```\n"]
    assert reference.wrapped("def f(a: int)") == "def f(a: int)"
    long = f"def f(a: dict[str, int], b: {'x' * 90}) -> None"
    assert reference.wrapped(long) == (
        f"def f(\n    a: dict[str, int],\n    b: {'x' * 90},\n) -> None"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One\nline.", "\nOne line.\n"),
        ("See mg_rent() and MG_OK.", "\nSee `mg_rent()` and `MG_OK`.\n"),
        ("a < b, 2**40", "\na \\< b, 2\\*\\*40\n"),
        ("Opens.\n @param out [owned] it\n @return MG_OK.",
         "\nOpens.\n\n- `out`: [owned] it\n- Returns `MG_OK`.\n"),
        ("Such:\n\n    a = 1", "\nSuch:\n\n```text\n    a = 1\n```\n"),
        ("See {@link LeakDetector}.", "\nSee `LeakDetector`.\n"),
        ("@throws {MemguardError} CLOSED.", "\n- Throws `MemguardError` CLOSED.\n"),
    ],
)  # fmt: skip
def test_what_a_comment_becomes(text: str, expected: str) -> None:
    assert "".join(reference.prose(text)) == expected
