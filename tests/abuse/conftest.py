"""What the abuse of hosts shares."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NODE = ["node", "--no-concurrent-recompilation", "--no-concurrent-sparkplug"]
HOSTS = {
    "python": [sys.executable, str(HERE / "host.py")],
    "node": [*NODE, str(HERE / "host.js")],
}
GOOD = {"is_whole": True, "has_samples": True, "threads": 1}


@pytest.fixture(autouse=True)
def _environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PYTHON"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MEMGUARD_LONG_PAUSE", "60s")


@pytest.fixture(params=["python", "node"])
def host(request: pytest.FixtureRequest) -> list[str]:
    return HOSTS[request.param]


def run(words: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    limit = ["timeout", "--kill-after=5", "110"]
    return subprocess.run(
        [*limit, *words], capture_output=True, text=True, check=False, **options
    )


def result(done: "subprocess.CompletedProcess[str]") -> Any:
    """What a host said last."""
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def compiled(source: str, target: Path, *flags: str, links: Sequence[str] = ()) -> str:
    words = ["cc", "-D_GNU_SOURCE", "-Wall", "-Werror", *flags, str(HERE / source)]
    subprocess.run([*words, *links, "-o", str(target)], check=True)
    return str(target)
