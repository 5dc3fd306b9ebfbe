"""Makes captures of any size, of packets whose headers it knows byte by byte.

    python -m packet_pipeline.generate --output FILE [--megabytes M]

Prints one JSON line: packets, bytes. What the pipeline makes of such a capture can
be checked without the pipeline's own idea of what a header is: see Checker.
"""

import argparse
import json
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pcapy

from . import packets
from .packets import MASK, Record

# Bytes of payload: as in the internet, small ones and full ones, and some jumbos.
_PAYLOADS = (0, 0, 6, 40, 200, 512, 1380, 1460, 1460, 1460, 1460, 1460, 8960)
_FIRST_SECOND = 1_700_000_000


class Made(NamedTuple):
    """A frame, how many bytes of it are headers, where its checksum is (0: there is
    none), and what the checksum covers besides the segment."""

    frame: bytes
    headers: int
    checksum: int
    begin: int
    pseudo: bytes


def _sum(data: bytes) -> int:
    """The Internet checksum, word by word."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _made(
    link: bytes, ip: bytes, segment: bytes, head: int, at: int, pseudo: bytes
) -> Made:
    value = 0xFFFF - _sum(pseudo + segment)
    whole = segment[:at] + struct.pack(">H", value) + segment[at + 2 :]
    begin = len(link) + len(ip)
    return Made(link + ip + whole, begin + head, begin + at, begin, pseudo)


def _ipv4(protocol: int, segment: bytes, number: int) -> tuple[bytes, bytes]:
    addresses = bytes((10, 0, number >> 8, number & 255, 192, 0, 2, 1))
    size = 20 + len(segment)
    head = struct.pack(">BBHHHBBH", 0x45, 0, size, number, 0x4000, 64, protocol, 0)
    value = 0xFFFF - _sum(head + addresses)
    pseudo = addresses + struct.pack(">HH", protocol, len(segment))
    return head[:10] + struct.pack(">H", value) + addresses, pseudo


def _ipv6(protocol: int, segment: bytes, number: int) -> tuple[bytes, bytes]:
    addresses = bytes(14) + struct.pack(">H", number) + bytes(15) + b"\1"
    head = struct.pack(">IHBB", 6 << 28, len(segment), protocol, 64)
    return head + addresses, addresses + struct.pack(">II", len(segment), protocol)


def frames() -> list[Made]:
    """Some hundred different ones, in the order in which they are repeated."""
    made = []
    for number in range(8 * len(_PAYLOADS)):
        size = _PAYLOADS[number % len(_PAYLOADS)]
        body = bytes((number * 7 + n * 13) & 255 for n in range(size))
        ports = struct.pack(">HH", 1024 + number, 443)
        ethernet = bytes(6) + struct.pack(">HI", 2, number)
        kind = number // len(_PAYLOADS)
        if kind < 4:
            flags = struct.pack(">IIBBHHH", number, 1, 8 << 4, 0x18, 65535, 0, 0)
            head = ports + flags + b"\1\1\x08\x0a" + bytes(8)  # a time stamp
            ip, pseudo = _ipv4(packets.TCP, head + body, number)
            link = ethernet + b"\x08\x00"
            made.append(_made(link, ip, head + body, 32, 16, pseudo))
        elif kind < 6:
            head = ports + struct.pack(">HH", 8 + size, 0)
            ip, pseudo = _ipv6(packets.UDP, head + body, number)
            link = ethernet + b"\x86\xdd"
            made.append(_made(link, ip, head + body, 8, 6, pseudo))
        elif kind < 7:
            head = struct.pack(">BBHHH", 8, 0, 0, number, 1)  # echo
            ip, _ = _ipv4(1, head + body, number)
            link = ethernet + b"\x81\x00\0\7\x08\x00"  # VLAN 7
            made.append(_made(link, ip, head + body, 8, 2, b""))
        else:
            arp = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + bytes(20)
            frame = ethernet + b"\x08\x06" + arp
            made.append(Made(frame, len(frame), 0, 0, b""))
    return made


def write(path: Path, megabytes: float) -> int:
    """Writes a capture of that size. @return how many packets it has."""
    cycle = [one.frame for one in frames()]
    count = 0
    with path.open("xb", buffering=1 << 20) as file:
        packets.write_file_header(file, packets.ETHERNET)
        while file.tell() < megabytes * (1 << 20):
            records = []
            for frame in cycle:
                records.append(Record(*_time_of(count), len(frame), frame))
                count += 1
            packets.write_records(file, records)
    return count


def _time_of(number: int) -> tuple[int, int]:
    """When a packet of a file was captured, in s and us."""
    second, rest = divmod(number, 10_000)
    return _FIRST_SECOND + second, rest * 100


class Checker:
    """Compares what the pipeline wrote with what was generated.

    `fits`: whether checksums must be right for the masked payload, else as before.
    """

    def __init__(self, *, fits: bool = True) -> None:
        self._made = frames()
        self._fits = fits
        self._good: list[bytes | None] = [None] * len(self._made)

    def count(self, path: Path, parts: Iterable[int]) -> int:
        """How many packets there are, `parts` packets of each generated file, one
        file after the other. Raises ValueError, which names the first wrong one."""
        expected = (number for part in parts for number in range(part))
        found = 0
        for when, data in _read(path):
            number = next(expected, None)
            if number is None:
                raise ValueError(f"more than the {found} packets that went in")
            at = number % len(self._made)
            if data != self._good[at]:
                reason = self._wrong(self._made[at], data)
                if reason:
                    raise ValueError(f"packet {found}: {reason}")
                self._good[at] = data
            if when != _time_of(number):
                raise ValueError(f"packet {found}: its time is {when}")
            found += 1
        return found

    def _wrong(self, one: Made, data: bytes) -> str:
        expected = one.frame[: one.headers] + bytes((MASK,)) * (
            len(one.frame) - one.headers
        )
        if self._fits and one.checksum:
            at = one.checksum
            expected = expected[:at] + data[at : at + 2] + expected[at + 2 :]
            # All of it, the checksum too, adds up to "minus nothing".
            if _sum(one.pseudo + data[one.begin :]) != 0xFFFF:
                return "its checksum does not fit"
        if data != expected:
            return f"{len(data)} bytes, not as generated and masked"
        return ""


def _read(path: Path) -> Iterator[tuple[tuple[int, int], bytes]]:
    reader = pcapy.open_offline(str(path))
    try:
        while True:
            header, data = reader.next()
            if header is None:
                return
            yield header.getts(), data
    finally:
        reader.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="packet_pipeline.generate")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=1024.0, help="(1024)")
    options = parser.parse_args()
    count = write(options.output, options.megabytes)
    size = options.output.stat().st_size
    print(json.dumps({"packets": count, "bytes": size}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
