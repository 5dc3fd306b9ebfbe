"""The packet pipeline (python/examples): real captures in, masked captures out."""

import json
import mmap
import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pcapy
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "python" / "examples"
sys.path.insert(0, str(EXAMPLES))

from packet_pipeline import packets  # noqa: E402
from packet_pipeline.stages import CaptureError, Pipeline, Stopped  # noqa: E402

MIB = 1 << 20


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / "packet_pipeline"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False, **options
    )


def tshark(path: Path, *arguments: str) -> list[str]:
    command = ["tshark", "-n", "-r", str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def fields(path: Path, *names: str) -> list[list[str]]:
    arguments = [word for name in names for word in ("-e", name)]
    return [line.split("\t") for line in tshark(path, "-T", "fields", *arguments)]


def read(path: Path) -> list[tuple[tuple[int, int], int, bytes]]:
    reader = pcapy.open_offline(str(path))
    found = []
    while True:
        header, data = reader.next()
        if header is None:
            return found
        found.append((header.getts(), header.getlen(), data))


def pcap(*frames: bytes, link_type: int = 1) -> bytes:
    """A pcap file, little-endian, one packet a second."""
    file = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_type)
    for second, frame in enumerate(frames):
        file += struct.pack("<IIII", second, 0, len(frame), len(frame)) + frame
    return file


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Loopback traffic, captured in the best way that is permitted here."""
    path = tmp_path_factory.mktemp("captured") / "traffic.pcap"
    command = [
        sys.executable, "-m", "packet_pipeline.traffic", "--output", str(path),
        "--seconds", "5", "--megabytes", "3",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=EXAMPLES, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["requests"] > 100
    assert result["queries"] > 1
    return path


# --- Whole runs ---------------------------------------------------------------


def test_tshark_reads_as_many_packets_in_the_output(
    captured: Path, tmp_path: Path
) -> None:
    output = tmp_path / "masked.pcap"
    done = run("--input", captured, "--output", output, "--verify")
    assert done.returncode == 0, done.stderr
    count = len(tshark(captured))
    assert count > 300
    assert len(tshark(output)) == count
    assert f"tshark reads the same {count:,} packets in both" in done.stdout
    assert os.listdir(tmp_path) == ["masked.pcap"]


def test_headers_stay_and_every_payload_byte_is_masked(
    captured: Path, tmp_path: Path
) -> None:
    output = tmp_path / "masked.pcap"
    assert run("--input", captured, "--output", output).returncode == 0
    # Where headers end is tshark's word, not the pipeline's.
    sizes = fields(captured, "ip.hdr_len", "tcp.hdr_len", "udp.length")
    payload_bytes = 0
    for (ip, tcp, udp), before, after in zip(
        sizes, read(captured), read(output), strict=True
    ):
        assert after[:2] == before[:2]
        assert len(after[2]) == len(before[2])
        transport = 14 + int(ip)
        end = transport + (int(tcp) if tcp else 8)
        checksum = transport + (16 if tcp else 6)
        assert bool(tcp) != bool(udp)
        assert after[2][:checksum] == before[2][:checksum]
        assert after[2][checksum + 2 : end] == before[2][checksum + 2 : end]
        assert after[2][end:] == b"x" * (len(before[2]) - end)
        payload_bytes += len(before[2]) - end
    assert payload_bytes > 2_000_000


def test_checksums_fit_the_masked_payload(captured: Path, tmp_path: Path) -> None:
    output = tmp_path / "masked.pcap"
    assert run("--input", captured, "--output", output).returncode == 0
    states = tshark(
        output, "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
        "-T", "fields", "-e", "tcp.checksum.status", "-e", "udp.checksum.status",
    )  # fmt: skip
    good = {"1\t", "\t1", "Good\t", "\tGood"}  # tshark 4.0; later ones spell it out
    assert set(states) <= good


def test_live_traffic_without_permission_to_capture(tmp_path: Path) -> None:
    output = tmp_path / "masked.pcap"
    done = run(
        "--output", output, "--seconds", 1, "--megabytes", 2, "--capture", "sockets",
        "--verify", "--json", env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["event"] == "end"
    assert end["error"] is None
    assert end["in"] > 50
    assert end["done"] == end["in"] == end["verified"] == len(tshark(output))
    assert "no permission to capture" in end["methods"][0]
    assert os.listdir(tmp_path) == ["masked.pcap"]


def test_memory_stays_bounded_whatever_the_size_of_the_file(
    captured: Path, tmp_path: Path
) -> None:
    content = captured.read_bytes()
    large = tmp_path / "large.pcap"
    with large.open("wb") as file:
        file.write(content[:24])
        for _ in range(50):
            file.write(content[24:])
    assert large.stat().st_size > 120 * MIB
    done = run(
        "--input", large, "--output", tmp_path / "masked.pcap", "--json",
        "--max-memory-mb", 48,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["in"] == end["done"] == 50 * len(read(captured))
    assert end["peak_bytes"] < 64 * MIB
    assert end["pressure_flushes"] > 0


# --- Pressure -----------------------------------------------------------------


def rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE


def wait_for_pressure(pipeline: Pipeline, *, is_high: bool) -> None:
    """Until each manager's latest sample is of now."""
    for stage in pipeline.stages:
        while (stage.resource_manager.get_memory_pressure() >= 0.8) != is_high:
            time.sleep(0.01)


