"""Counts what the test runners of `dev test` did.

    tally.py step STEPS LABEL KIND REPORT EXIT_CODE SECONDS
    tally.py total STEPS

`step` reads one runner's report, prints one line, appends the counts to the file
STEPS and exits 1 if anything failed. `total` prints the sum of STEPS as
`N passed, N failed` and exits 1 if anything failed.

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


class Counts(NamedTuple):
    passed: int
    failed: int
    skipped: int = 0


def count_ctest(text: str) -> Counts:
    """Counts cmocka's tests; a program without any is one test itself."""
    passed = failed = skipped = 0
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
            failed += len(bad) or 1
    return Counts(passed, failed, skipped)


def count_junit(text: str) -> Counts:
    passed = failed = skipped = 0
    for case in ElementTree.fromstring(text).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Counts(passed, failed, skipped)


def count_jest(text: str) -> Counts:
    report = json.loads(text)
    # A file that does not even load has no tests, and fails as a suite.
    return Counts(
        report["numPassedTests"],
        report["numFailedTests"] + report["numRuntimeErrorTestSuites"],
        report["numPendingTests"] + report["numTodoTests"],
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


def step(steps: Path, label: str, kind: str, report: str, code: int, took: int) -> int:
    counts, why = count(kind, report, code)
    line = f"  {label:<20} {counts.passed:>5} passed {counts.failed:>4} failed"
    line += f" {counts.skipped:>3} skipped" if counts.skipped else " " * 12
    print(f"{line} {took:>5} s  {why}".rstrip(), flush=True)
    with steps.open("a") as file:
        print(*counts, label, sep="\t", file=file)
    return int(counts.failed > 0)


def total(steps: Path) -> int:
    rows = [line.split("\t") for line in steps.read_text().splitlines()]
    failing = [label for _, failed, _, label in rows if int(failed)]
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
        case ["total", steps]:
            return total(Path(steps))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
