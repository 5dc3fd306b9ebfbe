"""The demo from its start to its report, as a person or a script would run it."""

import contextlib
import errno
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "python" / "examples" / "demo.py"
SECONDS = 180  # bound of each run
ALL_WELL = "ok: everything that went in came out; no temporary file is left\n"


class Run:
    """A demo whose processes carry a mark, so that none can hide."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        log: Path | None = None,
        **environment: str,
    ) -> None:
        self.mark = f"DEMO_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.log = log or folder / "output.txt"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(DEMO), *arguments], stdout=output,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(self.temporary), name: value,
                     **environment},
            )  # fmt: skip

    def wait(self) -> tuple[int, str]:
        return self.process.wait(SECONDS), self.text()

    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, pattern: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not re.search(pattern, self.text()):
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def processes(self) -> list[str]:
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text())
        return found

    def ask(self, target: str) -> Any:
        """What the demo's exporter answers."""
        found = re.search(r"dashboard +(http://\S+)/", self.text())
        assert found, self.text()
        with urllib.request.urlopen(found[1] + target, timeout=SECONDS) as answer:
            return json.load(answer)

    def is_exporter(self, folder: Path) -> bool:
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes()
            return words[1:2] == [b"exporter"] and self.mark.encode() in environment
        return False

    def segments(self) -> list[Path]:
        return [*Path("/dev/shm").glob(f"memguard-demo-{self.process.pid}-*")]

    def assert_nothing_left(self) -> None:
        assert self.processes() == []
        assert os.listdir(self.temporary) == []
        assert self.segments() == []

    def end(self) -> None:
        """Whatever a test left running."""
        if self.process.poll() is None:
            for _ in range(3):  # the third one kills
                self.process.send_signal(signal.SIGINT)
                time.sleep(0.5)
            self.process.wait(SECONDS)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[type[Run]]:
    runs = []

    def begin(*arguments: str, **options: Any) -> Run:
        runs.append(Run(tmp_path, *arguments, **options))
        return runs[-1]

    yield begin  # type: ignore[misc]
    for run in runs:
        run.end()


def numbers(pattern: str, text: str) -> list[int]:
    match = re.search(pattern, text)
    assert match, text
    return [int(group.replace(",", "")) for group in match.groups()]


