"""pipeline.*: a gigabyte of packets through the packet pipeline, in two files.

The captures are generated in a folder of their own, which is gone afterwards. The peer
is the same code on plain lists, without a monitor (workloads/pipeline.py). Each side
runs in fresh processes, by turns; what both write is compared, packet by packet, with
what was generated.

throughput  packets a second
cpu         us of CPU time a packet
peak_rss    MB, largest resident set of the process
lost        packets that went in and did not come out as they must
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from group import ended_cleanly
from measure import ROOT, fewer, row, told_by

RUNS = 3
MEGABYTES = float(fewer(1024))
FILES = 2
LIMIT_MB = 64
LIMIT_S = 600
UNITS = {"throughput": "/s", "cpu": "us", "peak_rss": "MB", "lost": ""}


def run(variant: str, output: Path, inputs: list[Path]) -> dict[str, float]:
    command = [sys.executable, "bench/workloads/pipeline.py", variant, str(LIMIT_MB)]
    told = told_by([*command, str(output), *map(str, inputs)], LIMIT_S)
    found: dict[str, float] = json.loads(told)
    return found


def rows() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(ROOT / "python" / "examples"))
    from packet_pipeline import generate

    with (
        ended_cleanly(),
        tempfile.TemporaryDirectory(prefix="memguard-bench-") as name,
    ):
        folder = Path(name)
        inputs = [folder / f"{number}.pcap" for number in range(FILES)]
        parts = [generate.write(path, MEGABYTES / FILES) for path in inputs]
        seen: dict[str, list[dict[str, float]]] = {"memguard": [], "plain": []}
        for _ in range(RUNS):
            for variant, found in seen.items():
                output = folder / "masked.pcap"
                figures = run(variant, output, inputs)
                right = generate.Checker().count(output, parts)
                output.unlink()
                figures["lost"] = sum(parts) - right
                found.append(figures)
    for figure, unit in UNITS.items():
        # A packet that is lost once is lost.
        of_runs = max if figure == "lost" else statistics.median
        ours, peer = (of_runs([run[figure] for run in runs]) for runs in seen.values())
        yield row(f"pipeline.{figure}", unit, ours, peer, "plain lists")
