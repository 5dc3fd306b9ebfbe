"""Tells `memguard run --leak-check` what leaks in this process."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import time

# Not when a leak is suspected: it would seem to be part of it.
from memguard import _leak_finding, census  # noqa: F401
from memguard._core import ClosedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memguard.manager import ResourceManager

VARIABLE = "MEMGUARD_VERDICT_DIR"
_ALARMS = ("likely", "confirmed", "critical")
_RANK = ("suspect", *_ALARMS)
_EVENTS = (
    "leak:suspected",
    "leak:warning",
    "leak:critical",
    "leak:withdrawn",
    "stats:collected",  # culprits are named without an event
)


class Verdict:
    """Keeps <pid>.json in a folder: the findings of this process so far, each as bad
    as it ever was. Replaced whole whenever one changes; a folder that is gone is no
    failure of the program."""

    def __init__(self, manager: ResourceManager, folder: str) -> None:
        self._manager = manager
        self._folder = folder
        self._begin()
        for name in _EVENTS:
            manager.memory_monitor.on(name, self._look)
        os.register_at_fork(after_in_child=self._begin)
        # By the end of the interpreter the manager has closed its detector.
        atexit.register(self._look)

    def _begin(self) -> None:
        """Anew in a child: what leaked in its parent is the parent's."""
        self._worst: dict[tuple[str, float], dict[str, Any]] = {}
        self._told = ""
        self._write()

    def _look(self, _event: object = None) -> None:
        try:
            findings = self._manager.leak_detector.findings
        except ClosedError:
            return
        rows = [finding.as_dict() for finding in findings]
        seen = {(row["signal"], row["since"]) for row in rows}
        for row in rows:
            self._take(row)
        for key, worst in self._worst.items():
            worst["is_withdrawn"] = key not in seen
        self._write()

    def _take(self, row: dict[str, Any]) -> None:
        key = row["signal"], row["since"]
        known = self._worst.get(key, {})
        alarm = known.get("alarm_unix_s")
        if alarm is None and row["tier"] in _ALARMS:
            alarm = time.time()
        if alarm is not None:
            row["alarm_unix_s"] = alarm
        row["tier"] = max(row["tier"], known.get("tier", "suspect"), key=_RANK.index)
        self._worst[key] = row

    def _write(self) -> None:
        told = {
            "pid": os.getpid(),
            "program": os.path.basename(sys.argv[0]) if hasattr(sys, "argv") else "",
            "findings": list(self._worst.values()),
        }
        text = json.dumps(told, default=str)
        if text == self._told:
            return
        path = os.path.join(self._folder, f"{os.getpid()}.json")
        with contextlib.suppress(OSError):
            with open(path + ".new", "w") as file:
                file.write(text)
            os.replace(path + ".new", path)
            self._told = text
