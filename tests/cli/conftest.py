"""What the tests of the memguard tool share."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Another build of it, such as one with sanitizers: in a folder two below the root.
TOOL = Path(os.environ.get("TOOL_UNDER_TEST", ROOT / "build" / "bin" / "memguard"))


class Done:
    """How a call of the tool ended."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    def json(self) -> Any:
        return json.loads(self.out)


Tool = Callable[..., Done]


@pytest.fixture
def environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # On a busy machine any collection may take long: that is not told.
    monkeypatch.setenv("MEMGUARD_LONG_PAUSE", "60s")


@pytest.fixture
def tool(environment: None, tmp_path: Path) -> Tool:
    """Calls the tool and waits for its end."""

    def call(*words: object, seconds: float = 60, **options: Any) -> Done:
        return Done(
            subprocess.run(
                [TOOL, *map(str, words)],
                capture_output=True,
                text=True,
                timeout=seconds,
                cwd=options.pop("cwd", tmp_path),
                check=False,
                stdin=subprocess.DEVNULL,
                **options,
            )
        )

    return call
