"""Runs three hosts of memguard at once, under tight limits, and shows how they fare.

    packet pipeline   CPython: masks the payloads of live loopback packets
    trading engine    CPython: trades on a market that a websocket server plays
    queue service     Node: works off jobs; half-way, one of their handlers begins
                      to leak

Each reports once a second by a JSON line; this program draws them as a table, in
place on a terminal, while `memguard exporter` serves the dashboard. In the end it
says what memguard saw and did, and checks that every packet, trade and job that went
in came out, that tshark reads the same packets before and after, and that no
temporary file is left.

Ctrl-C ends the demo at any moment: all hosts finish what they have begun, and the
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

from demo_site import Site, SiteError

EXAMPLES = Path(__file__).resolve().parent
ROOT = EXAMPLES.parents[1]
MEMORY = "/dev/shm"
PIPELINE_MB = 48.0
ENGINE_MB = 160.0
QUEUE_MB = 192.0  # to count objects memguard wants room of four heaps
INSTRUMENTS = 4
# A leak is no leak before minutes have shown it. Here they are this much shorter,
# so that it is found in half of the demo.
LEAK_MINUTES = 4.0  # memguard's shortest window
LEAK_WINDOWS = 5.0  # that shall fit
LEAK_SETTINGS = {"MEMGUARD_LEAK_COLLECT": "1s", "MEMGUARD_LEAK_MIN_GROWTH_MB": "1"}
LEAK_BYTES = 16e6  # in all
PAGE_BYTES = 80  # of one page of a session, which leaks
SESSIONS = 0.1  # of all jobs
TIERS = ("none", "suspect", "likely", "confirmed", "critical")
LONG_PAUSE = "100ms"  # that is told: all share a few cores
LOOK_SECONDS = 1.0  # between looks at the exporter, and for its answer
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
        self.leak: dict[str, Any] | None = None  # the worst finding so far
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
                for finding in self.state["findings"]:
                    self._note(finding)
                if self.state["event"] == "end":
                    self.result = self.state

    def _note(self, finding: dict[str, Any]) -> None:
        """Keeps the worst, and what is named later."""

        def rank(of: dict[str, Any]) -> tuple[bool, bool, int]:
            return is_alarm(of), bool(of["culprits"]), TIERS.index(of["tier"])

        if self.leak is None or rank(finding) >= rank(self.leak):
            self.leak = finding


def is_alarm(finding: dict[str, Any]) -> bool:
    return finding["tier"] not in ("none", "suspect")


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


def alert_text(alert: dict[str, Any]) -> str:
    state = "firing" if alert["fires"] else "resolved"
    return f"{alert['kind']} ({alert['severity']}, {state})"


def recorded_facts(site: Site, row: dict[str, Any]) -> dict[str, str]:
    """What memguard recorded of a host: a row of the exporter's."""
    # A part of another collection is no pause of its own to be counted.
    longest = max((kind["max_ms"] for kind in row["gc"].values()), default=0.0)
    rounds, freed = row["rounds"], row["freed_bytes"] / MIB
    alerts = site.alerts(row["pid"])
    resolved = sum(not alert["fires"] for alert in alerts)
    told = f"{len(alerts)} fired, {resolved} resolved"
    if alerts:
        told += ": " + ", ".join(alert_text(alert) for alert in alerts)
    return {
        "reclaim": f"{rounds} rounds gave back {freed:.1f} MB, measured"
        if rounds
        else "no round was needed",
        "pauses": f"longest {longest or 0.0:.1f} ms of collections",
        "alerts": told,
    }


def leak_text(leak: dict[str, Any] | None) -> str:
    if leak is None:
        return "none"
    if not is_alarm(leak):
        return f"none ({leak['signal']} was suspected for a while)"
    culprits = ", ".join(leak["culprits"][:3]) or "culprit not known yet"
    return f"{leak['tier']} ({leak['signal']}): {culprits}"


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
        "GC": f"{result['collections']:,} collections",
        **extra,
        "leak": leak_text(host.leak),
    }
    for name, text in rows.items():
        print(f"  {name:<10}{text}")


def pipeline_facts(host: Host, was_verified: bool) -> dict[str, str]:
    if host.result is None:
        return {}
    result = host.result
    facts = {
        "flushes": f"{result['flushes']:,} buffers, {result['pressure_flushes']:,} of "
        "them under pressure",
        "capture": f"{', '.join(result['methods']) or 'none'}; {result['files']} "
        f"rounds, {result['dropped']} packets dropped by the kernel",
    }
    if result["verified"] is not None:
        facts["tshark"] = f"reads the same {result['verified']:,} packets in both"
    elif not was_verified:
        facts["tshark"] = "not verified: tshark is not installed"
    else:
        facts["tshark"] = "verification skipped"
    return facts


