"""leaks.*: programs that leak, the same ones repaired, and programs that seem to.

The corpus is tests/leaks/corpus_python.json and corpus_node.json; tests/leaks/judge.py
runs each program under memguard as it is. The packages it needs are installed into
build/leaks/, once. What every run told is kept in build/leaks/verdicts.json.

recall        part of the leaks that an alarm (likely or more) was given for
false_alarms  programs without a leak that an alarm was given for
culprit       part of the leaks found whose culprit is named, among the first three

Peers, on the same runs: `leaks.*` a Mann-Kendall trend test of the resident set,
`leaks_gc.*` growth over five full collections in a row. They name nobody.
"""

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import ROOT, row, some

LEAKS = ROOT / "tests" / "leaks"
KEPT = ROOT / "build" / "leaks"
SECONDS = 60.0
TIME_SCALE = 30.0
AT_ONCE = 4  # programs are paced: they wait most of the time
NAMED = 3  # culprits that count

sys.path.insert(0, str(LEAKS))
from judge import judge  # noqa: E402 - beside the programs


@dataclass
class Case:
    """One program in one of its variants."""

    about: dict[str, Any]  # its row of the corpus
    variant: str  # leaky or fixed

    @property
    def name(self) -> str:
        return f"{self.about['name']} {self.variant}"

    @property
    def runtime(self) -> str:
        return str(self.about["runtime"])

    @property
    def is_leaky(self) -> bool:
        return self.variant == "leaky"


def corpus(folder: Path = LEAKS) -> list[Case]:
    rows = [
        about
        for file in sorted(folder.glob("corpus_*.json"))
        for about in json.loads(file.read_text())
    ]
    return [
        Case(about, variant)
        for about in some(rows)
        for variant in ("leaky", "fixed")
        if variant in about
    ]


# --- What a program needs ----------------------------------------------------------


def interpreter(version: str) -> Path:
    """The environment of that Python which ./dev made; "": the one running."""
    mine = "{}.{}".format(*sys.version_info[:2])
    if version in ("", mine):
        return Path(sys.executable)
    return ROOT / f".venv-{version}" / "bin" / "python"


