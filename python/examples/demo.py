"""Runs two hosts of memguard at once, under tight limits, and shows how they fare.

    packet pipeline   CPython: masks the payloads of live loopback packets
    queue worker      Node: works through bursts of JSON orders

Each reports once a second by a JSON line; this program draws them as a table, in
place on a terminal. In the end it checks that every packet and every order that went
in came out, that tshark reads the same packets before and after, and that no
temporary file is left.

Ctrl-C ends the demo at any moment: both hosts finish what they have begun, and the
report still comes. A second Ctrl-C skips the verification, a third kills.
Exit code: 0 all well, 1 something was lost or failed, 2 wrong usage, 130 ended by
Ctrl-C with all well.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent
ROOT = EXAMPLES.parents[1]
PIPELINE_MB = 48.0
WORKER_MB = 144.0
DRAW_SECONDS = 0.25
END_SECONDS = 90.0  # what hosts may take to finish and verify
KILL_SECONDS = 5.0
MIB = 2**20


class Host:
    """A child process that reports by JSON lines on its standard output."""

    def __init__(
        self, name: str, command: list[str], folder: Path, **environment: str
    ) -> None:
        self.name = name
        self.state: dict[str, Any] | None = None  # the latest line
        self.result: dict[str, Any] | None = None  # the last line, once it has come
        self.lines: list[dict[str, Any]] = []  # not yet shown
        self._said = folder / f"{name.replace(' ', '-')}.stderr"
        with self._said.open("wb") as stderr:
            # A session of its own: Ctrl-C reaches the launcher alone.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=stderr, start_new_session=True,
                env={**os.environ, **environment},
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None or self._reader.is_alive()

    def ask_to_stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """Ends it and all that it started, which is of its session."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(folder.name)) == self.process.pid:
                    os.kill(int(folder.name), signal.SIGKILL)
        self.process.wait()
        self._reader.join(KILL_SECONDS)

    def complaint(self) -> str:
        """The last line of what it wrote to its standard error."""
        text = self._said.read_text(errors="replace").strip()
        return text.rpartition("\n")[2]

    def problems(self, was_interrupted: bool) -> list[str]:
        code = self.process.returncode
        if self.result is None:
            if was_interrupted and self.state is None and code == -signal.SIGTERM:
                return []  # ended before it had begun
            return [f"ended without a result (exit {code}) {self.complaint()}"]
        found = []
        if self.result["error"]:
            found.append(self.result["error"])
        elif code:
            found.append(f"exit code {code}: {self.complaint()}")
        if self.result["in"] != self.result["done"]:
            found.append(f"{self.result['in']} in, but {self.result['done']} out")
        return found

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # a line that a kill cut off
                self.state = json.loads(line)
                self.lines.append(self.state)
                if self.state["event"] == "end":
                    self.result = self.state


# --- The table ----------------------------------------------------------------

# Names and widths, negative: left-aligned. What matters most fits into 80 columns.
COLUMNS = (
    ("host", -15), ("pid", 6), ("runtime", -12), ("RSS MB", 6), ("limit", 5),
    ("level", -8), ("heap", 5), ("GC", 4), ("flush", 6), ("fds", 3), ("peak", 6),
    ("done", 8), ("use", -10), ("doing", -8),
)  # fmt: skip
COLOURS = {"elevated": "33", "high": "31", "critical": "1;31"}


def columns(values: list[str]) -> str:
    cells = [
        value.ljust(-width) if width < 0 else value.rjust(width)
        for value, (_, width) in zip(values, COLUMNS, strict=True)
    ]
    return " ".join(cells)


def row(name: str, state: dict[str, Any] | None) -> str:
    if state is None:
        return columns([name, "", "starting", *[""] * (len(COLUMNS) - 3)])
    heap = state["heap_bytes"]
    filled = min(10, int(state["usage"] * 10 + 0.5))
    cells = {
        "host": name,
        "pid": str(state["pid"]),
        "runtime": state["runtime"].rpartition(".")[0],
        "RSS MB": f"{state['rss_bytes'] / MIB:.1f}",
        "limit": f"{state['limit_mb']:g}",
        "level": state["level"],
        "heap": "" if heap is None else f"{heap / MIB:.1f}",
        "GC": str(state["collections"]),
        "flush": str(state["flushes"]),
        "fds": str(state["fds"]),
        "peak": f"{state['peak_bytes'] / MIB:.1f}",
        "done": f"{state['done']:,}",
        "use": "#" * filled + "-" * (10 - filled),
        "doing": state["phase"],
    }
    return columns([cells[column] for column, _ in COLUMNS])


