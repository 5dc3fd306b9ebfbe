"""Makes the C header that holds the web page.

usage: embed.py OUTPUT [FOLDER_OF_UPLOT]

The page is every file of this folder that has a type below, and of uPlot (npm) its
script, its style sheet and the text of its licence, which also comes to stand beside
OUTPUT, for packages. Exits with 3, and writes nothing, if uPlot is not there.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).resolve().parent
UPLOT = PAGE.parents[1] / "node_modules" / "uplot"
NO_UPLOT = 3
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
LICENCE = "uplot-licence.txt"
LINE_BYTES = 20
HEAD = """/* web_assets.h - made by core/web/embed.py of core/web/ and uPlot.
 *
 * uPlot: its licence is the file uplot-licence.txt below. */
"""


def sources(uplot: Path) -> dict[str, Path]:
    """The files by the name they are served under."""
    return {
        "index.html": PAGE / "index.html",
        **{file.name: file for file in sorted(PAGE.iterdir()) if file.suffix in TYPES},
        "uplot.js": uplot / "dist" / "uPlot.iife.min.js",
        "uplot.css": uplot / "dist" / "uPlot.min.css",
        LICENCE: uplot / "LICENSE",
    }


def lines(files: dict[str, Path]) -> Iterator[str]:
    rows = []
    for number, (served, file) in enumerate(files.items()):
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()[:16]
        name = f"web_asset_{number}"
        yield f"static const unsigned char {name}[{len(content)}] = {{ /* {served} */\n"
        for at in range(0, len(content), LINE_BYTES):
            yield ",".join(map(str, content[at : at + LINE_BYTES])) + ",\n"
        yield "};\n"
        texts = f'"{served}", "{TYPES[Path(served).suffix]}", "\\"{etag}\\""'
        rows.append(f"  {{{texts}, (const char *){name}, sizeof {name}}},\n")
    yield f"#define WEB_ASSETS {len(rows)}u\n"
    yield "static const mg_web_file web_assets[WEB_ASSETS] = {\n"
    yield from rows
    yield "};\n"


def embed(output: Path, uplot: Path = UPLOT) -> bool:
    """Writes the header if it would change. Returns whether there is one."""
    files = sources(uplot)
    if not all(file.is_file() for file in files.values()):
        return False
    newest = max(file.stat().st_mtime for file in files.values())
    text = HEAD + "".join(lines(files))
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(files[LICENCE], output.with_name("LICENSE.uplot"))
    if output.exists() and output.read_text(encoding="utf-8") == text:
        if output.stat().st_mtime < newest:
            output.touch()  # nothing to compile anew, but builders look at the time
        return True
    # Two builds may want it at the same time: it appears whole.
    draft = output.with_name(f"{output.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(output)
    return True


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    sys.exit(0 if embed(*map(Path, sys.argv[1:])) else NO_UPLOT)
