"""Runs a program under memguard, unchanged, and says whether it leaks.

    judge.py [--seconds N] [--time-scale K] [--until-alarm] [--name NAME]
             [--json FILE] -- CMD...

Prints the verdict as JSON: {program, detected, tier, signal, seconds, operations,
culprits, findings, peers, status}. `seconds` and `operations`: when the alarm was
given, that is, a finding was likely or more; `operations` is the number that the
program printed last. `peers`: what other rules say of the same run: a Mann-Kendall
test of the resident set, and growth over five full collections in a row.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ALARMS = ("likely", "confirmed", "critical")
LIMIT_MB = 128.0  # what a program may use, as in a small container
SAMPLE_S = 0.5
GRACE_S = 30.0  # a program that does not end by itself
NAMING_S = 5.0  # from an alarm on, for who it is
MANN_KENDALL_Z = 2.326  # one-sided, p < 0.01
COLLECTIONS = 5


@dataclass
class Watched:
    """What is seen of a program from outside."""

    began: float
    counts: list[tuple[float, int]] = field(default_factory=list)
    resident_pages: list[int] = field(default_factory=list)

    def operations(self, at: float) -> int | None:
        """Those it had told of at a time."""
        return max((count for told, count in self.counts if told <= at), default=None)


def rises(values: list[int], z_needed: float = MANN_KENDALL_Z) -> bool:
    """Mann (1945), Kendall (1975): whether values have an upward trend."""
    n = len(values)
    if n < 8:
        return False
    score = sum(
        (later > earlier) - (later < earlier)
        for at, earlier in enumerate(values)
        for later in values[at + 1 :]
    )
    ties = {value: values.count(value) for value in set(values)}.values()
    variance = n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)
    return variance > 0 and (score - 1) / math.sqrt(variance / 18) > z_needed


def grows(live: list[int], times: int = COLLECTIONS) -> bool:
    """The rule of node-memwatch: more is live after each of so many collections."""
    row = 0
    for earlier, later in itertools.pairwise(live):
        row = row + 1 if later > earlier else 0
        if row >= times:
            return True
    return False


def environment(verdict: Path, time_scale: float, seconds: float) -> dict[str, str]:
    paths = [str(HERE / "launch"), os.environ.get("PYTHONPATH", "")]
    options = [os.environ.get("NODE_OPTIONS", ""), f"--require {HERE / 'launch.js'}"]
    return os.environ | {
        "LEAK_VERDICT": str(verdict),
        "LEAK_TIME_SCALE": f"{time_scale:g}",
        "LEAK_LIMIT_MB": f"{LIMIT_MB:g}",
        "LEAK_SECONDS": f"{seconds:g}",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "NODE_OPTIONS": " ".join(filter(None, options)),
    }


def last_number(line: str) -> int | None:
    words = [word for word in line.split() if word.isdigit()]
    return int(words[0]) if words else None


def listen(program: "subprocess.Popen[str]", watched: Watched) -> None:
    assert program.stdout is not None
    for line in program.stdout:
        if (count := last_number(line)) is not None:
            watched.counts.append((time.time(), count))


def run(
    command: list[str],
    variables: dict[str, str],
    seconds: float,
    is_enough: Callable[[], bool],
) -> tuple[Watched, int]:
    """@return what was seen of it, and its exit status: 0 if it was ended early."""
    watched = Watched(time.time())
    with tempfile.TemporaryFile("w+") as errors:
        program = subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        listener = threading.Thread(target=listen, args=(program, watched))
        listener.start()
        try:
            end = time.monotonic() + seconds + GRACE_S
            while program.poll() is None and time.monotonic() < end:
                if is_enough():
                    program.kill()
                    program.wait()
                    return watched, 0
                with contextlib.suppress(OSError, IndexError):
                    statm = Path(f"/proc/{program.pid}/statm").read_text()
                    watched.resident_pages.append(int(statm.split()[1]))
                time.sleep(SAMPLE_S)
        finally:
            if program.poll() is None:
                program.kill()
            status = program.wait()
            listener.join()
            program.stdout.close()
        if status != 0:
            errors.seek(0)
            sys.stderr.write(errors.read()[-2000:])
    return watched, status


def told(verdict: Path) -> list[dict[str, Any]]:
    """Lines of the launcher; the last may be half written."""
    lines = []
    if verdict.exists():
        for line in verdict.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
    return lines


def alarm_time(lines: list[dict[str, Any]]) -> float | None:
    """When an alarm was first told of."""
    alarms = (
        line["at"] for line in lines if any(map(is_alarm, line.get("findings", [])))
    )
    return next(alarms, None)


def is_alarm(finding: dict[str, Any]) -> bool:
    return finding["tier"] in ALARMS


def judged(name: str, watched: Watched, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What the lines of a run amount to."""
    findings: dict[str, dict[str, Any]] = {}  # of each signal the last alarm
    alarm_at, first = None, None
    suspected: list[str] = []
    for line in lines:
        for finding in line.get("findings", []):
            if finding["signal"] not in suspected:
                suspected.append(finding["signal"])
            if not is_alarm(finding):
                continue
            findings[finding["signal"]] = finding
            if alarm_at is None:
                alarm_at, first = line["at"], finding
    culprits = [
        f"{culprit['kind']} {culprit['name']}"
        for finding in findings.values()
        for culprit in finding["culprits"]
    ]
    tiers = [finding["tier"] for finding in findings.values()]
    return {
        "program": name,
        "detected": alarm_at is not None,
        "tier": max(
            tiers, key=ALARMS.index, default="suspect" if suspected else "none"
        ),
        "signal": first["signal"] if first else None,
        "seconds": round(alarm_at - watched.began, 1) if alarm_at else None,
        "operations": watched.operations(alarm_at) if alarm_at else None,
        "culprits": culprits,
        "suspected": suspected,
        "findings": list(findings.values()),
        "peers": {
            "mann_kendall": rises(watched.resident_pages),
            "collections": grows([line["live"] for line in lines if "live" in line]),
        },
    }


def judge(
    command: list[str],
    name: str = "",
    seconds: float = 60.0,
    time_scale: float = 30.0,
    variables: dict[str, str] | None = None,
    until_alarm: bool = False,
) -> dict[str, Any]:
    """Runs `command` for `seconds`, or until shortly after an alarm.

    @return the verdict."""
    with tempfile.TemporaryDirectory(prefix="memguard-leak-") as folder:
        verdict = Path(folder) / "verdict"
        settings = environment(verdict, time_scale, seconds)
        for key, value in (variables or {}).items():
            before = settings.get(key) if key == "PYTHONPATH" else None
            settings[key] = f"{before}{os.pathsep}{value}" if before else value

        def is_enough() -> bool:
            alarm_at = alarm_time(told(verdict)) if until_alarm else None
            return alarm_at is not None and time.time() > alarm_at + NAMING_S

        watched, status = run(command, settings, seconds, is_enough)
        result = judged(name or Path(command[-1]).stem, watched, told(verdict))
    return result | {"status": status}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--time-scale", type=float, default=30.0)
    parser.add_argument("--until-alarm", action="store_true")
    parser.add_argument("--name", default="")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    options = parser.parse_args(argv)
    command = options.command[options.command[:1] == ["--"] :]
    if not command:
        parser.error("which program?")
    verdict = judge(
        command,
        options.name,
        options.seconds,
        options.time_scale,
        until_alarm=options.until_alarm,
    )
    text = json.dumps(verdict, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)
    return int(verdict["detected"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