class Screen:
    """Shows the hosts: in place on a terminal, else as one line per report."""

    def __init__(self, hosts: list[Host], seconds: float) -> None:
        self._hosts = hosts
        self._seconds = seconds
        self._began = time.monotonic()
        self._drawn = 0
        self._is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colour = self._is_terminal and not os.environ.get("NO_COLOR")
        if not self._is_terminal:
            print("    s  " + self._head(), flush=True)

    def show(self) -> None:
        seconds = time.monotonic() - self._began
        if self._is_terminal:
            self._redraw(seconds)
            return
        for host in self._hosts:
            while host.lines:
                print(f"{seconds:5.1f}  {row(host.name, host.lines.pop(0))}")
        sys.stdout.flush()

    def _redraw(self, seconds: float) -> None:
        width = shutil.get_terminal_size().columns
        shown = min(seconds, self._seconds)
        lines = [f"memguard demo, {shown:.0f} of {self._seconds:g} s", self._head()]
        lines += [row(host.name, host.state) for host in self._hosts]
        # Back to the first line drawn last time; each line clears its rest.
        text = f"\x1b[{self._drawn}F" if self._drawn else ""
        for line, host in zip(lines, [None, None, *self._hosts], strict=True):
            text += self._coloured(line[: width - 1], host) + "\x1b[K\n"
        self._drawn = len(lines)
        print(text, end="", flush=True)

    def _coloured(self, line: str, host: Host | None) -> str:
        level = host.state["level"] if host and host.state else ""
        if not self._has_colour or level not in COLOURS:
            return line
        return f"\x1b[{COLOURS[level]}m{line}\x1b[0m"

    @staticmethod
    def _head() -> str:
        return columns([name for name, _ in COLUMNS])


# --- The closing report -------------------------------------------------------


def print_host(host: Host, unit: str, extra: dict[str, str]) -> None:
    result = host.result or host.state
    print(f"\n{host.name}", end="")
    if result is None:
        print(": ended before it had begun")
        return
    print(f" ({result['runtime']}, pid {result['pid']})")
    sign = "=" if result["in"] == result["done"] else "but"
    seen = [f"{level} {count}x" for level, count in result["levels"].items() if count]
    rows = {
        unit: f"{result['in']:,} in {sign} {result['done']:,} out",
        "memory": f"peak {result['peak_bytes'] / MIB:.1f} MB RSS, "
        f"limit {result['limit_mb']:g} MB",
        "levels": f"entered: {', '.join(seen)}" if seen else "normal all the time",
        "flushes": f"{result['flushes']:,} buffers, {result['pressure_flushes']:,} of "
        "them under pressure",
        "GC": f"{result['collections']:,} collections",
        **extra,
    }
    for name, text in rows.items():
        print(f"  {name:<10}{text}")


def pipeline_facts(host: Host, was_verified: bool) -> dict[str, str]:
    if host.result is None:
        return {}
    result = host.result
    facts = {
        "capture": f"{', '.join(result['methods']) or 'none'}; {result['files']} "
        f"rounds, {result['dropped']} packets dropped by the kernel"
    }
    if result["verified"] is not None:
        facts["tshark"] = f"reads the same {result['verified']:,} packets in both"
    elif not was_verified:
        facts["tshark"] = "not verified: tshark is not installed"
    else:
        facts["tshark"] = "verification skipped"
    return facts


def results_problems(path: Path, accepted: int) -> list[str]:
    """Reads the worker's output again: each order must have one result."""
    seen = bytearray(accepted)
    count = 0
    with path.open(encoding="utf-8") as file:
        for count, line in enumerate(file, 1):
            number = json.loads(line)["id"]
            if number >= accepted or seen[number]:
                return [f"result {count}: order {number} is unknown or a duplicate"]
            seen[number] = 1
    return [] if count == accepted else [f"{accepted} orders, but {count} results"]


# --- Running it ---------------------------------------------------------------