def install_python(python: Path, packages: list[str]) -> Path:
    """Installs wheels into a folder of their own, if it is not there. @return it."""
    version = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    folder = KEPT / "pypi" / f"{'+'.join(packages)}-python{version}"
    if not folder.exists():
        # Made beside and moved in whole: a broken install is not taken for a cache.
        draft = folder.with_name(f".{folder.name}")
        options = ["-q", "--disable-pip-version-check", "--only-binary=:all:"]
        subprocess.run(
            [
                python,
                "-m",
                "pip",
                "install",
                *options,
                "--upgrade",
                "-t",
                draft,
                *packages,
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=300,
        )
        draft.rename(folder)
    return folder


def python_command(case: Case) -> tuple[list[str], dict[str, str]]:
    words = [word for word in case.about[case.variant].split(",") if word]
    version = "".join(w.removeprefix("python@") for w in words if "@" in w)
    packages = [word for word in words if "@" not in word]
    python = interpreter(version)
    variables = {}
    if packages:
        variables["PYTHONPATH"] = str(install_python(python, packages))
    return [str(python), str(LEAKS / case.about["file"])], variables


def node_command(case: Case) -> tuple[list[str], dict[str, str]]:
    """A program of Node gets its packages from the folder LEAK_MODULES."""
    spec = case.about[case.variant]
    program = str(LEAKS / case.about["file"])
    if not spec:
        return ["node", program], {}
    place = subprocess.run(
        ["node", str(LEAKS / "install.js"), spec],
        check=True,
        capture_output=True,
        text=True,
        timeout=400,
    ).stdout.strip()
    if spec.startswith("node@"):
        return [place, program], {}
    return ["node", program], {"LEAK_MODULES": place}


def command(case: Case) -> tuple[list[str], dict[str, str]]:
    words, variables = {"python": python_command, "node": node_command}[case.runtime](
        case
    )
    return words, {"LEAK_USE": case.variant, **variables}


# --- Runs --------------------------------------------------------------------------


def is_named(case: Case, verdict: dict[str, Any]) -> bool:
    """Whether the culprit is among the first of any finding."""
    return any(
        re.search(case.about["culprit"], f"{culprit['kind']} {culprit['name']}")
        for finding in verdict["findings"]
        for culprit in finding["culprits"][:NAMED]
    )


def show(case: Case, verdict: dict[str, Any]) -> None:
    found = "-"
    if verdict["detected"]:
        found = (
            f"{verdict['tier']} {verdict['signal']} after {verdict['seconds']} s,"
            f" {verdict['operations']} operations"
        )
    elif verdict["suspected"]:
        found = f"suspected: {', '.join(verdict['suspected'])}"
    right = verdict["detected"] == case.is_leaky
    who = "; ".join(verdict["culprits"][:NAMED])
    named = "" if not (case.is_leaky and verdict["detected"]) else "culprit: "
    named += "" if not named or is_named(case, verdict) else "WRONG "
    print(
        f"  {case.name:<26} {case.about['kind']:<28.28} {'' if right else 'WRONG '}"
        f"{found}  {named}{who}",
        flush=True,
    )


def run(case: Case, words: list[str], variables: dict[str, str]) -> dict[str, Any]:
    verdict = judge(words, case.name, SECONDS, TIME_SCALE, variables)
    if verdict["status"] != 0:
        raise RuntimeError(f"{case.name} ended with {verdict['status']}")
    show(case, verdict)
    return verdict


def run_all(cases: list[Case]) -> list[tuple[Case, dict[str, Any]]]:
    ready = [(case, *command(case)) for case in cases]  # before any is timed
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(run, *one) for one in ready]
        results = [
            (case, one.result()) for case, one in zip(cases, waiting, strict=True)
        ]
    kept = [{"leaky": case.is_leaky, **verdict} for case, verdict in results]
    (KEPT / "verdicts.json").write_text(json.dumps(kept, indent=1) + "\n")
    return results


Results = list[tuple[Case, dict[str, Any]]]


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def totals(name: str, results: Results, peer: str, peer_name: str) -> Iterator[Any]:
    leaks = [(case, verdict) for case, verdict in results if case.is_leaky]
    sound = [verdict for case, verdict in results if not case.is_leaky]
    found = [(case, verdict) for case, verdict in leaks if verdict["detected"]]
    yield row(
        f"{name}.recall",
        "1",
        share([verdict["detected"] for _, verdict in leaks]),
        share([verdict["peers"][peer] for _, verdict in leaks]),
        peer_name,
    )
    yield row(
        f"{name}.false_alarms",
        "",
        sum(verdict["detected"] for verdict in sound),
        sum(verdict["peers"][peer] for verdict in sound),
        f"{peer_name}, of {len(sound)}",
    )
    yield row(
        f"{name}.culprit", "1", share([is_named(*one) for one in found]), 0.0, peer_name
    )


def rows() -> Iterator[dict[str, Any]]:
    KEPT.mkdir(parents=True, exist_ok=True)
    results = run_all(corpus())
    times = [v["seconds"] for c, v in results if c.is_leaky and v["detected"]]
    if times:
        print(
            f"  an alarm comes after {statistics.median(times):.0f} s, half of them;"
            f" time goes {TIME_SCALE:g} times as fast"
        )
    yield from totals("leaks", results, "mann_kendall", "Mann-Kendall on RSS")
    yield from totals("leaks_gc", results, "collections", "5 growing collections")
    for runtime in sorted({case.runtime for case, _ in results}):
        mine = [(case, verdict) for case, verdict in results if case.runtime == runtime]
        yield from totals(
            f"leaks.{runtime}", mine, "mann_kendall", "Mann-Kendall on RSS"
        )
