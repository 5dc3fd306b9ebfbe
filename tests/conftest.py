"""What all suites share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing of whoever runs the tests, and a folder of segments, which must be in
    memory, of each test's own: in a shared one a process is told that the run before
    it was killed, by whatever test."""
    for name in list(os.environ):
        if name.startswith(("MEMGUARD_", "NODE_OPTIONS")):
            monkeypatch.delenv(name)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="memguard-test-") as folder:
        monkeypatch.setenv("MEMGUARD_DIR", folder)
        yield Path(folder)
