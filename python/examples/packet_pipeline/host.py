"""The packet pipeline's command line."""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import memguard

from . import capture, verify
from .report import Reporter
from .stages import CaptureError, Pipeline, Stopped

ROUND_SECONDS = 3.0  # longest capture of one round
REST_SECONDS = 2.5  # between rounds, so that memory can recover
ROUND_MEGABYTES = 40.0
CHILD_SECONDS = 30.0  # what a capture may take on top of its time
PACKAGE_ROOT = Path(__file__).resolve().parents[1]


class HostError(Exception):
    """Something the pipeline depends on failed; the text says what."""


OWN_ERRORS = (CaptureError, HostError, verify.VerificationError)


class Host:
    """Runs the pipeline once, over one file or over rounds of live traffic."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.signals = 0  # the first asks to end, the second not to verify
        self.inputs: list[Path] = []
        self.methods: list[str] = []
        self.dropped = 0
        self.verified: int | None = None

    def interrupt(self, *_: object) -> None:
        self.signals += 1

    def abandon(self) -> None:
        self.signals += 2

    def is_stopping(self) -> bool:
        return self.signals >= 1

    def is_hurried(self) -> bool:
        return self.signals >= 2

    def must_stop(self) -> bool:
        """Whether to leave a file: a round's is short, it is read to its end."""
        return self.options.input is not None and self.is_stopping()

    def run(self) -> None:
        """Raises CaptureError, HostError, Stopped, VerificationError, OSError."""
        options = self.options
        with (
            Pipeline(
                options.output,
                options.max_memory_mb,
                self.must_stop,
                fits_checksums=options.checksums == "fit",
                checks=options.check,
            ) as pipeline,
            Reporter(pipeline, options.json, self.abandon) as reporter,
        ):
            error: str | None = "stopped"
            try:
                if options.input:
                    self._process_files(pipeline, reporter)
                else:
                    self._process_rounds(pipeline, reporter)
                pipeline.finish()
                self._verify(reporter)
                error = None
            except Stopped:
                raise
            except Exception as reason:
                error = f"{type(reason).__name__}: {reason}"
                raise
            finally:
                reporter.end(
                    error=error,
                    files=len(self.inputs),
                    methods=self.methods,
                    dropped=self.dropped,
                    verified=self.verified,
                    output=str(options.output),
                    checksums=pipeline.check and pipeline.check.counts,
                    leak_detection=pipeline.leaks.as_dict()["leak_detection"],
                )
            self._summarize(pipeline, reporter)

    def _process_files(self, pipeline: Pipeline, reporter: Reporter) -> None:
        reporter.phase = "mask"
        for path in self.options.input:
            self.inputs.append(path)
            pipeline.run(path)

    def _process_rounds(self, pipeline: Pipeline, reporter: Reporter) -> None:
        manager = pipeline.write.resource_manager
        folder = Path(tempfile.mkdtemp(prefix="packet-pipeline-"))
        manager.register_cleanup_callback(lambda: shutil.rmtree(folder))
        deadline = time.monotonic() + self.options.seconds
        while not self.is_stopping():
            left = deadline - time.monotonic()
            if left <= 0.2:
                break
            path = folder / f"round-{len(self.inputs)}.pcap"
            manager.register_temp_file(str(path))
            reporter.phase = "capture"
            if not self._capture(path, min(ROUND_SECONDS, left)):
                break
            self.inputs.append(path)
            reporter.phase = "mask"
            pipeline.run(path)
            if not self.options.verify:
                path.unlink()
            reporter.phase = "rest"
            pipeline.write.give_back()
            self._rest(min(REST_SECONDS, deadline - time.monotonic()))

    def _rest(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_stopping() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _capture(self, path: Path, seconds: float) -> bool:
        """Returns False if it was told to stop before it had begun."""
        command = [
            sys.executable, "-m", "packet_pipeline.traffic", "--output", str(path),
            "--seconds", str(seconds), "--megabytes", str(self.options.megabytes),
            "--capture", self.options.capture,
        ]  # fmt: skip
        # Its own process group: Ctrl-C reaches this process alone, which passes it on.
        child = subprocess.Popen(
            command, cwd=PACKAGE_ROOT, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
        )  # fmt: skip
        deadline = time.monotonic() + seconds + CHILD_SECONDS
        was_told = False
        try:
            while True:
                try:
                    said, complaint = child.communicate(timeout=0.1)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() > deadline:
                        raise HostError("the traffic did not end in time") from None
                    if self.is_stopping() and not was_told:
                        child.terminate()
                        was_told = True
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
        if was_told and child.returncode == -signal.SIGTERM:
            return False
        if child.returncode:
            reason = complaint.strip().rpartition("\n")[2]
            raise HostError(reason or f"traffic ended with {child.returncode}")
        result = json.loads(said)
        if result["method"] not in self.methods:
            self.methods.append(result["method"])
        self.dropped += result["dropped"]
        return True

    def _verify(self, reporter: Reporter) -> None:
        if not self.options.verify:
            return
        reporter.phase = "verify"
        if not verify.is_available():
            raise HostError("--verify needs tshark, which is not installed")
        self.verified = verify.verify(self.inputs, self.options.output, self.is_hurried)

    def _summarize(self, pipeline: Pipeline, reporter: Reporter) -> None:
        say = reporter.say
        for method in self.methods:
            say(f"captured with: {method}")
        say(
            f"{pipeline.read.packets:,} packets in, {pipeline.write.packets:,} out "
            f"({self.options.output})"
        )
        if pipeline.check is not None:
            counts = pipeline.check.counts.items()
            say("checksums: " + ", ".join(f"{n:,} {kind}" for kind, n in counts))
        say(
            f"peak rss {reporter.peak_bytes / 2**20:.1f} of "
            f"{self.options.max_memory_mb:g} MB"
        )
        for finding in pipeline.leaks.findings:
            if finding.tier != "suspect":  # what is only suspected is no alarm
                say(str(finding))
        if self.verified is not None:
            say(f"tshark reads the same {self.verified:,} packets in both")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="packet_pipeline",
        description="Masks the payloads of packets: of capture files, or of loopback "
        "traffic that it makes and captures by itself.",
        epilog="Exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped before the "
        "input had ended. Live traffic may be stopped at any time: that is no failure.",
    )
    parser.add_argument(
        "--input", type=Path, nargs="+", metavar="FILE",
        help="capture files, one after the other; default: live",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="the masked pcap")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of live traffic (10)"
    )
    parser.add_argument("--max-memory-mb", type=float, default=64.0, help="(64)")
    parser.add_argument(
        "--megabytes", type=float, default=ROUND_MEGABYTES,
        help=f"of live traffic in one round at most ({ROUND_MEGABYTES:g})",
    )  # fmt: skip
    parser.add_argument(
        "--capture", choices=["auto", *capture.METHODS], default="auto",
        help="how to capture live traffic (auto: the first that is permitted)",
    )  # fmt: skip
    parser.add_argument(
        "--checksums", choices=["fit", "keep"], default="fit",
        help="fit: make them right for the masked payload; keep: as captured (fit)",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true", help="count wrong checksums of the input"
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare input and output with tshark"
    )
    parser.add_argument(
        "--json", action="store_true", help="report in JSON lines, one a second"
    )
    options = parser.parse_args(arguments)
    for name in ("seconds", "megabytes"):
        if not 0 < getattr(options, name) < math.inf:
            parser.error(f"--{name}: {getattr(options, name):g} is not above 0")
    for path in options.input or ():
        if path.resolve() == options.output.resolve():
            parser.error(f"--output: {path} is an input")
    if not options.output.absolute().parent.is_dir():
        parser.error(f"--output: no folder {options.output.parent}")
    return options


def main() -> int:
    options = parse()
    host = Host(options)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, host.interrupt)
    try:
        host.run()
    except Stopped:
        print("packet_pipeline: stopped; no output kept", file=sys.stderr)
        return 130
    except (*OWN_ERRORS, memguard.MemguardError, OSError) as error:
        print(f"packet_pipeline: {error}", file=sys.stderr)
        return 1
    return 0
