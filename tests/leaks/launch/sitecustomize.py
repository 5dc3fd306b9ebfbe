"""Puts the program that starts here under a LeakDetector. It does not notice.

Imported by Python itself, by its name, when this folder is on PYTHONPATH. Lines of
JSON go to the file LEAK_VERDICT: each finding as it changes, and after each full
collection how much is live. LEAK_TIME_SCALE: how much faster time goes by;
LEAK_LIMIT_MB: what the process may use.
"""

import gc
import json
import os
import sys
import threading
import time
from typing import Any

LOOK_S = 1.0
COLLECT_S = 1.0  # collections are as slow as ever, while time goes faster


def gist(findings: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """What of findings is news: not that they grew."""
    return [
        (one["signal"], one["tier"], tuple(c["name"] for c in one["culprits"]))
        for one in findings
    ]


def watch(file_name: str, time_scale: float, limit_mb: float) -> object:
    from memguard.leak import LeakDetector

    verdict = open(file_name, "a", buffering=1)  # noqa: SIM115 - for life
    detector = LeakDetector(
        time_scale=time_scale,
        max_memory_mb=limit_mb,
        leak_collect=COLLECT_S,
        leak_trace=True,
    )
    known: list[tuple[object, ...]] = []

    def tell(fields: dict[str, object]) -> None:
        verdict.write(json.dumps({"at": time.time(), **fields}) + "\n")

    def collected(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            tell({"live": sys.getallocatedblocks()})

    def look(_event: object = None) -> None:
        nonlocal known
        findings = [finding.as_dict() for finding in detector.findings]
        if gist(findings) != known:
            known = gist(findings)
            tell({"findings": findings})

    def look_often() -> None:  # culprits are named without an event
        while True:
            time.sleep(LOOK_S)
            look()

    for name in ("leak:suspected", "leak:warning", "leak:critical", "leak:withdrawn"):
        detector.on(name, look)
    gc.callbacks.append(collected)
    detector.start()
    threading.Thread(target=look_often, daemon=True).start()
    return detector


def begin() -> object:
    """Programs that this one starts are not watched."""
    file_name = os.environ.pop("LEAK_VERDICT", "")
    if not file_name:
        return None
    settings = (
        float(os.environ[f"LEAK_{name}"]) for name in ("TIME_SCALE", "LIMIT_MB")
    )
    return watch(file_name, *settings)


_watching = begin()
