"""Fuzzes what is written in Python, or is in C behind it, by changing good inputs.

    mutate.py base64|pcap [SECONDS] [SEED]

base64: memguard.encoding against the standard library. pcap: packets as the example's
pipeline masks and checks them. Ends with 1 at the first input that breaks a rule, and
prints it.
"""

import base64
import binascii
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "python" / "examples")]

from memguard import encoding  # noqa: E402
from memguard.pool import MemoryPool  # noqa: E402
from packet_pipeline import packets  # noqa: E402

LONGEST = 20_000
POOL = MemoryPool({"leak_check": "paranoid"})


def mutate(data: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, put in, taken out, or repeated."""
    made = bytearray(data)
    for _ in range(dice.randrange(6)):
        at = dice.randrange(len(made) + 1)
        match dice.randrange(5):
            case 0:
                made[at : at + 1] = dice.randbytes(1)
            case 1:
                made[at:at] = dice.randbytes(dice.randrange(9))
            case 2:
                del made[at : at + dice.randrange(9)]
            case 3:
                made[at : at + 2] = dice.choice([b"\0\0", b"\xff\xff", b"=", b"+/"])
            case _:
                made[at:at] = made[: dice.randrange(1 + len(made))]
    return bytes(made[:LONGEST])


def strictly_decoded(text: bytes) -> bytes | None:
    """By the standard library; None for what is not canonical base64."""
    try:
        plain = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return plain if base64.b64encode(plain) == text else None


def check_base64(data: bytes) -> None:
    with encoding.base64_encode(data, POOL) as coded:
        text = bytes(coded)
    assert text == base64.b64encode(data)
    for given in (data, text, text[:-1], text + b"=", text.replace(b"=", b"A")):
        try:
            with encoding.base64_decode(given, POOL) as decoded:
                found: bytes | None = bytes(decoded)
        except encoding.EncodingError:
            found = None
        assert found == strictly_decoded(given), given


def check_pcap(data: bytes) -> None:
    for link in packets.LINK_TYPES:
        masked = packets.mask(data, link)
        assert len(masked) == len(data)
        if packets.is_sound(data, link):
            assert packets.is_sound(masked, link), link


def base64_seeds() -> list[bytes]:
    return [b"", b"any", b"Man", bytes(range(256)), b"QUJD" * 400, b"\0" * 13_000]


def pcap_seeds() -> list[bytes]:
    rows = (ROOT / "tests/python/data/masked_packets.json").read_text()
    return [bytes.fromhex(row["frame"]) for row in json.loads(rows)]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "base64": (check_base64, base64_seeds),
    "pcap": (check_pcap, pcap_seeds),
}


def main(arguments: list[str]) -> int:
    check, seeds = TARGETS[arguments[0]]
    seconds = float(arguments[1]) if len(arguments) > 1 else 60.0
    seed = int(arguments[2]) if len(arguments) > 2 else time.time_ns()
    dice = random.Random(seed)
    inputs, count = seeds(), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or count < len(inputs):
        data = (
            inputs[count] if count < len(inputs) else mutate(dice.choice(inputs), dice)
        )
        try:
            check(data)
        except Exception:
            print(f"seed {seed}, input {count}: {data.hex()}", file=sys.stderr)
            raise
        count += 1
    assert POOL.stats()["current"] == 0
    print(f"{arguments[0]}: {count} inputs, seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
