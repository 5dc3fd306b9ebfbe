"""Counts what the test runners of `dev test` did.

    tally.py step STEPS LABEL KIND REPORT EXIT_CODE SECONDS
    tally.py again STEPS LABEL KIND REPORT EXIT_CODE SECONDS
    tally.py failed KIND REPORT
    tally.py total STEPS

`step` reads one runner's report, prints one line, appends the counts to the file
STEPS; it exits 1 if anything failed, and 3 if so few tests failed that a second
look at them alone is worth it. `again` reads the report of that second look: if all
of it passed, and none was skipped, the step's failures become unsteady tests.
`failed` prints the files of the tests that failed. `total` prints the sum of STEPS
as `N passed, N failed`, names what was unsteady, and exits 1 if anything failed.

Kinds of report: ctest (JUnit XML of ctest around cmocka programs), junit
(pytest), jest (--json), exit (the exit code alone is one test) and build (a
build that failed). A runner that failed without naming a test, that wrote no
report or that ran no test counts as one failure.
"""

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

WORTH_A_SECOND_LOOK = 5  # more failures than that are no accident


class Counts(NamedTuple):
    passed: int
    failed: int
    skipped: int = 0
    names: tuple[str, ...] = ()  # of the failed
    files: tuple[str, ...] = ()  # of those, where the report tells


def count_ctest(text: str) -> Counts:
    """Counts cmocka's tests; a program without any is one test itself."""
    passed = skipped = 0
    names: list[str] = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        output = case.findtext("system-out") or ""
        good = len(re.findall(r"^\[ +OK \]", output, re.MULTILINE))
        skipped += len(re.findall(r"^\[  SKIPPED \]", output, re.MULTILINE))
        # cmocka names each failed test twice: when it fails and in its summary.
        bad = set(re.findall(r"^\[  FAILED  \] (?!.*test\(s\))(.+)$", output, re.M))
        if case.get("status") == "run":
            passed += good or 1
        else:
            passed += good
            names += sorted(bad) or [case.get("name", "?")]
    return Counts(passed, len(names), skipped, tuple(names))


def count_junit(text: str) -> Counts:
    passed = skipped = 0
    names: list[str] = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            names.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Counts(passed, len(names), skipped, tuple(names))


def count_jest(text: str) -> Counts:
    report = json.loads(text)
    bad = [one for one in report["testResults"] if one["status"] == "failed"]
    names = [
        test["fullName"]
        for one in bad
        for test in one["assertionResults"]
        if test["status"] == "failed"
    ]
    # A file that does not even load has no tests, and fails as a suite.
    return Counts(
        report["numPassedTests"],
        report["numFailedTests"] + report["numRuntimeErrorTestSuites"],
        report["numPendingTests"] + report["numTodoTests"],
        tuple(names),
        tuple(one["name"] for one in bad),
    )


READERS = {"ctest": count_ctest, "junit": count_junit, "jest": count_jest}


def count(kind: str, report: str, code: int) -> tuple[Counts, str]:
    """The counts of one step and, where they need it, a word on why."""
    why = f"exit code {code}" if code else ""
    if kind in READERS:
        try:
            counts = READERS[kind](Path(report).read_text())
        except (OSError, ValueError, KeyError, ElementTree.ParseError) as error:
            return Counts(0, 1), f"no usable report, {error}"
        if counts.passed + counts.failed == 0:
            return counts._replace(failed=1), why or "no test ran"
    else:
        counts = Counts(int(code == 0), int(code != 0))
    if code and not counts.failed:
        counts = counts._replace(failed=1)
    return counts, why if counts.failed else ""


def line_of(label: str, counts: Counts, took: int, why: str) -> str:
    line = f"  {label:<20} {counts.passed:>5} passed {counts.failed:>4} failed"
    line += f" {counts.skipped:>3} skipped" if counts.skipped else " " * 12
    return f"{line} {took:>5} s  {why}".rstrip()


def write_row(steps: Path, label: str, counts: Counts, unsteady: str = "") -> None:
    with steps.open("a") as file:
        print(*counts[:3], label, unsteady, sep="\t", file=file)


def step(steps: Path, label: str, kind: str, report: str, code: int, took: int) -> int:
    counts, why = count(kind, report, code)
    print(line_of(label, counts, took, why), flush=True)
    write_row(steps, label, counts)
    if 0 < counts.failed == len(counts.names) <= WORTH_A_SECOND_LOOK:
        Path(report).with_suffix(".first").write_text("\n".join(counts.names))
        return 3
    return int(counts.failed > 0)


def again(steps: Path, label: str, kind: str, report: str, code: int, took: int) -> int:
    """The row of the first look makes place for one of both."""
    counts, why = count(kind, report, code)
    # Of jest's the others of the same files are there, as skipped.
    if kind != "jest" and counts.skipped and not counts.failed:
        counts, why = counts._replace(failed=counts.skipped, skipped=0), "skipped"
    print(line_of(f"{label}, again", counts, took, why), flush=True)
    if counts.failed:
        return 1
    rows = read_rows(steps)
    passed, failed, skipped, *_ = next(row for row in rows if row[3] == label)
    names = Path(report).with_suffix(".first").read_text().split("\n")
    steps.write_text("")
    for row in rows:
        if row[3] == label:
            both = Counts(int(passed) + int(failed), 0, int(skipped))
            write_row(steps, label, both, ", ".join(names))
        else:
            kept = Counts(int(row[0]), int(row[1]), int(row[2]))
            write_row(steps, row[3], kept, row[4])
    return 0


def read_rows(steps: Path) -> list[list[str]]:
    return [line.split("\t") for line in steps.read_text().splitlines()]


def total(steps: Path) -> int:
    rows = read_rows(steps)
    for _, _, _, label, unsteady in rows:
        if unsteady:
            print(f"unsteady (failed, then passed alone) in {label}: {unsteady}")
    failing = [row[3] for row in rows if int(row[1])]
    if failing:
        print(f"failed: {', '.join(failing)}")
    passed, failed = (sum(int(row[index]) for row in rows) for index in (0, 1))
    if not rows:
        failed = 1
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["step", steps, label, kind, report, code, took]:
            return step(Path(steps), label, kind, report, int(code), int(took))
        case ["again", steps, label, kind, report, code, took]:
            return again(Path(steps), label, kind, report, int(code), int(took))
        case ["failed", kind, report]:
            print(*READERS[kind](Path(report).read_text()).files, sep="\n")
            return 0
        case ["total", steps]:
            return total(Path(steps))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