def engine_facts(host: Host) -> dict[str, str]:
    if host.result is None:
        return {}
    result = host.result
    return {
        "market": f"{result['candles']:,} candles, {result['fills']:,} orders filled",
        "tuning": f"profile {result['tuning']}",
    }


def queue_facts(host: Host) -> dict[str, str]:
    if host.result is None:
        return {}
    result = host.result
    return {
        "workers": f"paused {result['pauses']} times, {result['paused_ms']:,} ms",
    }


def results_problems(path: Path, accepted: int) -> list[str]:
    """Reads the service's output again: each job must have one result."""
    seen = bytearray(accepted)
    count = 0
    with path.open(encoding="utf-8") as file:
        for count, line in enumerate(file, 1):
            number = int(json.loads(line)["id"].rpartition("-")[2])
            if number >= accepted or seen[number]:
                return [f"result {count}: job {number} is unknown or a duplicate"]
            seen[number] = 1
    return [] if count == accepted else [f"{accepted} jobs, but {count} results"]


class Leak:
    """How the queue service leaks, so that it is found while the demo lasts."""

    def __init__(self, seconds: float, job_rate: float) -> None:
        self.after = seconds / 2
        window = self.after / LEAK_WINDOWS
        self.time_scale = max(1, round(LEAK_MINUTES * 60 / window))
        pages = LEAK_BYTES / PAGE_BYTES / (SESSIONS * job_rate * self.after)
        self.pages = min(1000, max(1, round(pages)))

    def arguments(self) -> list[str]:
        return ["--leak-after", str(self.after), "--pages", str(self.pages)]

    def environment(self) -> dict[str, str]:
        return {"MEMGUARD_LEAK_TIME_SCALE": str(self.time_scale), **LEAK_SETTINGS}


# --- Running it ---------------------------------------------------------------


