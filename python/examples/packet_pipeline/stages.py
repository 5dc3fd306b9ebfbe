"""The pipeline's stages: read -> check (if asked for) -> mask -> write.

A stage works on records one at a time and collects the results in a managed buffer
whose sink is the next stage. How many records that buffer holds is memguard's to
say: `should_flush_buffer` is asked after each record, and when memory is nearly full
the manager empties the buffer into the sink by itself.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pcapy
from memguard import StageBase

from . import packets
from .packets import Record

WRITE_BYTES = 1 << 18  # Python's file buffer: what one system call writes
BATCH_RECORDS = 50  # between stages
WRITE_RECORDS = 20_000  # held back to be written at once, while memory allows
GROWTH = 0.04  # after giving back in vain: pressure to grow by before the next time

Sink = Callable[[list[Record]], None]


class CaptureError(Exception):
    """A capture file that cannot be processed: which, where in it, and why."""

    def __init__(self, path: Path, packet: int, reason: str) -> None:
        at = f"after packet {packet}: " if packet else ""
        super().__init__(f"{path}: {at}{reason}")
        self.path = path
        self.packet = packet
        self.reason = reason


class Stopped(Exception):  # noqa: N818 - no error, a wish
    """The host asked the pipeline to stop before its input had ended."""


class PipelineStage(StageBase):
    """What the stages share: a managed buffer in front of a sink."""

    def __init__(self, name: str, config: dict[str, Any], sink: Sink) -> None:
        super().__init__(config)
        self.name = name
        self.flushes = 0
        self.pressure_flushes = 0
        self.failure: Exception | None = None
        self._next = sink
        self._monitor = self.resource_manager.memory_monitor
        self._threshold = self._monitor.pressure_threshold
        self._buffer = self.resource_manager.create_buffer(name, sink=self._sink)

    def work(self, record: Record) -> Record:
        return record

    def accept(self, records: Iterable[Record]) -> None:
        append, name, work = self._buffer.append, self.name, self.work
        should_flush = self.resource_manager.should_flush_buffer
        for record in records:
            append(work(record))
            if should_flush(name):
                self.flush()

    def flush(self) -> None:
        """Empties the buffer. Raises what went wrong in any flush so far: one that
        memguard makes by itself has nobody to raise to."""
        self.resource_manager.flush_buffer(self.name)
        if self.failure is not None:
            raise self.failure

    def _sink(self, records: list[Record]) -> None:
        self.flushes += 1
        if self._monitor.latest.pressure >= self._threshold:
            self.pressure_flushes += 1
        try:
            self._next(records)
        except Exception as error:
            self.failure = self.failure or error
            raise

    def _cleanup_stage_specific(self) -> None:
        # finish() has emptied it. Without finish() the output is given up, and what
        # is left must not be written to it.
        self._buffer.clear()


class ReadStage(PipelineStage):
    """Reads capture files, one packet in memory at a time."""

    def __init__(
        self, config: dict[str, Any], sink: Sink, stop: Callable[[], bool]
    ) -> None:
        super().__init__("read", config, sink)
        self.packets = 0
        self.link_type = packets.ETHERNET  # until a file says otherwise
        self._stop = stop

    def run(self, path: Path) -> None:
        """Reads a whole file. Raises CaptureError or Stopped."""
        reader = self._open(path)
        with self.resource_manager.managed_resource(reader, lambda it: it.close()):
            self.accept(self._records(path, reader))
        self.flush()

    def _open(self, path: Path) -> Any:
        try:
            reader = pcapy.open_offline(str(path))
        except pcapy.PcapError as error:
            raise CaptureError(path, 0, str(error)) from None
        try:
            self._check_link(path, reader.datalink())
        except CaptureError:
            reader.close()
            raise
        return reader

    def _check_link(self, path: Path, link_type: int) -> None:
        if link_type not in packets.LINK_TYPES:
            known = ", ".join(f"{t} ({n})" for n, t in packets.LINK_TYPES.items())
            reason = f"link type {link_type} is not one of: {known}"
            raise CaptureError(path, 0, reason)
        if self.packets and link_type != self.link_type:
            reason = f"link type {link_type} in a run that began with {self.link_type}"
            raise CaptureError(path, 0, reason)
        self.link_type = link_type

    def _records(self, path: Path, reader: Any) -> Iterator[Record]:
        count = 0
        while not self._stop():
            try:
                header, data = reader.next()
            except pcapy.PcapError as error:
                raise CaptureError(path, count, str(error)) from None
            if header is None:
                return
            count += 1
            self.packets += 1
            seconds, microseconds = header.getts()
            yield Record(seconds, microseconds, header.getlen(), data)
        raise Stopped


class CheckStage(PipelineStage):
    """Counts the packets whose checksum is right, wrong, or cannot be told. It must
    come before the masking, which makes wrong ones right."""

    def __init__(
        self, config: dict[str, Any], sink: Sink, link_type: Callable[[], int]
    ) -> None:
        super().__init__("check", config, sink)
        self.counts = {"right": 0, "wrong": 0, "unknown": 0}
        self._link_type = link_type

    def work(self, record: Record) -> Record:
        sound = packets.is_sound(record.data, self._link_type())
        kind = "unknown" if sound is None else "right" if sound else "wrong"
        self.counts[kind] += 1
        return record


class MaskStage(PipelineStage):
    """Masks payloads. `fits`: so that checksums are right."""

    def __init__(
        self,
        config: dict[str, Any],
        sink: Sink,
        link_type: Callable[[], int],
        fits: bool = True,
    ) -> None:
        super().__init__("mask", config, sink)
        self._link_type = link_type
        self._link = packets.ETHERNET
        self._fits = fits

    def accept(self, records: Iterable[Record]) -> None:
        self._link = self._link_type()  # one file's in a batch
        super().accept(records)

    def work(self, record: Record) -> Record:
        data = packets.mask(record.data, self._link, fits=self._fits)
        return record._replace(data=data)


class WriteStage(PipelineStage):
    """Writes a pcap file, under a temporary name until it is complete."""

    def __init__(
        self, config: dict[str, Any], output: Path, link_type: Callable[[], int]
    ) -> None:
        super().__init__("write", config, self._write)
        self.packets = 0
        self.output = output
        self.temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
        self._link_type = link_type
        self._file: BinaryIO | None = None
        self._give_back_above = 0.0
        monitor = self.resource_manager.memory_monitor
        monitor.register_pressure_callback(self._relieve)

    def give_back(self) -> None:
        """Returns memory that is free, but still held, to the system."""
        self.resource_manager.memory_monitor.optimize_memory("aggressive")

    def finish(self) -> None:
        """Completes the file and gives it its name."""
        self.flush()
        self._open().close()
        self.temporary.replace(self.output)
        self._file = None

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._file = self.temporary.open("xb", buffering=WRITE_BYTES)
            self.resource_manager.register_temp_file(str(self.temporary))
            packets.write_file_header(self._file, self._link_type())
        return self._file

    def _relieve(self, pressure: float) -> None:
        if pressure <= self._give_back_above:
            return
        self.flush()
        self.give_back()
        left = self.resource_manager.get_memory_pressure()
        is_relieved = left < self.resource_manager.memory_monitor.pressure_threshold
        self._give_back_above = 0.0 if is_relieved else left + GROWTH

    def _write(self, records: list[Record]) -> None:
        packets.write_records(self._open(), records)
        self.packets += len(records)

    def _cleanup_stage_specific(self) -> None:
        super()._cleanup_stage_specific()
        if self._file is not None:
            with contextlib.suppress(OSError):  # such as a full disk, told before
                self._file.close()


class Pipeline:
    """The stages in a row, from capture files to one masked file.

    `fits_checksums`: they are made right for the masked payload; else they stay.
    `checks`: with a stage that counts those that were wrong before.

    A context manager: leaving it without finish() leaves no file behind.
    """

    def __init__(
        self,
        output: Path,
        max_memory_mb: float,
        stop: Callable[[], bool] = lambda: False,
        *,
        fits_checksums: bool = True,
        checks: bool = False,
    ) -> None:
        with contextlib.ExitStack() as undo:
            small = _config(max_memory_mb, BATCH_RECORDS, "500ms")
            large = _config(max_memory_mb, WRITE_RECORDS, "100ms")
            self.write = WriteStage(large, output, self._link_type)
            undo.callback(self.write.close)
            self.mask = MaskStage(
                small, self.write.accept, self._link_type, fits_checksums
            )
            undo.callback(self.mask.close)
            sink = self.mask.accept
            self.check: CheckStage | None = None
            if checks:
                self.check = CheckStage(small, sink, self._link_type)
                undo.callback(self.check.close)
                sink = self.check.accept
            self.read = ReadStage(small, sink, stop)
            undo.callback(self.read.close)
            self._undo = undo.pop_all()
        self.leaks = self.write.resource_manager.leak_detector

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def stages(self) -> tuple[PipelineStage, ...]:
        between = () if self.check is None else (self.check,)
        return self.read, *between, self.mask, self.write

    def run(self, path: Path) -> None:
        """Sends a capture file through. Raises CaptureError, Stopped, OSError."""
        self.read.run(path)
        for stage in self.stages:
            stage.flush()

    def finish(self) -> None:
        """Completes the output."""
        self.write.finish()

    def _link_type(self) -> int:
        return self.read.link_type


def _config(max_memory_mb: float, batch: int, sample_interval: str) -> dict[str, Any]:
    """Batches of `batch` records, which memguard makes shorter when memory gets tight.
    Longer ones would fall out of the CPU's cache between two stages."""
    return {
        "resource_manager": {
            "memory": {
                "sample_interval": sample_interval,
                # Packets go with their last reference: that their bytes grow does
                # not mean that there is garbage.
                "byte_aware_gc": False,
            },
            "memory_monitor": {
                "max_memory_mb": max_memory_mb,
                "monitoring_interval": 20,
            },
            "buffer_manager": {
                "default_buffer_size": batch,
                "min_buffer_size": batch // 4,
                "max_buffer_size": batch,
            },
        }
    }
