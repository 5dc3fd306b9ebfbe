"""How `memguard run` starts memguard in an interpreter.

The folder of this package is put in front of PYTHONPATH. The interpreter then runs
its sitecustomize.py, which calls begin() and goes on with the program's own.
"""

from __future__ import annotations

import os

from memguard.manager import ResourceManager

_VERDICT_DIR = os.environ.get("MEMGUARD_VERDICT_DIR", "")
_manager: ResourceManager | None = None


def begin() -> ResourceManager:
    """The manager of this program; made by the first call, with the settings of
    the environment. It watches until the interpreter ends."""
    global _manager
    if _manager is None:
        _manager = ResourceManager()
        if _VERDICT_DIR:
            from memguard.start.verdict import Verdict

            Verdict(_manager, _VERDICT_DIR)
    return _manager
