"""leaks.idle leaks.wide: what looking for leaks costs while there is none.

`leaks.idle` is what a detector adds to one sample, beside the whole sample that it
is added to. `leaks.wide` is a wide reading with its judgement, which comes every 15
seconds at default settings, beside psutil reading private memory and the
descriptors' kinds: memory_full_info, open_files, net_connections, num_fds.
"""

from collections.abc import Iterator
from typing import Any

from measure import ROOT, output_of, python_ns, row


def rows() -> Iterator[dict[str, Any]]:
    import psutil

    process = psutil.Process()

    def psutil_wide() -> None:
        (
            process.memory_full_info(),
            process.open_files(),
            process.net_connections(),
            process.num_fds(),
        )

    wide_ns = python_ns("measured()", {"measured": psutil_wide}, 200)
    for line in output_of([f"{ROOT}/build/bench_detector"]).splitlines():
        name, ours, peer, _ = line.split()
        if name == "leaks.wide":
            yield row(name, "ns", float(ours), wide_ns, "psutil, the same readings")
        else:
            yield row(name, "ns", float(ours), float(peer), "the sample itself")
