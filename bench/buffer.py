"""buffer.*: asking whether a buffer should be flushed.

The peer is the plain version of the same rule: it reads the resident set on each
call (psutil in Python, process.memoryUsage.rss in Node).
"""

from collections.abc import Iterator
from typing import Any

from measure import node_rows, python_ns, row

MAX_MEMORY_MB = 100_000  # far away: the buffer's own size decides
SIZE = 100


def plain_should_flush() -> Any:
    import psutil

    process = psutil.Process()
    buffers: dict[str, list[int]] = {"rows": [1, 2, 3]}
    limit = MAX_MEMORY_MB * 1048576

    def should_flush(name: str) -> bool:
        length = len(buffers[name])
        pressure = min(process.memory_info().rss / limit, 1.0)
        if pressure > 0.9:
            return length > 0
        return length >= (SIZE // 2 if pressure >= 0.8 else SIZE)

    return should_flush


def rows() -> Iterator[dict[str, Any]]:
    import memguard

    with memguard.ResourceManager({"max_memory_mb": MAX_MEMORY_MB}) as manager:
        manager.create_buffer("rows").extend([1, 2, 3])
        names = {"ours": manager.should_flush_buffer, "peer": plain_should_flush()}
        ours = python_ns("ours('rows')", names, 1_000_000)
        peer = python_ns("peer('rows')", names, 20_000)
        yield row(
            "buffer.should_flush.python", "ns", ours, peer, "plain Python and psutil"
        )
        manager.flush_buffer("rows")
    yield from node_rows("buffer.js")
