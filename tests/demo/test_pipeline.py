"""The packet pipeline (python/examples) on captures that are large, many or broken."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "python" / "examples"
sys.path.insert(0, str(EXAMPLES))

from packet_pipeline import generate, packets  # noqa: E402
from packet_pipeline.stages import CaptureError, Pipeline  # noqa: E402

MIB = 1 << 20
SECONDS = 300
PACKETS = 104  # of a generated cycle
SOUND = 91  # of them with a checksum, the others are ARP


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(EXAMPLES / "packet_pipeline"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cycle, three times."""
    path = tmp_path_factory.mktemp("small") / "small.pcap"
    assert generate.write(path, 0.35) == 3 * PACKETS
    return path


@pytest.fixture
def large(tmp_path: Path) -> Iterator[list[Path]]:
    """Two files of 128 MB."""
    paths = [tmp_path / "1.pcap", tmp_path / "2.pcap"]
    for path in paths:
        generate.write(path, 128)
    yield paths
    for path in paths:
        path.unlink()


def with_wrong(path: Path, wrong: dict[int, bytes]) -> None:
    """A capture of one cycle in which some frames are others."""
    records = []
    for number, one in enumerate(generate.frames()):
        data = wrong.get(number, one.frame)
        records.append(packets.Record(number, 0, len(data), data))
    with path.open("xb") as file:
        packets.write_file_header(file, packets.ETHERNET)
        packets.write_records(file, records)


# --- Much ---------------------------------------------------------------------


