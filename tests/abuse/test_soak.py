"""Half a day of a service in a minute; how a soak judges."""

import subprocess
import sys
from collections.abc import Sequence

import pytest
from soak import LOOKS, Look, finished, soak, verdict


def looks(mb: Sequence[float], fds: int = 20, fds_later: int = 20) -> list[Look]:
    half = len(mb) // 2
    return [
        Look(rss, fds if index < half else fds_later, 4) for index, rss in enumerate(mb)
    ]


def test_verdict() -> None:
    assert verdict("python", looks([50.0] * LOOKS)) == ""
    # What it takes at first, and single peaks, are no growth.
    assert verdict("python", looks([20.0] * 60 + [50.0, 90.0, 50.0] * 60)) == ""
    grown = [50 + index / 8 for index in range(LOOKS)]
    assert verdict("python", looks(grown)) == "rss_mb grew from 61.2 to 76.2"
    more = looks([50.0] * LOOKS, fds_later=22)
    assert verdict("node", more) == "fds grew from 20.0 to 22.0"


@pytest.mark.parametrize(
    ("code", "seen", "wrong"),
    [
        ("print(20, 300, 20)", LOOKS, ""),
        ("print(400, 300, 0)", LOOKS, "only 0 answers"),  # each request failed
        ("print(0, 19, 20)", LOOKS, "only 0 rounds, only 19 samples"),
        ("raise SystemExit(3)", 0, "exit code 3 after 0 looks"),
        ("print(400, 300, 400)", 7, "exit code 0 after 7 looks"),
    ],
)
def test_flat_is_not_enough(code: str, seen: int, wrong: str) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert finished("python", host, looks([50.0] * seen)) == wrong


@pytest.mark.timeout(300)
def test_half_a_day() -> None:
    assert soak(["python", "node"], 60, 720) == {"python": "", "node": ""}
