"""The API references: every public name of the three languages, with its text.

C comes from the comments of include/memguard/, Python from stubs and docstrings as
griffe reads them, Node from index.d.ts as Babel's parser reads it
(reference_node.js).
"""

import ast
import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parents[1]
_CODE = re.compile(
    r"(`[^`]+`)|\b(mg_\w+(?:\(\))?|MG_\w+|[A-Z]{2,}(?:_[A-Z]+)+)|([*<]|\b_\b|(?<!\w)_)"
)

TAGS = {"return": "Returns", "returns": "Returns", "throws": "Throws"}


def prose(text: str) -> Iterator[str]:
    """Paragraphs of a comment as Markdown. What is indented was set by hand, tables,
    drawings, examples: it stays as it is."""
    for part in re.split(r"\n[ \t]*\n", textwrap.dedent(text).strip("\n")):
        if not part.strip():
            continue
        if re.search(r"^  +\S", part, re.MULTILINE) and "@" not in part:
            yield f"\n```text\n{part}\n```\n"
        else:
            # Each tag (@param out [owned] ...) on a line of its own.
            told, *tags = re.split(r"(?:^|\s+)@(?=[a-z]+\s)", " ".join(part.split()))
            if told:
                yield "\n" + in_line(told) + "\n"
            if tags:
                yield "\n" + "".join(f"- {in_line(tagged(tag))}\n" for tag in tags)


def tagged(tag: str) -> str:
    kind, _, text = tag.partition(" ")
    text = re.sub(r"^\{(\w+)\}", r"`\1`", text)  # of @throws
    if kind == "param":
        name, _, text = text.partition(" ")
        return f"`{name}`: {text}"
    return f"{TAGS.get(kind, kind.capitalize() + ':')} {text}"


def in_line(text: str) -> str:
    text = re.sub(r"\{@link ([^}]+)\}", r"`\1`", text)

    def shown(found: re.Match[str]) -> str:
        code, name, special = found.groups()
        return code or (f"`{name}`" if name else f"\\{special}")

    return _CODE.sub(shown, text)


def contents(sections: str) -> str:
    """Links to the sections."""
    links = []
    for title in re.findall(r"^## (.+)$", sections, re.MULTILINE):
        place = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        links.append(f"[{title}](#{place})")
    return "\n" + " · ".join(links) + "\n"


# --- C ----------------------------------------------------------------------------

C_PAGE = """# C reference

{from_}

What [core/README.md](../core/README.md) tells by task, here by header: comments and
declarations as they stand in `include/memguard/`. Include `memguard.h` for all of it.
"""
_COMMENT = re.compile(r"\s*/\*\*?(.*?)\*/", re.DOTALL)
# A public declaration with the comment before it, if it has one of its own.
_DECLARED = re.compile(
    r"(?:(?P<comment>/\*\*(?:[^*]|\*(?!/))*\*/)\n)?"
    r"(?P<code>MG_API [^;{]*;|MG_API [^;{]*\{.*?^\}|static inline .*?^\}"
    r"|typedef [^;{]*;|typedef (?:enum|struct|union) \w+ \{.*?^ *\} *\w+;"
    r"|#define MG_(?:[^\n\\]|\\\n|\\.)*)",
    re.MULTILINE | re.DOTALL,
)
_NAMES = (
    re.compile(r"\A#define (MG_\w+)"),
    re.compile(r"\(\*(mg_\w+)\)\("),
    re.compile(r"\} *(mg_\w+);"),
    re.compile(r"\b(mg_\w+)\("),
    re.compile(r"\b(mg_\w+);"),
)


def plain(comment: str) -> str:
    """The text of a comment, without what makes it one."""
    inside = _COMMENT.match(comment)
    lines = (inside[1] if inside else comment).splitlines()
    return "\n".join(re.sub(r"^ \* ?", "", line).rstrip() for line in lines).strip("\n")


def name_declared(code: str) -> str:
    for pattern in _NAMES:
        if found := pattern.search(code):
            return found[1]
    return ""


