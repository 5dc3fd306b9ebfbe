"""Builds the segments that rows of metrics.json describe."""

import struct
import zlib
from typing import Any

from memguard import _core
from segments import NOW, check_of

ABSENT = (1 << 64) - 1
NOW_BYTES = 408


def _packed(kind: str, value: Any) -> bytes:
    match kind:
        case "u32":
            return struct.pack("<I", value)
        case "u64":
            return struct.pack("<Q", ABSENT if value is None else value)
        case "f64":
            return struct.pack("<d", value)
        case "text":
            return str(value).encode()
        case "hex":
            return bytes.fromhex(value)
    raise AssertionError(kind)


def segment(row: dict[str, Any]) -> bytes:
    version, size = _core._SEGMENT_LAYOUT
    made = bytearray(size)
    made[:8] = b"MGSEG\r\n\x1a"
    struct.pack_into("<4I", made, 8, 0x01020304, version, 800, size)
    for offset, kind, value, _ in row["set"]:
        data = _packed(kind, value)
        made[offset : offset + len(data)] = data
    for half in (NOW, NOW + NOW_BYTES):
        whole = bytes(made[half : half + NOW_BYTES])
        if whole[:8] != bytes(8):
            struct.pack_into("<Q", made, half + 8, check_of(whole))
    struct.pack_into("<I", made, 796, zlib.crc32(made[:796]))
    return bytes(made)