def test_from_start_to_report(start: type[Run], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    run = start("--seconds", "6", "--keep", str(kept))
    code, text = run.wait()
    assert code == 0, text
    assert re.search(r"^ +[\d.]+  packet pipeline +\d+ +CPython 3\.\d+", text, re.M)
    assert re.search(r"^ +[\d.]+  trading engine +\d+ +CPython 3\.\d+", text, re.M)
    assert re.search(r"^ +[\d.]+  queue service +\d+ +Node \d+\.", text, re.M)

    packets_in, packets_out = numbers(r"packets +([\d,]+) in = ([\d,]+) out", text)
    assert packets_in == packets_out > 1000
    (verified,) = numbers(r"tshark +reads the same ([\d,]+) packets in both", text)
    assert verified == packets_in
    masked = ["tshark", "-n", "-r", str(kept / "masked.pcap")]
    done = subprocess.run(masked, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == packets_in

    trades_in, trades_out = numbers(r"trades +([\d,]+) in = ([\d,]+) out", text)
    assert trades_in == trades_out > 100
    jobs_in, jobs_out = numbers(r"jobs +([\d,]+) in = ([\d,]+) out", text)
    assert jobs_in == jobs_out > 100
    with (kept / "results.ndjson").open() as file:
        ids = sorted(int(json.loads(line)["id"].split("-")[1]) for line in file)
    assert ids == list(range(jobs_in))

    # How far six seconds fill memory depends on the machine's speed (that pressure
    # flushes is proven by each host's own tests). What is said must fit together.
    peaks = re.findall(r"peak ([\d.]+) MB RSS, limit (\d+) MB\n +levels +(.*)", text)
    assert len(peaks) == 3
    for peak, limit, levels in peaks:
        if float(peak) > 0.9 * float(limit):
            assert re.search(r"(?:elevated|high|critical) \d+x", levels), text
    under_pressure = re.findall(r"buffers, ([\d,]+) of them under pressure", text)
    assert len(under_pressure) == 1
    # What memguard recorded, of each host.
    assert len(re.findall(r"^  reclaim +(?:no round|\d+ rounds gave)", text, re.M)) == 3
    assert len(re.findall(r"^  pauses +longest [\d.]+ ms", text, re.M)) == 3
    assert len(re.findall(r"^  alerts +\d+ fired, \d+ resolved", text, re.M)) == 3
    assert len(re.findall(r"^  leak +\w+", text, re.M)) == 3
    assert text.endswith(ALL_WELL)
    assert sorted(os.listdir(kept)) == ["masked.pcap", "results.ndjson"]
    run.assert_nothing_left()


@pytest.mark.parametrize(
    "moment",
    [
        r"^dashboard +http",
        r"^ +\S+  host",
        r"trading engine +\d",
        r"queue service +\d",
        r"[1-9],\d{3} [#-]+ rest",
    ],
)
def test_ctrl_c_at_any_moment(start: type[Run], moment: str) -> None:
    run = start("--seconds", "60")
    run.wait_for(f"(?m){moment}")
    run.process.send_signal(signal.SIGINT)
    code, text = run.wait()
    assert code == 130, text
    assert "\npacket pipeline" in text
    assert "\ntrading engine" in text
    assert "\nqueue service" in text
    assert " but " not in text
    assert text.endswith(ALL_WELL)
    run.assert_nothing_left()


def test_the_exporter_shows_all_hosts(start: type[Run]) -> None:
    run = start("--seconds", "60")
    run.wait_for(r"packet pipeline +\d[\s\S]*trading engine +\d")
    run.wait_for(r"queue service +\d")
    text = run.text()
    assert text.startswith("dashboard  http://127.0.0.1:")
    pids = {
        numbers(rf"{name} +(\d+)", text)[0]
        for name in ("packet pipeline", "trading engine", "queue service")
    }
    deadline = time.monotonic() + SECONDS
    while not pids <= {row["pid"] for row in rows(run)}:
        assert time.monotonic() < deadline, rows(run)
        time.sleep(0.1)
    shown = [row for row in rows(run) if row["pid"] in pids]
    assert sorted(row["runtime"] for row in shown) == ["node", "python", "python"]
    assert sorted(row["limit_bytes"] >> 20 for row in shown) == [48, 160, 192]
    run.process.send_signal(signal.SIGINT)
    code, text = run.wait()
    assert code == 130, text
    run.assert_nothing_left()


def rows(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run.ask("/api/v1/processes")["processes"]
    return found


@pytest.mark.timeout(400)
def test_the_leak_is_named(start: type[Run]) -> None:
    """Half of the demo is time enough; a machine that is busy with other things gets
    more of it."""
    rates = ("--job-rate", "300", "--trade-rate", "300")
    for seconds in (30, 60, 90):
        run = start("--seconds", str(seconds), "--capture", "sockets", *rates)
        code, text = run.wait()
        assert code == 0, text
        assert f"leaks from second {seconds // 2} on" in text
        run.assert_nothing_left()
        _, _, queue = text.rpartition("\nqueue service (Node")
        found = re.search(r"leak +(?:likely|confirmed|critical) \(\w+\): (.*)", queue)
        if found and "VisitorSession" in found[1]:
            return
    pytest.fail(text)


def test_an_exporter_that_is_killed_is_told(start: type[Run]) -> None:
    run = start("--seconds", "60", "--capture", "sockets")
    run.wait_for(r"trading engine +\d[\s\S]*queue service +\d")
    (exporter,) = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if run.is_exporter(folder)
    ]
    os.kill(exporter, signal.SIGKILL)
    run.process.send_signal(signal.SIGINT)
    code, text = run.wait()
    assert code == 1
    assert "FAILED: the exporter does not answer" in text
    trades_in, trades_out = numbers(r"trades +([\d,]+) in = ([\d,]+) out", text)
    assert trades_in == trades_out
    run.assert_nothing_left()


def test_without_permission_to_capture(start: type[Run]) -> None:
    run = start("--seconds", "2", "--capture", "sockets")
    code, text = run.wait()
    assert code == 0, text
    assert re.search(r"capture +no permission to capture: packets made of what", text)
    packets_in, packets_out = numbers(r"packets +([\d,]+) in = ([\d,]+) out", text)
    assert packets_in == packets_out > 100
    run.assert_nothing_left()


def test_a_host_that_fails_is_told_and_ends_the_other(start: type[Run]) -> None:
    run = start("--seconds", "60", "--node", "/bin/false")
    code, text = run.wait()
    assert code == 1
    assert "FAILED: queue service: ended without a result (exit 1)" in text
    packets_in, packets_out = numbers(r"packets +([\d,]+) in = ([\d,]+) out", text)
    assert packets_in == packets_out
    run.assert_nothing_left()


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("queue service", r"queue service .* [1-9][\d,]* [#-]+ \w+ *$"),
        ("packet pipeline", r"packet pipeline .* capture *$"),
    ],
)
def test_a_killed_host_is_told_and_nothing_of_it_is_left(
    start: type[Run], name: str, moment: str
) -> None:
    run = start("--seconds", "60")
    run.wait_for(f"(?m){moment}")
    (pid,) = numbers(rf"{name} +(\d+)", run.text())
    os.kill(pid, signal.SIGKILL)
    code, text = run.wait()
    assert code == 1
    assert f"FAILED: {name}: ended without a result (exit -9)" in text
    run.assert_nothing_left()