def header(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    first = _COMMENT.match(text)
    told = plain(first[0]) if first else ""
    yield f"\n## {path.name}\n"
    yield from prose(re.sub(r"^ ?memguard/\w+\.h - ", "", told))
    body = text[first.end() if first else 0 :]
    end = 0
    waiting: list[str] = []  # declarations that share the comment before them
    for found in _DECLARED.finditer(body):
        code, comment = found["code"], found["comment"]
        name = name_declared(code)
        if not name or re.fullmatch(
            r"MG_API|MEMGUARD_\w+_H|MG_\w+_ENUM|MG_PRINTF", name
        ):
            continue
        is_apart = "\n\n" in body[end : found.start()] or not waiting
        end = found.end()
        if comment or is_apart:
            yield from fenced(waiting)
            waiting = []
            yield f"\n### {name}\n"
            yield from prose(plain(comment)) if comment else ()
        waiting.append(code)
    yield from fenced(waiting)


def fenced(codes: list[str]) -> Iterator[str]:
    if codes:
        text = "\n".join(
            re.sub(r"^ {7}", "", code[7:], flags=re.MULTILINE)
            if code.startswith("MG_API ")
            else code
            for code in codes
        )
        yield f"\n```cpp\n{text}\n```\n"


def c(from_: str) -> Iterator[str]:
    headers = sorted((ROOT / "include" / "memguard").glob("*.h"))
    sections = "".join("".join(header(path)) for path in headers)
    yield C_PAGE.format(from_=from_) + contents(sections) + sections


# --- Python -----------------------------------------------------------------------

PYTHON_PAGE = """# Python reference

{from_}

What [python/README.md](../python/README.md) tells by task, here by name: first
`memguard` itself, then its modules. Names that begin with `_` are not for programs.
"""
NOT_FOR_PROGRAMS = ("start",)


def python(from_: str) -> Iterator[str]:
    package = griffe.load(
        "memguard",
        search_paths=[str(ROOT / "python")],
        allow_inspection=False,
        resolve_aliases=True,
    )
    sections = "".join(python_sections(package))
    yield PYTHON_PAGE.format(from_=from_) + contents(sections) + sections


def python_sections(package: Any) -> Iterator[str]:
    yield "\n## memguard\n"
    yield from prose(text_of(package))
    told: set[str] = set()
    for name in sorted(map(str, package.exports or []), key=str.lower):
        yield from thing(name, target(package[name]), told)
    for module in modules(package):
        names = [
            name
            for name, member in module.members.items()
            if is_public(name)
            and is_of(module, member)
            and target(member).path not in told
        ]
        if names:
            yield f"\n## {module.path}\n"
            yield from prose(text_of(module))
            for name in sorted(names, key=str.lower):
                yield from thing(name, target(module.members[name]), told)


def modules(package: Any) -> Iterator[Any]:
    for name, module in sorted(package.modules.items()):
        if is_public(name) and name not in NOT_FOR_PROGRAMS and not module.is_alias:
            yield module
            yield from modules(module)


def is_public(name: str) -> bool:
    return not name.startswith(("_", "pytest_"))  # the latter: for pytest alone


def is_of(module: Any, member: Any) -> bool:
    """What the module makes, or passes on from a file that is not public."""
    if member.is_alias:
        exported = [str(name) for name in module.exports or []]
        return member.name in exported
    return bool(member.is_class or member.is_function) or bool(member.docstring)


def target(member: Any) -> Any:
    return member.final_target if member.is_alias else member


def text_of(thing: Any) -> str:
    return thing.docstring.value if thing.docstring else ""


def thing(name: str, found: Any, told: set[str]) -> Iterator[str]:
    told.add(found.path)
    if found.is_module:
        return
    yield f"\n### {name}\n"
    if found.is_class:
        yield from of_class(name, found)
    elif found.is_function:
        yield from signatures(name, found)
        yield from prose(text_of(found))
    else:
        yield f"\n```pyi\n{attribute(name, found)}\n```\n"
        yield from prose(text_of(found))


def of_class(name: str, found: Any) -> Iterator[str]:
    bases = [
        base
        for base in map(str, found.bases)
        if is_public(base.rpartition(".")[2]) and not base.startswith("_")
    ]
    after = f"({', '.join(bases)})" if bases else ""
    yield f"\n```pyi\nclass {name}{after}\n```\n"
    yield from prose(text_of(found))
    slots = slot_texts(found)
    for member_name, member in members_of(found):
        yield from member_of(name, member_name, member)
        yield from prose(slots.get(member_name, ""))


def slot_texts(found: Any) -> dict[str, str]:
    """What a class tells of its attributes in a mapping as __slots__."""
    slots = found.members.get("__slots__")
    value = str(slots.value) if slots and slots.value else ""
    return ast.literal_eval(value) if value.startswith("{") else {}


def members_of(found: Any) -> Iterator[tuple[str, Any]]:
    """Its own and those of bases that are not public: they are nowhere else."""
    seen = {"__init__"} if "__init__" not in found.members else set()
    if seen:
        made = [base for base in hidden_bases(found) if "__init__" in base.members]
        if made:
            yield "__init__", target(made[0].members["__init__"])
    for owner in (found, *hidden_bases(found)):
        for name, member in owner.members.items():
            if name in seen or not (is_public(name) or name == "__init__"):
                continue
            seen.add(name)
            yield name, target(member)


def hidden_bases(found: Any) -> list[Any]:
    return [
        base
        for base in found.mro()
        if ".".join(base.path.split(".")[1:]).startswith("_")
        or base.name.startswith("_")
    ]


def member_of(owner: str, name: str, member: Any) -> Iterator[str]:
    if member.is_class:
        return
    if member.is_function:
        if name == "__init__":
            yield f"\n**{owner}()**\n"
            yield from signatures(owner, member)
        else:
            yield f"\n**{owner}.{name}()**\n"
            yield from signatures(name, member)
    else:
        yield f"\n**{owner}.{name}**\n"
        yield f"\n```pyi\n{attribute(name, member)}\n```\n"
    yield from prose(text_of(member))


def attribute(name: str, found: Any) -> str:
    """Its type; what has none is of the type of the argument that it is set from, or
    shows the constant that it is."""
    annotation = found.annotation
    made = found.parent.members.get("__init__") if found.parent.is_class else None
    if not annotation and made and str(found.value) in made.parameters:
        annotation = made.parameters[str(found.value)].annotation
    if annotation:
        return f"{name}: {annotation}"
    is_constant = re.fullmatch(r"""-?[\d.]+|'[^']*'|"[^"]*\"""", str(found.value))
    return f"{name} = {found.value}" if is_constant else name


def signatures(name: str, function: Any) -> Iterator[str]:
    overloads = (function.parent.overloads or {}).get(function.name) or [function]
    lines = []
    for one in overloads:
        line = one.signature(name=name, return_type=function.name != "__init__")
        for first in ("self", "cls"):
            line = re.sub(rf"\({first}(?:, /(?=[,)]))?(?:, )?", "(", line, count=1)
        word = "async def " if "async" in one.labels else "def "
        lines.append(line if function.name == "__init__" else word + line)
    yield "\n```pyi\n" + "\n".join(map(wrapped, lines)) + "\n```\n"


def wrapped(line: str) -> str:
    """A long signature with a parameter on each line."""
    if len(line) <= 96:
        return line
    depth, parts, at = 0, [], 0
    begin = line.index("(") + 1
    for index in range(begin, len(line)):
        depth += (line[index] in "([{") - (line[index] in ")]}")
        if depth < 0:
            parts.append(line[begin + at : index].strip())
            inside = "".join(f"    {part},\n" for part in parts if part)
            return f"{line[:begin]}\n{inside}{line[index:]}"
        if line[index] == "," and depth == 0:
            parts.append(line[begin + at : index].strip())
            at = index + 1 - begin
    return line


# --- Node -------------------------------------------------------------------------

NODE_PAGE = """# Node reference

{from_}

What [node/README.md](../node/README.md) tells by task, here by name: what
`require('memguard')` gives, and the other entry points, as they are declared. The text
of a member stands above it.
"""


def node(from_: str) -> Iterator[str]:
    script = Path(__file__).with_name("reference_node.js")
    done = subprocess.run(
        ["node", str(script)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    sections = "".join(node_sections(json.loads(done.stdout)))
    yield NODE_PAGE.format(from_=from_) + contents(sections) + sections


def node_sections(declarations: list[list[str]]) -> Iterator[str]:
    entry_before = name_before = ""
    for entry, name, comment, declared in declarations:
        if entry != entry_before:
            yield f"\n## {entry}\n"
        # Overloads, and a type and a value of one name, share a title.
        if (entry, name) != (entry_before, name_before):
            yield f"\n### {name}\n"
        entry_before, name_before = entry, name
        yield from prose(plain(f"/*{comment}*/").strip())
        yield f"\n```ts\n{declared}\n```\n"
