"""Reads the files that processes publish: their documented layout in Python's own
words, and the library's verdict through ctypes."""

import ctypes
import os
import struct
import subprocess
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "build/libmemguard.so"

BYTES = 139360
NOW, GROUP, GC, TYPES = 864, 1680, 2480, 2992
NOTE, GC_EVENT, SECOND, MINUTE = 6144, 19968, 34304, 87104
RINGS = {  # offset, slots, bytes of one
    "note": (NOTE, 64, 216),
    "gc_event": (GC_EVENT, 256, 56),
    "second": (SECOND, 600, 88),
    "minute": (MINUTE, 360, 88),
}
MASK = (1 << 64) - 1

VERDICTS = ("running", "clean exit", "OOM likely", "killed, not memory")


def check_of(whole: bytes) -> int:
    value = len(whole)
    words = struct.unpack(f"<{len(whole) // 8}Q", whole)
    for number, word in enumerate(words):
        if number != 1:
            value = ((value ^ word) * 0x9E3779B97F4A7C15) & MASK
            value ^= value >> 32
    return value


def is_whole(whole: bytes) -> bool:
    number, check = struct.unpack_from("<QQ", whole)
    return number != 0 and check == check_of(whole)


class Recorder:
    """What one file says."""

    def __init__(self, path: Path) -> None:
        self.bytes = path.read_bytes()
        assert len(self.bytes) == BYTES
        assert self.bytes[:8] == b"MGSEG\r\n\x1a"
        order, version, header, size = struct.unpack_from("<4I", self.bytes, 8)
        assert (order, version, header, size) == (0x01020304, 2, 800, BYTES)
        (crc,) = struct.unpack_from("<I", self.bytes, 796)
        assert crc == zlib.crc32(self.bytes[:796])
        self.pid = struct.unpack_from("<I", self.bytes, 24)[0]
        self.runtime = self.text(104, 16)
        self.program = self.text(152, 64)
        self.state, self.is_folded, self.heartbeat_ms = struct.unpack_from(
            "<IIQ", self.bytes, 800
        )

    def text(self, offset: int, room: int) -> str:
        return self.bytes[offset : offset + room].split(b"\0")[0].decode()

    def halves(self) -> list[bytes]:
        """The samples that are whole, the newer one first."""
        both = [self.bytes[NOW + i * 408 : NOW + (i + 1) * 408] for i in range(2)]
        return sorted(
            filter(is_whole, both), key=lambda half: half[:8][::-1], reverse=True
        )

    def number(self) -> int:
        """Of the latest sample; 0: none."""
        return max((struct.unpack_from("<Q", h)[0] for h in self.halves()), default=0)

    def ring(self, name: str) -> tuple[list[bytes], int]:
        """What is whole, and how many are not."""
        offset, slots, size = RINGS[name]
        whole, torn = [], 0
        for slot in range(slots):
            one = self.bytes[offset + slot * size : offset + (slot + 1) * size]
            if is_whole(one):
                whole.append(one)
            elif any(one):
                torn += 1
        return whole, torn


def files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.count("-") == 3 and not path.suffix
    )


def until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def segment_of(process: subprocess.Popen[str], folder: Path) -> Path:
    """The file of a process, once it has a sample."""
    found: list[Path] = []

    def is_there() -> bool:
        assert process.poll() is None, "the host ended by itself"
        for path in files(folder):
            if f"-{process.pid}-" in path.name and Recorder(path).number() > 0:
                found.append(path)
        return bool(found)

    until(is_there)
    return found[0]


def verdict(path: Path) -> str:
    """As the library has it."""
    library = ctypes.CDLL(str(LIBRARY))
    segment = ctypes.c_void_p()
    facts = ctypes.create_string_buffer(4096)
    report = (ctypes.c_int * 64)()
    opened = library.mg_segment_open(ctypes.byref(segment), os.fsencode(path), None)
    assert opened == 0
    assert library.mg_segment_facts(segment, facts, None) == 0
    library.mg_postmortem(facts, report)
    library.mg_segment_close(segment)
    return VERDICTS[report[0]]


def ask(path: Path, command: int, arguments: str = "") -> tuple[int, str]:
    """Status and answer of a request."""
    library = ctypes.CDLL(str(LIBRARY))
    library.mg_control_ask.argtypes = [
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_double,
        ctypes.c_void_p,
    ]
    answer = ctypes.c_char_p()
    error = ctypes.create_string_buffer(512)
    socket = os.fsencode(path) + b".sock"
    status = library.mg_control_ask(
        ctypes.byref(answer), socket, command, arguments.encode(), 30000.0, error
    )
    if status != 0:
        return status, error.raw[8:].split(b"\0")[0].decode()
    assert answer.value is not None
    return 0, answer.value.decode()