class Demo:
    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.interrupts = 0
        self.is_stopping = False
        output = options.keep or folder / "output"
        scratch = folder / "scratch"
        for needed in (output, scratch):
            needed.mkdir(parents=True, exist_ok=True)
        self.scratch = scratch
        self.output = output
        self.packets = output / "masked.pcap"
        self.results = output / "results.ndjson"
        self.can_verify = shutil.which("tshark") is not None
        common = ["--json", "--seconds", str(options.seconds)]
        pipeline = [
            sys.executable, str(EXAMPLES / "packet_pipeline"), *common, "--output",
            str(self.packets), "--max-memory-mb", str(PIPELINE_MB), "--capture",
            options.capture, *["--verify"] * self.can_verify,
        ]  # fmt: skip
        worker = [
            find_node(self.options.node),
            str(ROOT / "node/examples/queue_worker.js"),
            *common, "--output", str(self.results), "--max-memory-mb", str(WORKER_MB),
        ]  # fmt: skip
        self.folder = folder
        self.commands = {"packet pipeline": pipeline, "queue worker": worker}
        self.hosts: list[Host] = []

    def interrupt(self, *_: object) -> None:
        self.interrupts += 1
        self.stop()

    def start(self) -> None:
        for name, command in self.commands.items():
            host = Host(name, command, self.folder, TMPDIR=str(self.scratch))
            self.hosts.append(host)
        if self.interrupts:  # while they were started
            self.stop()

    def stop(self) -> None:
        self.is_stopping = True
        for host in self.hosts:
            host.ask_to_stop()

    def kill(self) -> None:
        for host in self.hosts:
            host.kill()

    def watch(self) -> None:
        """Shows the hosts until both have ended, by themselves or by force."""
        screen = Screen(self.hosts, self.options.seconds)
        deadline = time.monotonic() + self.options.seconds + END_SECONDS
        while any(host.is_running for host in self.hosts):
            time.sleep(DRAW_SECONDS)
            screen.show()
            has_failed = any(host.process.poll() for host in self.hosts)
            if has_failed and not self.is_stopping:  # the other one may end, too
                self.stop()
            if time.monotonic() > deadline or self.interrupts > 2:
                self.kill()
        screen.show()

    def report(self) -> list[str]:
        """Prints how the hosts fared. Returns what went wrong."""
        pipeline, worker = self.hosts
        print_host(pipeline, "packets", pipeline_facts(pipeline, self.can_verify))
        pauses = worker.result["pauses"] if worker.result else 0
        print_host(worker, "orders", {"intake": f"paused {pauses} times"})
        problems = []
        for host in self.hosts:
            found = host.problems(was_interrupted=self.interrupts > 0)
            if host is worker and worker.result and not found:
                found = results_problems(self.results, worker.result["in"])
            problems += [f"{host.name}: {problem}" for problem in found]
        kept = {self.packets, self.results}
        left = [*self.scratch.iterdir()]
        left += [path for path in self.output.iterdir() if path not in kept]
        if not self.options.keep:  # a folder of the user's may hold anything
            problems += [f"left behind: {path.name}" for path in left]
        return problems


def find_node(name: str) -> str:
    node = shutil.which(name)
    if node is None:
        sys.exit(f"demo: no {name} found: put Node on PATH or name it with --node")
    return node


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="(20)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR",
        help="keep masked.pcap and results.ndjson there",
    )  # fmt: skip
    parser.add_argument(
        "--capture", choices=["auto", "dumpcap", "libpcap", "sockets"], default="auto",
        help="how the packets are captured (auto: the first that is permitted)",
    )  # fmt: skip
    parser.add_argument("--node", default="node", help="the Node to run (node)")
    options = parser.parse_args()
    if not 0 < options.seconds < math.inf:
        parser.error(f"--seconds is {options.seconds:g}, not a number above 0")
    return options


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory(
        prefix="memguard-demo-", ignore_cleanup_errors=True
    ) as name:
        demo = Demo(options, Path(name))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, demo.interrupt)
        try:
            demo.start()
            demo.watch()
        except BrokenPipeError:  # nobody reads on: end as if by Ctrl-C, quietly
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            demo.interrupt()
            demo.watch()
        finally:
            demo.kill()
        problems = demo.report()
        if options.keep:
            print(f"\nkept in {options.keep}: masked.pcap, results.ndjson")
    print()
    for problem in problems:
        print(f"FAILED: {problem}")
    if problems:
        return 1
    print("ok: everything that went in came out; no temporary file is left")
    return 130 if demo.interrupts else 0


if __name__ == "__main__":
    sys.exit(main())
