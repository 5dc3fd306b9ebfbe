"""Compares captures with what the pipeline made of them, as tshark reads both."""

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

# Per packet: when, how long, and the headers that tell who talked to whom.
_FIELDS = (
    "frame.time_epoch", "frame.len", "frame.cap_len", "ip.src", "ip.dst", "ipv6.src",
    "ipv6.dst", "tcp.srcport", "tcp.dstport", "tcp.seq_raw", "udp.srcport",
    "udp.dstport",
)  # fmt: skip
# Eight times as fast as putting streams together and taking payloads apart.
_HEADERS_ONLY = (
    "--disable-protocol", "http", "--disable-protocol", "dns",
    "-o", "tcp.desegment_tcp_streams:FALSE",
)  # fmt: skip


class VerificationError(Exception):
    """The output is not what it has to be."""


def is_available() -> bool:
    return shutil.which("tshark") is not None


def verify(inputs: list[Path], output: Path, stop: Callable[[], bool]) -> int | None:
    """Checks that tshark reads the same packets in the output as in the inputs.

    Returns how many; None if stop() came first. Raises VerificationError.
    """
    count = 0
    expected = itertools.chain.from_iterable(_packets(path) for path in inputs)
    for before, after in itertools.zip_longest(expected, _packets(output)):
        if stop():
            return None
        count += 1
        if before != after:
            raise VerificationError(
                f"tshark: packet {count}: {before!r} became {after!r}"
            )
    return count


def _to_the_microsecond(line: str) -> str:
    """The pipeline keeps microseconds; a newer dumpcap captures nanoseconds."""
    time, tab, headers = line.partition("\t")
    seconds, point, fraction = time.partition(".")
    return f"{seconds}{point}{fraction[:6]}{tab}{headers}"


def _packets(path: Path) -> Iterator[str]:
    command = ["tshark", "-n", "-Q", "-r", str(path), *_HEADERS_ONLY, "-T", "fields"]
    for field in _FIELDS:
        command += ["-e", field]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors="replace", process_group=0,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield from map(_to_the_microsecond, process.stdout)
        _, said = process.communicate()
        if process.returncode:
            reason = said.strip().rpartition("\n")[2]
            raise VerificationError(f"tshark cannot read {path.name}: {reason}")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
