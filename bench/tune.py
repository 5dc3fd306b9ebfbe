"""tune.* tune_hand.*: a tuned collector beside the default one and the best recipe.

The workloads are in workloads/tune_*; each serves as many jobs as it can, after a
warm-up that is the same for all: with the runtime's defaults, with memguard, and
tuned by hand as is usually advised.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

from group import ended_cleanly
from measure import TUNE_WORKLOADS, fewer, row, told_by

WARM_UP_S = 6
SECONDS = fewer(24, least=8)  # as many windows of a second
LIMIT_S = 120

PEERS = {
    "default": ("tune", "defaults"),
    "hand": ("tune_hand", "freeze, threshold 50 000"),
}
NODE_PEERS = PEERS | {"hand": ("tune_hand", "semi-space 64 MB")}
UNITS = {"pause_p95": "ms", "gc_cpu": "%", "peak_rss": "MB", "throughput": "/s"}

HAND_NODE_OPTIONS = "--max-semi-space-size=64"
ADVICE = "process.stdout.write(require('./node').adviseNodeOptions().nodeOptions)"


def run(command: list[str], node_options: str | None) -> str:
    # What the caller's shell sets would tune all variants.
    foreign = ("NODE_OPTIONS", "PYTHONGC", "PYTHONMALLOC")
    env = {k: v for k, v in os.environ.items() if k not in foreign}
    if node_options:
        env["NODE_OPTIONS"] = node_options
    return told_by(command, LIMIT_S, env)


def node_options_of(variant: str) -> str | None:
    if variant == "hand":
        return HAND_NODE_OPTIONS
    return run(["node", "-e", ADVICE], None) if variant == "memguard" else None


def figures_of(workload: str, variant: str) -> dict[str, float]:
    command = TUNE_WORKLOADS[workload]
    options = node_options_of(variant) if command[0] == "node" else None
    args = [variant, str(WARM_UP_S), str(SECONDS)]
    figures: dict[str, float] = json.loads(run([*command, *args], options))
    print(
        f"  {workload} {variant}: {figures['collections']:.0f} collections,"
        f" {figures['total']:.0f} ms in all, P95 {figures['plain_p95']:.3g} ms,"
        f" longest {figures['max']:.4g} ms,"
        f" longest turn {figures['longest_job']:.4g} ms"
        + (f", NODE_OPTIONS={options}" if options else ""),
        flush=True,
    )
    return figures


def rows() -> Iterator[dict[str, Any]]:
    with ended_cleanly():
        for workload, command in TUNE_WORKLOADS.items():
            variants = ("default", "memguard", "hand")
            seen = {variant: figures_of(workload, variant) for variant in variants}
            peers = NODE_PEERS if command[0] == "node" else PEERS
            for peer, (prefix, peer_name) in peers.items():
                for figure, unit in UNITS.items():
                    yield row(
                        f"{prefix}.{workload}.{figure}",
                        unit,
                        seen["memguard"][figure],
                        seen[peer][figure],
                        peer_name,
                    )
