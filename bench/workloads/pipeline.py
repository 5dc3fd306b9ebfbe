"""Masks capture files with the packet pipeline, or with the same code on plain lists.

    pipeline.py memguard|plain LIMIT_MB OUTPUT INPUT...

For `plain` the stages' lists are emptied when they are so long, by two lines of
Python, and no monitor runs; all else is the same. Prints one JSON object.
"""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "python" / "examples"
sys.path.insert(0, str(EXAMPLES))

from packet_pipeline import stages  # noqa: E402
from packet_pipeline.packets import Record  # noqa: E402

SIZES = {
    "read": stages.BATCH_RECORDS,
    "mask": stages.BATCH_RECORDS,
    "write": stages.WRITE_RECORDS,
}


def accept(self: stages.PipelineStage, records: Iterable[Record]) -> None:
    buffer, work, size = self._buffer, self.work, SIZES[self.name]
    append = buffer.append
    for record in records:
        append(work(record))
        if len(buffer) >= size:
            self.flush()


def flush(self: stages.PipelineStage) -> None:
    records = self._buffer.copy()
    self._buffer.clear()
    self._next(records)


def without_memguard() -> None:
    """From now on stages have plain lists."""
    config = stages._config

    def idle(*args: Any, **options: Any) -> dict[str, Any]:
        made = config(*args, **options)
        made["resource_manager"]["enabled"] = False
        return made

    stages._config = idle
    stages.PipelineStage.accept = accept
    stages.PipelineStage.flush = flush


def main() -> None:
    variant, limit_mb = sys.argv[1], float(sys.argv[2])
    output, *inputs = (Path(word) for word in sys.argv[3:])
    if variant == "plain":
        without_memguard()
    began, began_cpu = time.perf_counter(), time.process_time()
    with stages.Pipeline(output, limit_mb) as pipeline:
        for path in inputs:
            pipeline.run(path)
        pipeline.finish()
        seen, written = pipeline.read.packets, pipeline.write.packets
    wall_s = time.perf_counter() - began
    cpu_s = time.process_time() - began_cpu
    status = Path("/proc/self/status").read_text()
    found: dict[str, Any] = {
        "in": seen,
        "out": written,
        "throughput": written / wall_s,
        "cpu": cpu_s * 1e6 / written,
        "peak_rss": int(status.partition("VmHWM:")[2].split()[0]) / 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
