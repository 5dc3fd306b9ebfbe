"""The fenced blocks of a page, with what a reader has before them.

A comment that names the language of the block after it holds what the text takes for
given: names of the program, files, services. It is not shown.

    <!-- python
    sessions = {}
    -->

A comment `<!-- not run: why -->` before a block says why it cannot be.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "*/README.md")
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md"
)
_PART = re.compile(
    r"^<!-- not run: (?P<why>[^\n]+) -->$"
    r"|^<!-- (?P<before>[a-z]+)\n(?P<given>.*?)^-->$"
    r"|^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    language: str
    line: int
    given: str  # what comes before it, unseen
    text: str
    why_not: str  # why it is not run; empty: it is


def blocks(page: Path) -> Iterator[Block]:
    content = page.read_text(encoding="utf-8")
    given: dict[str, str] = {}
    why_not = ""
    for part in _PART.finditer(content):
        if part["why"]:
            why_not = part["why"]
        elif part["before"]:
            given[part["before"]] = given.get(part["before"], "") + part["given"]
        else:
            language = part["language"]
            line = content.count("\n", 0, part.start()) + 1
            yield Block(language, line, given.pop(language, ""), part["text"], why_not)
            why_not = ""


def of_language(*languages: str) -> list[tuple[Path, list[Block]]]:
    """Pages that have blocks of it to run."""
    found = []
    for page in PAGES:
        wanted = [
            block
            for block in blocks(page)
            if block.language in languages and not block.why_not
        ]
        if wanted:
            found.append((page, wanted))
    return found