class Demo:
    def __init__(
        self, options: argparse.Namespace, folder: Path, segments: Path
    ) -> None:
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
        self.segments = segments
        self.site: Site | None = None
        self.leak = Leak(options.seconds, options.job_rate)
        common = ["--json", "--seconds", str(options.seconds)]
        pipeline = [
            sys.executable, str(EXAMPLES / "packet_pipeline"), *common, "--output",
            str(self.packets), "--max-memory-mb", str(PIPELINE_MB), "--capture",
            options.capture, *["--verify"] * self.can_verify,
        ]  # fmt: skip
        engine = [
            sys.executable, str(EXAMPLES / "trading"), *common, "--rate",
            str(options.trade_rate), "--instruments", str(INSTRUMENTS),
            "--max-memory-mb", str(ENGINE_MB),
        ]  # fmt: skip
        queue = [
            find_node(self.options.node),
            str(ROOT / "node/examples/queue_service.js"),
            *common, "--output", str(self.results), "--max-memory-mb", str(QUEUE_MB),
            "--rate", str(options.job_rate), *self.leak.arguments(),
        ]  # fmt: skip
        self.folder = folder
        self.commands = {
            "packet pipeline": pipeline, "trading engine": engine,
            "queue service": queue,
        }  # fmt: skip
        self.hosts: list[Host] = []

    def interrupt(self, *_: object) -> None:
        self.interrupts += 1
        self.stop()

    def start(self) -> None:
        """Raises SiteError."""
        self.results.unlink(missing_ok=True)  # of an earlier demo
        self.site = Site(self.segments)
        self._introduce(self.site.url)
        shared = {
            "TMPDIR": str(self.scratch), "MEMGUARD_DIR": str(self.segments),
            "MEMGUARD_LONG_PAUSE": LONG_PAUSE,
        }  # fmt: skip
        for name, command in self.commands.items():
            own = self.leak.environment() if name == "queue service" else {}
            host = Host(name, command, self.folder, **shared, **own)
            self.hosts.append(host)
        if self.interrupts:  # while they were started
            self.stop()

    def _introduce(self, url: str) -> None:
        print(f"dashboard  {url}")
        if os.environ.get("MEMGUARD_WEB_TOKEN"):
            print("           its buttons ask for your $MEMGUARD_WEB_TOKEN")
        else:
            print("           shows all; for its buttons start the demo with a token:")
            print("           MEMGUARD_WEB_TOKEN=any-16-letters-or-more ./dev demo")
        print(
            f"leak       the queue service leaks from second {self.leak.after:g} on; "
            f"its detector runs\n           {self.leak.time_scale} times faster than "
            "in service (leak.time_scale)\n",
            flush=True,
        )

    def stop(self) -> None:
        self.is_stopping = True
        for host in self.hosts:
            host.ask_to_stop()

    def kill(self) -> None:
        for host in self.hosts:
            host.kill()

    def close(self) -> None:
        self.kill()
        if self.site is not None:
            self.site.close()

    def watch(self) -> None:
        """Shows the hosts until all have ended, by themselves or by force."""
        screen = Screen(self.hosts, self.options.seconds)
        deadline = time.monotonic() + self.options.seconds + END_SECONDS
        next_look = 0.0
        while any(host.is_running for host in self.hosts):
            time.sleep(DRAW_SECONDS)
            screen.show()
            if self.site is not None and time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK_SECONDS
                with contextlib.suppress(SiteError):  # told in the report
                    self.site.look(LOOK_SECONDS)
            has_failed = any(host.process.poll() for host in self.hosts)
            if has_failed and not self.is_stopping:  # the others may end, too
                self.stop()
            if time.monotonic() > deadline or self.interrupts > 2:
                self.kill()
        screen.show()

    def report(self) -> list[str]:
        """Prints how the hosts fared. Returns what went wrong."""
        pipeline, engine, queue = self.hosts
        problems = []
        recorded = {}
        try:
            assert self.site is not None
            rows = self.site.look()
            for host in self.hosts:
                if host.process.pid in rows:
                    row = rows[host.process.pid]
                    recorded[host] = recorded_facts(self.site, row)
        except SiteError as error:
            problems.append(str(error))
        for host, unit, extra in (
            (pipeline, "packets", pipeline_facts(pipeline, self.can_verify)),
            (engine, "trades", engine_facts(engine)),
            (queue, "jobs", queue_facts(queue)),
        ):
            print_host(host, unit, {**extra, **recorded.get(host, {})})
        for host in self.hosts:
            found = host.problems(was_interrupted=self.interrupts > 0)
            if host is queue and queue.result and not found:
                found = results_problems(self.results, queue.result["in"])
            problems += [f"{host.name}: {problem}" for problem in found]
        kept = {self.packets, self.results}
        left = [*self.scratch.iterdir()]
        left += [path for path in self.output.iterdir() if path not in kept]
        if not self.options.keep:  # a folder of the user's may hold anything
            problems += [f"left behind: {path.name}" for path in left]
        return problems


def segment_folder() -> "tempfile.TemporaryDirectory[str]":
    """Of the demo's own, in memory where that is to be had: what other programs
    publish is not shown, and nothing is left. What a killed demo left goes."""
    for left in Path(MEMORY).glob("memguard-demo-*-*"):
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.TemporaryDirectory(
        prefix=f"memguard-demo-{os.getpid()}-",
        dir=MEMORY if os.access(MEMORY, os.W_OK) else None,
        ignore_cleanup_errors=True,
    )


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
    parser.add_argument(
        "--job-rate", type=float, default=500.0, help="jobs a second (500)"
    )
    parser.add_argument(
        "--trade-rate", type=float, default=2000.0, help="trades a second (2000)"
    )
    parser.add_argument("--node", default="node", help="the Node to run (node)")
    options = parser.parse_args()
    for name in ("seconds", "job_rate", "trade_rate"):
        value = getattr(options, name)
        if not 0 < value < math.inf:
            option = name.replace("_", "-")
            parser.error(f"--{option} is {value:g}, not a number above 0")
    return options


def main() -> int:
    options = parse()
    with contextlib.ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(
            prefix="memguard-demo-", ignore_cleanup_errors=True
        )
        folder = Path(stack.enter_context(temporary))
        segments = Path(stack.enter_context(segment_folder()))
        demo = Demo(options, folder, segments)
        stack.callback(demo.close)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, demo.interrupt)
        try:
            demo.start()
            demo.watch()
        except BrokenPipeError:  # nobody reads on: end as if by Ctrl-C, quietly
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            demo.interrupt()
            demo.watch()
            if not demo.hosts:
                return 130
        except SiteError as error:
            sys.exit(f"demo: {error}")
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
