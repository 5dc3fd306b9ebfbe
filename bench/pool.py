"""pool.*: renting buffers instead of allocating them.

In C through the shared library, beside malloc and mimalloc doing the same work in
the same loop: a pair (take and give), a buffer taken on one thread and given on
another in batches of 1024 (what it costs each of them, and both), taking, touching
each page and giving, one at a time and eight at a time (burst).
"""

from collections.abc import Iterator
from typing import Any

from measure import ROOT, output_of, row


def rows() -> Iterator[dict[str, Any]]:
    for line in output_of([f"{ROOT}/build/bench_pool"]).splitlines():
        name, ours, peer, peer_name = line.split()
        yield row(name, "ns", float(ours), float(peer), peer_name)
