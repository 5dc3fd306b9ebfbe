"""Runs the Python blocks of a page, one after the other as one program.

run_python.py PAGE
"""

import ast
import asyncio
import inspect
import sys
from pathlib import Path
from typing import Any

from blocks import blocks


async def main(page: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.language != "python" or block.why_not:
            continue
        for text, line in ((block.given, block.line), (block.text, block.line + 1)):
            code = compile(
                "\n" * (line - 1) + text,
                str(page),
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            result = eval(code, names)
            if inspect.isawaitable(result):
                await result


asyncio.run(main(Path(sys.argv[1])))