def test_large_files_go_through_in_little_memory(
    large: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "masked.pcap"
    done = run(
        "--input", *large, "--output", output, "--max-memory-mb", 48, "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout.splitlines()[-1])
    count = end["in"]
    assert count > 200_000
    assert count % (2 * PACKETS) == 0
    assert end["done"] == count
    assert end["files"] == 2
    assert end["peak_bytes"] < 64 * MIB
    assert end["pressure_flushes"] > 0
    assert generate.Checker().count(output, [count // 2] * 2) == count
    assert sorted(os.listdir(tmp_path)) == ["1.pcap", "2.pcap", "masked.pcap"]


def test_ended_in_the_middle_it_leaves_nothing(
    large: list[Path], tmp_path: Path
) -> None:
    command = [sys.executable, str(EXAMPLES / "packet_pipeline"), "--json"]
    command += ["--input", *map(str, large), "--output", str(tmp_path / "masked.pcap")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, err
    assert "stopped; no output kept" in err
    assert json.loads(out.splitlines()[-1])["error"] == "stopped"
    assert sorted(os.listdir(tmp_path)) == ["1.pcap", "2.pcap"]


# --- Several files, checksums -------------------------------------------------


def test_several_files_become_one(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "masked.pcap"
    done = run("--input", small, small, small, "--output", output, "--verify")
    assert done.returncode == 0, done.stderr
    assert "936 packets in, 936 out" in done.stdout
    assert "tshark reads the same 936 packets in both" in done.stdout
    assert generate.Checker().count(output, [3 * PACKETS] * 3) == 936


@pytest.mark.parametrize("kept", [False, True], ids=["fit", "keep"])
def test_checksums_fit_or_stay(kept: bool, small: Path, tmp_path: Path) -> None:
    output = tmp_path / "masked.pcap"
    options = ["--checksums", "keep"] if kept else []
    assert run("--input", small, "--output", output, *options).returncode == 0
    assert generate.Checker(fits=not kept).count(output, [312]) == 312
    with pytest.raises(ValueError, match="packet 2: "):  # the first with a payload
        generate.Checker(fits=kept).count(output, [312])


def test_wrong_checksums_are_counted(tmp_path: Path) -> None:
    made = generate.frames()
    wrong = {}
    for number in (0, 5, 60, 80):  # TCP, with and without payload; UDP; ICMP
        frame = bytearray(made[number].frame)
        frame[made[number].checksum] ^= 1
        wrong[number] = bytes(frame)
    wrong[20] = made[20].frame[:-1] + b"?"  # a payload that was changed
    wrong[7] = made[7].frame[:-1]  # cut off: cannot be told
    no_checksum = bytearray(made[61].frame)  # UDP may have none
    no_checksum[made[61].checksum : made[61].checksum + 2] = b"\0\0"
    wrong[61] = bytes(no_checksum)
    with_wrong(tmp_path / "in.pcap", wrong)
    done = run(
        "--input", tmp_path / "in.pcap", "--output", tmp_path / "out.pcap", "--check",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["checksums"] == {"right": SOUND - 7, "wrong": 5, "unknown": 13 + 2}
    assert end["in"] == end["done"] == PACKETS
    # What went out is right, whatever came in.
    again = run(
        "--input", tmp_path / "out.pcap", "--output", tmp_path / "again.pcap", "--check"
    )
    assert "checksums: 89 right, 0 wrong, 15 unknown" in again.stdout


def test_frames_masked_elsewhere_have_sound_checksums() -> None:
    path = Path(__file__).parents[1] / "python" / "data" / "masked_packets.json"
    rows = json.loads(path.read_text())
    found = [
        packets.is_sound(bytes.fromhex(row["masked"]), row["link_type"]) for row in rows
    ]
    assert found.count(True) >= 5
    assert False not in found


# --- Broken -------------------------------------------------------------------


def test_the_second_file_is_cut_off(small: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(small.read_bytes()[:-7])
    output = tmp_path / "masked.pcap"
    done = run("--input", small, cut, small, "--output", output, "--json")
    assert done.returncode == 1
    complaint = f"{cut}: after packet 311: truncated dump file"
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["error"].startswith(f"CaptureError: {complaint}")
    assert end["files"] == 2
    assert os.listdir(tmp_path) == ["cut.pcap"]


def test_an_output_that_is_an_input_is_refused(small: Path, tmp_path: Path) -> None:
    source, link = tmp_path / "in.pcap", tmp_path / "link.pcap"
    source.write_bytes(small.read_bytes())
    link.symlink_to(source)
    for output in (source, link):
        done = run("--input", source, "--output", output)
        assert done.returncode == 2
        assert f"--output: {source} is an input" in done.stderr
    assert source.read_bytes() == small.read_bytes()


def records_of(path: Path) -> list[bytes]:
    content, at, found = path.read_bytes(), 24, []
    while at < len(content):
        (size,) = struct.unpack_from("=I", content, at + 8)
        found.append(content[at + 16 : at + 16 + size])
        at += 16 + size
    return found


@pytest.mark.parametrize(
    ("magic", "order"), [(0xA1B2C3D4, ">"), (0xA1B23C4D, "<")], ids=["swapped", "ns"]
)
def test_other_kinds_of_pcap(magic: int, order: str, tmp_path: Path) -> None:
    frames = [one.frame for one in generate.frames()]
    content = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    for frame in frames:
        content += struct.pack(order + "IIII", 7, 5000, len(frame), len(frame)) + frame
    source, output = tmp_path / "in.pcap", tmp_path / "out.pcap"
    source.write_bytes(content)
    assert run("--input", source, "--output", output).returncode == 0
    assert records_of(output) == [packets.mask(frame, 1) for frame in frames]


def test_packets_of_no_bytes_and_packets_cut_off_by_the_capture(tmp_path: Path) -> None:
    frame = generate.frames()[9].frame
    cuts = [0, 1, 13, 14, 33, 34, 53, 66, 67, 500, len(frame)]
    records = [packets.Record(1, 2, len(frame), frame[:cut]) for cut in cuts]
    source, output = tmp_path / "in.pcap", tmp_path / "out.pcap"
    with source.open("xb") as file:
        packets.write_file_header(file, packets.ETHERNET)
        packets.write_records(file, records)
    assert run("--input", source, "--output", output).returncode == 0
    found = records_of(output)
    assert [len(data) for data in found] == cuts
    # Its headers are 66 bytes; the checksum of a packet that is cut off stays.
    assert found[-3:-1] == [frame[:66] + b"x", frame[:66] + b"x" * 434]
    assert found[7] == frame[:66]


def test_any_damage_is_a_typed_error_or_does_no_harm(
    small: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in.pcap", tmp_path / "out.pcap"
    whole = small.read_bytes()[:60_000]
    draw = random.Random(11)
    refused = []
    for _ in range(150):
        content = bytearray(whole[: draw.randrange(len(whole))])
        for _ in range(draw.randrange(1, 6)):
            if content:
                at = draw.randrange(min(len(content), draw.choice((24, 200, 60_000))))
                content[at] = draw.randrange(256)
        source.write_bytes(content)
        try:
            with Pipeline(output, 512, checks=True) as pipeline:
                pipeline.run(source)
                pipeline.finish()
            assert pipeline.read.packets == pipeline.write.packets
            assert len(records_of(output)) == pipeline.write.packets
            output.unlink()
        except CaptureError as error:
            refused.append(error.path)
        assert os.listdir(tmp_path) == ["in.pcap"]
    assert 20 < len(refused) <= 150
    assert set(refused) == {source}
