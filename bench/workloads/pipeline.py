"""Masks capture files with the packet pipeline, or with the same code on plain lists.

    pipeline.py memguard|plain LIMIT_MB OUTPUT INPUT...

Prints one JSON object.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "python" / "examples"
sys.path.insert(0, str(EXAMPLES))

import pcapy  # noqa: E402
from packet_pipeline import packets  # noqa: E402
from packet_pipeline.packets import Record  # noqa: E402
from packet_pipeline.stages import CaptureError, Pipeline  # noqa: E402

BATCH_RECORDS = 50
WRITE_RECORDS = 20_000
WRITE_BYTES = 1 << 18


class PlainStage:
    """A list of records in front of a sink, emptied when it is full."""

    def __init__(
        self,
        work: Callable[[Record], Record],
        size: int,
        sink: Callable[[list[Record]], None],
    ) -> None:
        self._work = work
        self._size = size
        self._sink = sink
        self._buffer: list[Record] = []

    def accept(self, records: Iterable[Record]) -> None:
        append, work, size = self._buffer.append, self._work, self._size
        buffer = self._buffer
        for record in records:
            append(work(record))
            if len(buffer) >= size:
                self.flush()

    def flush(self) -> None:
        self._sink(self._buffer.copy())
        self._buffer.clear()


def plain(output: Path, inputs: list[Path]) -> tuple[int, int]:
    link_type = packets.ETHERNET
    seen = written = 0

    def stop() -> bool:
        return False

    def mask(record: Record) -> Record:
        return record._replace(data=packets.mask(record.data, link_type))

    def read(path: Path) -> Iterable[Record]:
        nonlocal seen, link_type
        reader = pcapy.open_offline(str(path))
        link_type = reader.datalink()
        while not stop():
            try:
                header, data = reader.next()
            except pcapy.PcapError as error:
                raise CaptureError(path, seen, str(error)) from None
            if header is None:
                reader.close()
                return
            seen += 1
            seconds, microseconds = header.getts()
            yield Record(seconds, microseconds, header.getlen(), data)

    def write(records: list[Record]) -> None:
        nonlocal written
        packets.write_records(file, records)
        written += len(records)

    with output.open("xb", buffering=WRITE_BYTES) as file:
        packets.write_file_header(file, link_type)
        stages = [PlainStage(lambda record: record, WRITE_RECORDS, write)]
        stages.insert(0, PlainStage(mask, BATCH_RECORDS, stages[0].accept))
        stages.insert(
            0, PlainStage(lambda record: record, BATCH_RECORDS, stages[0].accept)
        )
        for path in inputs:
            stages[0].accept(read(path))
            for stage in stages:
                stage.flush()
    return seen, written


def with_memguard(limit_mb: float, output: Path, inputs: list[Path]) -> tuple[int, int]:
    with Pipeline(output, limit_mb) as pipeline:
        for path in inputs:
            pipeline.run(path)
        pipeline.finish()
        return pipeline.read.packets, pipeline.write.packets


def main() -> None:
    variant, limit_mb = sys.argv[1], float(sys.argv[2])
    output, *inputs = (Path(word) for word in sys.argv[3:])
    began, began_cpu = time.perf_counter(), time.process_time()
    if variant == "plain":
        seen, written = plain(output, inputs)
    else:
        seen, written = with_memguard(limit_mb, output, inputs)
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