def test_a_third_ctrl_c_kills(start: type[Run]) -> None:
    run = start("--seconds", "60")
    run.wait_for(r"(?m)packet pipeline .* capture *$")
    for host in numbers(r"packet pipeline +(\d+)", run.text()):
        os.kill(host, signal.SIGSTOP)  # it cannot end by itself
    for _ in range(3):
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    code, text = run.wait()
    assert code == 1
    assert "FAILED: packet pipeline: ended without a result (exit -9)" in text
    run.assert_nothing_left()


def test_hosts_end_by_themselves_when_the_demo_is_killed(start: type[Run]) -> None:
    run = start("--seconds", "60")
    run.wait_for(r"queue service +\d")
    run.process.kill()
    run.process.wait()
    deadline = time.monotonic() + SECONDS
    while run.processes():
        assert time.monotonic() < deadline, run.processes()
        time.sleep(0.1)
    code, text = start("--seconds", "1", "--capture", "sockets").wait()
    assert code == 0, text
    assert run.segments() == []  # the next demo took them away


@pytest.mark.parametrize(("lines", "last"), [("1", b"dashboard"), ("7", b"   s  host")])
def test_a_reader_that_goes_away_ends_it(
    start: type[Run], tmp_path: Path, lines: str, last: bytes
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    head = ["head", "-n", lines, pipe]
    with subprocess.Popen(head, stdout=subprocess.PIPE) as reader:
        run = start("--seconds", "60", log=pipe)
        shown, _ = reader.communicate(timeout=SECONDS)
        assert last in shown
        assert run.process.wait(SECONDS) == 130
        run.assert_nothing_left()


def test_on_a_terminal_the_table_is_drawn_in_place(tmp_path: Path) -> None:
    try:
        child, terminal = os.forkpty()  # pty.fork() hides why it could not
    except OSError as error:
        # No /dev/ptmx, no /dev/pts.
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        pytest.skip(f"no terminal can be made here: {error}")
    if child == 0:
        os.environ |= {"TMPDIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "140"}
        os.execv(sys.executable, [sys.executable, str(DEMO), "--seconds", "2"])
    shown = b""
    deadline = time.monotonic() + SECONDS
    with contextlib.suppress(OSError):  # the terminal closes with its last process
        while select.select([terminal], [], [], deadline - time.monotonic())[0]:
            shown += os.read(terminal, 65536)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    text = shown.decode()
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert text.count("\x1b[5F") > 3  # back up over the five lines of the table
    assert text.count("ok: everything that went in came out") == 1
    assert os.listdir(tmp_path) == []


def test_wrong_usage(start: type[Run]) -> None:
    code, text = start("--seconds", "0").wait()
    assert code == 2
    assert "--seconds is 0, not a number above 0" in text


def test_without_node(start: type[Run]) -> None:
    code, text = start("--seconds", "1", PATH="/nowhere").wait()
    assert code == 1
    assert "no node found" in text