def test_nothing_is_lost_while_pressure_comes_and_goes(
    captured: Path, tmp_path: Path
) -> None:
    output = tmp_path / "masked.pcap"
    limit_mb = rss_bytes() / MIB + 100
    flushes = []
    with Pipeline(output, limit_mb) as pipeline:
        for ballast_mb in (0, 120, 0, 120, 0):
            ballast = mmap.mmap(-1, max(1, ballast_mb) * MIB)
            for at in range(0, len(ballast), mmap.PAGESIZE):
                ballast[at] = 1
            wait_for_pressure(pipeline, is_high=ballast_mb > 0)
            pipeline.run(captured)
            ballast.close()
            flushes.append(sum(stage.pressure_flushes for stage in pipeline.stages))
        pipeline.finish()
    assert flushes[0] == 0
    assert flushes[1] > 0
    assert flushes[2] == flushes[1]
    assert flushes[3] > flushes[2]
    assert flushes[4] == flushes[3]
    expected = [
        (when, size, packets.mask(data, 1)) for when, size, data in read(captured)
    ]
    assert read(output) == expected * 5


# --- Input that is broken, empty or too much ----------------------------------


def test_no_packets_give_an_empty_capture(tmp_path: Path) -> None:
    (tmp_path / "empty.pcap").write_bytes(pcap())
    output = tmp_path / "masked.pcap"
    done = run("--input", tmp_path / "empty.pcap", "--output", output, "--verify")
    assert done.returncode == 0, done.stderr
    assert "0 packets in, 0 out" in done.stdout
    assert tshark(output) == []


FRAME = bytes.fromhex(
    "00000000000100000000000208004500002300010000401"
    "17cc77f0000017f00000104d20035000faed368656c6c6f210a"
)
GOOD = pcap(FRAME, FRAME, FRAME)

