"""What the pages say is so: blocks run, links lead somewhere, nothing is outdated."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import PAGES, ROOT, Block, blocks, of_language

TOOL = ROOT / "build" / "bin" / "memguard"
NODE = ["node", "--no-concurrent-recompilation", "--no-concurrent-sparkplug"]
LANGUAGES = {"python", "js", "sh", "yaml", "json", "c", "ts", "toml", "text", ""}
LANGUAGES |= {"cpp", "pyi"}  # declarations, in the references


def name_of(value: object) -> str | None:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else ""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader has it: the tool and Python on PATH."""
    first = (str(TOOL.parent), str(Path(sys.executable).parent))
    monkeypatch.setenv("PATH", os.pathsep.join((*first, os.environ["PATH"])))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def run(words: list[str], folder: Path, text: str = "") -> None:
    words = ["timeout", "--kill-after=5", "100", *words]  # with all that they start
    done = subprocess.run(
        words, cwd=folder, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize(("page", "wanted"), of_language("python"), ids=name_of)
def test_python(page: Path, wanted: list[Block], tmp_path: Path) -> None:
    script = Path(__file__).with_name("run_python.py")
    run([sys.executable, str(script), str(page)], tmp_path)


@pytest.mark.parametrize(("page", "wanted"), of_language("js"), ids=name_of)
def test_js(page: Path, wanted: list[Block], tmp_path: Path) -> None:
    script = Path(__file__).with_name("run_node.js")
    text = json.dumps([block._asdict() for block in wanted])
    run([*NODE, str(script), str(page)], tmp_path, text)


@pytest.mark.parametrize(("page", "wanted"), of_language("sh"), ids=name_of)
def test_sh(page: Path, wanted: list[Block], tmp_path: Path) -> None:
    """One shell for the page; `./dev COMMAND` is only looked up, it may be what runs
    this."""
    known = subprocess.run(
        [ROOT / "dev", "help"], capture_output=True, text=True, check=True
    ).stdout
    for block in wanted:
        for command in re.findall(r"^\./dev (\w+)", block.text, re.MULTILINE):
            assert f"  {command}" in known, command
    lines = "".join(block.given + block.text for block in wanted)
    script = re.sub(r"^\./dev .*$", ":", lines, flags=re.MULTILINE)
    run(["bash", "-eu", "-c", 'python3() { python "$@"; }\n' + script], tmp_path)


@pytest.mark.parametrize(("page", "wanted"), of_language("yaml", "json"), ids=name_of)
def test_settings(page: Path, wanted: list[Block], tmp_path: Path) -> None:
    for block in wanted:
        file = tmp_path / f"settings.{block.language}"
        file.write_text(block.text)
        run([str(TOOL), "check-config", str(file)], tmp_path)


@pytest.mark.parametrize(("page", "wanted"), of_language("c"), ids=name_of)
def test_c(page: Path, wanted: list[Block], tmp_path: Path) -> None:
    source, program = tmp_path / "sample.c", tmp_path / "sample"
    library = ROOT / "build" / "libmemguard.a"
    for block in wanted:
        source.write_text(block.given + block.text)
        flags = ["-std=c11", "-Wall", "-Werror", f"-I{ROOT / 'include'}"]
        words = ["cc", *flags, str(source), str(library), "-lm", "-lpthread", "-ldl"]
        run([*words, "-o", str(program)], tmp_path)
        run([str(program)], tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_language(page: Path) -> None:
    unknown = [b for b in blocks(page) if b.language not in LANGUAGES]
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", content):
        if re.match(r"https?:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target) if target else page
        assert file.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            slugs = [
                re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles
            ]
            assert anchor in slugs, link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_tests_exist(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    for file, name in re.findall(r"`(tests/[\w/.-]+)(?:: (\w+))?`", content):
        assert (ROOT / file).exists(), file
        if name:
            assert f"{name}(" in (ROOT / file).read_text(encoding="utf-8"), name


def test_references_are_current() -> None:
    """`python docs/generate.py` writes them anew."""
    script = ROOT / "docs" / "generate.py"
    run([sys.executable, str(script), "--check"], ROOT)


def test_the_chinese_page_is_the_english_one() -> None:
    """Titles apart, and what a block says to people: comments, texts it prints."""

    said = re.compile(r"(#|//) .*| '(rows written|[^'\n]*[^\x00-\x7f]+)'")

    def bare(page: str) -> list[tuple[str, str]]:
        return [
            (block.language, re.sub(r" +\n", "\n", said.sub("", block.text)))
            for block in blocks(ROOT / page)
        ]

    english, chinese = bare("README.md"), bare("README.zh.md")
    assert len(english) == 7
    assert english == chinese
    links = [
        re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text(encoding="utf-8"))[1:]
        for page in ("README.md", "README.zh.md")
    ]
    assert sorted(links[0]) == sorted(links[1])


def test_every_header_has_its_place() -> None:
    page = (ROOT / "core" / "README.md").read_text(encoding="utf-8")
    for header in (ROOT / "include" / "memguard").glob("*.h"):
        assert f"(../include/memguard/{header.name})" in page, header.name


def test_every_benchmark_is_told_of() -> None:
    page = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    for file in (ROOT / "bench").glob("*.py"):
        if "\ndef rows()" in file.read_text(encoding="utf-8"):
            assert re.search(rf"`{file.stem}[.`]", page), file.stem
