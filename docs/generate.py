"""Writes the reference pages from the tables they describe.

    generate.py [--check]

With --check nothing is written; exit code 1 if a page is not what it should be.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
TOOL = DOCS.parent / "build" / "bin" / "memguard"
FROM = "<!-- Made by docs/generate.py; change what it is made from instead. -->"

CONFIGURATION = """# Configuration

{from_}

The same keys everywhere: a mapping or object given to a manager, a YAML, JSON or TOML
file, `MEMGUARD_*` variables, or a named profile. What is given to a manager comes
before the environment, that before a file, that before a profile. Case, `_` and `-`
do not matter in names: `maxMemoryMb` is `max_memory_mb`. A bare name is enough where
only one section has it; `section.name`, nested mappings and the other names work
everywhere.

A wrong key names the nearest right one, a wrong value names what is allowed. A change
at run time (`update_config`, `updateConfig`, `PUT /api/v1/memory/config`) takes
effect whole or not at all. `memguard check-config FILE` says what a file amounts to;
`memguard check-config --keys` prints this table.
"""


def configuration() -> Iterator[str]:
    listing = subprocess.run(
        [TOOL, "check-config", "--keys", "--json"], capture_output=True, check=True
    )
    keys: list[dict[str, Any]] = json.loads(listing.stdout)["keys"]
    yield CONFIGURATION.format(from_=FROM)
    for section in dict.fromkeys(key["section"] for key in keys):
        yield f"\n## {section}\n"
        for key in keys:
            if key["section"] == section:
                yield from setting(key)


def setting(key: dict[str, Any]) -> Iterator[str]:
    unit = "" if key["unit"] in ("", "ms") else f" {key['unit']}"
    yield f"\n**`{key['name']}`** = {key['default']}{unit}\\\n"
    yield f"{key['doc'][0].upper()}{key['doc'][1:]}.\\\n"
    allowed = key["value"]
    if key["default"] not in ("true", "false") and "simple" not in allowed:
        allowed += f"; {key['least']} to {key['most']}{unit}"
    told = [f"Allowed: {allowed}"]
    if key["profiles"]:
        values = (f"{name} {value}{unit}" for name, value in key["profiles"].items())
        told.append(f"Profiles: {', '.join(values)}")
    if key["aliases"]:
        told.append("Also: " + ", ".join(f"`{a}`" for a in key["aliases"].split()))
    yield ". ".join(told) + ".\n"


PAGES = {"configuration.md": configuration}


def main(words: list[str]) -> int:
    stale = []
    for name, write in PAGES.items():
        page, content = DOCS / name, "".join(write())
        if words == ["--check"]:
            if not page.exists() or page.read_text(encoding="utf-8") != content:
                stale.append(name)
        else:
            page.write_text(content, encoding="utf-8")
    if stale:
        print(f"not current: {', '.join(stale)}; run python docs/generate.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