BROKEN = {
    "cut off in a packet": (GOOD[:-3], "after packet 2: truncated dump file"),
    "cut off in a record header": (GOOD[:-50], "after packet 2: truncated dump file"),
    "cut off in the file header": (GOOD[:20], "truncated dump file"),
    "empty": (b"", "truncated dump file"),
    "not a capture": (b"<html></html>" * 9, "unknown file format"),
    "a packet of 4 GB": (
        GOOD + struct.pack("<IIII", 9, 0, 0xFFFFFFF0, 0xFFFFFFF0),
        "after packet 3: invalid packet capture length 4294967280",
    ),
    "a link type without headers we know": (
        pcap(FRAME, link_type=147),
        "link type 147 is not one of: Ethernet (1), raw IP (12), Linux cooked (113)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_capture_is_a_clear_error_that_leaves_nothing(
    name: str, tmp_path: Path
) -> None:
    content, complaint = BROKEN[name]
    source = tmp_path / "broken.pcap"
    source.write_bytes(content)
    done = run("--input", source, "--output", tmp_path / "masked.pcap", "--json")
    assert done.returncode == 1
    assert f"packet_pipeline: {source}: {complaint}" in done.stderr
    assert "Traceback" not in done.stderr
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["error"].startswith(f"CaptureError: {source}: ")
    assert os.listdir(tmp_path) == ["broken.pcap"]


def test_a_missing_capture_is_a_clear_error(tmp_path: Path) -> None:
    source = tmp_path / "missing.pcap"
    with (
        pytest.raises(CaptureError, match="No such file") as caught,
        Pipeline(tmp_path / "masked.pcap", 512) as pipeline,
    ):
        pipeline.run(source)
    assert (caught.value.path, caught.value.packet) == (source, 0)
    assert os.listdir(tmp_path) == []


def test_files_of_different_links_do_not_mix(tmp_path: Path) -> None:
    first, second = tmp_path / "1.pcap", tmp_path / "2.pcap"
    first.write_bytes(GOOD)
    second.write_bytes(pcap(FRAME[14:], link_type=101))
    with Pipeline(tmp_path / "masked.pcap", 512) as pipeline:
        pipeline.run(first)
        with pytest.raises(CaptureError, match="link type 12 in a run that began with"):
            pipeline.run(second)
    assert sorted(os.listdir(tmp_path)) == ["1.pcap", "2.pcap"]


def test_a_stop_in_the_middle_leaves_nothing(captured: Path, tmp_path: Path) -> None:
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 200

    with (
        pytest.raises(Stopped),
        Pipeline(tmp_path / "masked.pcap", 512, stop) as pipeline,
    ):
        pipeline.run(captured)
    assert pipeline.read.packets == 200
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_a_clear_error_that_leaves_nothing(
    captured: Path, tmp_path: Path
) -> None:
    done = run(
        "--input", captured, "--output", tmp_path / "masked.pcap",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--output", "{tmp}/no/where.pcap"], "--output: no folder"),
        (["--output", "{tmp}/o.pcap", "--seconds", "-1"], "--seconds: -1"),
        (["--output", "{tmp}/o.pcap", "--megabytes", "x"], "--megabytes: invalid"),
        ([], "--output"),
    ],
)
def test_wrong_usage(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    done = run(*(word.format(tmp=tmp_path) for word in arguments))
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_limit_that_makes_no_sense_names_key_value_and_range(tmp_path: Path) -> None:
    done = run("--output", tmp_path / "o.pcap", "--max-memory-mb", "1e30")
    assert done.returncode == 1
    assert "max_memory_mb" in done.stderr
    assert "1e+30" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


# --- Masking, packet by packet ------------------------------------------------

# Frames made and masked with scapy, which computes the checksums by itself.
ROWS = json.loads((Path(__file__).parent / "data/masked_packets.json").read_text())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_mask(row: dict[str, Any]) -> None:
    masked = packets.mask(bytes.fromhex(row["frame"]), row["link_type"])
    assert masked.hex() == row["masked"]


@pytest.mark.parametrize("link_type", [1, 12, 113])
def test_masking_any_bytes_keeps_the_length(link_type: int) -> None:
    state = 12345
    for size in range(200):
        for _ in range(20):
            data = bytearray()
            while len(data) < size:
                state = (state * 1103515245 + 12345) & 0x7FFFFFFF
                data.append(state >> 16 & 0xFF)
            if size > 23:  # often something that looks like IP
                data[12:14] = (b"\x08\x00", b"\x86\xdd", b"\x81\x00")[state % 3]
                data[14] = (0x45, 0x60, 0x4F)[state % 3]
                data[23] = (6, 17, 1, 58, 44, 0)[state % 6]
            assert len(packets.mask(bytes(data), link_type)) == size
