"""segment.*: what publishing costs the host, and reading whoever looks.

See segment.c for what is measured. The project's goals are 1000 ns to publish,
5000 ns to read one process, 20 ms for 200 of them.
"""

from collections.abc import Iterator
from typing import Any

from measure import ROOT, output_of, row


def rows() -> Iterator[dict[str, Any]]:
    for line in output_of([f"{ROOT}/build/bench_segment"]).splitlines():
        name, ours, peer, peer_name = line.split()
        yield row(name, "ns", float(ours), float(peer), peer_name.replace("_", " "))
