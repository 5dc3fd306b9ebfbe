"""`memguard rules`: what it prints is loaded by Prometheus, and each alert fires when
it should and does not when it should not, as promtool finds."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Tool

RULES = ROOT / "tests" / "rules"
GROUPS = {
    "memguard-memory": {
        "MemguardHighUsage", "MemguardCriticalUsage", "MemguardResidentHigh",
        "MemguardExhaustionPredicted", "MemguardRapidGrowth", "MemguardNativeGrowth",
    },
    "memguard-gc": {"MemguardGcCpuHigh", "MemguardGcPauseLong"},
    "memguard-leaks": {
        "MemguardLeak", "MemguardHeapLeak", "MemguardFdGrowth", "MemguardFdHigh",
        "MemguardPoolRentals",
    },
    "memguard-processes": {
        "MemguardOomKilled", "MemguardKilled", "MemguardServiceDown", "MemguardStale",
        "MemguardExporterDown",
    },
}  # fmt: skip


def promtool(*words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["promtool", *map(str, words)],
        capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def read(text: str) -> dict[str, list[dict[str, Any]]]:
    """Rules by group."""
    return {group["name"]: group["rules"] for group in yaml.safe_load(text)["groups"]}


@pytest.fixture
def folder(tool: Tool, tmp_path: Path) -> Path:
    """The rules, and the files that test them, side by side."""
    done = tool("rules")
    assert (done.code, done.err) == (0, "")
    (tmp_path / "memguard.rules.yml").write_text(done.out)
    for path in RULES.glob("*.yml"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_promtool_accepts_them(folder: Path) -> None:
    done = promtool("check", "rules", folder / "memguard.rules.yml")
    assert done.returncode == 0, done.stderr
    assert "SUCCESS: 18 rules found" in done.stdout


@pytest.mark.parametrize("name", ["memory", "gc", "leaks", "processes"])
def test_they_fire_when_they_should(folder: Path, name: str) -> None:
    done = promtool("test", "rules", folder / f"{name}.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_is_wrong_is_found(folder: Path) -> None:
    """That promtool looks at all."""
    path = folder / "memguard.rules.yml"
    path.write_text(path.read_text().replace("ratio > 0.80", "ratio > 0.99"))
    assert promtool("test", "rules", folder / "memory.yml").returncode == 1


def test_each_is_tested_both_ways() -> None:
    fires: set[str] = set()
    rests: set[str] = set()
    for path in RULES.glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case.get("exp_alerts") else rests).add(case["alertname"])
    everything = set().union(*GROUPS.values())
    assert fires == everything
    assert rests == everything


def test_each_is_whole(folder: Path) -> None:
    groups = read((folder / "memguard.rules.yml").read_text())
    assert {name: {rule["alert"] for rule in rules} for name, rules in groups.items()}
    for name, rules in groups.items():
        assert {rule["alert"] for rule in rules} == GROUPS[name]
        for rule in rules:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
            assert rule["annotations"]["runbook_url"].startswith(
                "http://{{ $labels.instance }}/assets/runbook.html#"
            )


def test_the_thresholds_that_were_asked_for(folder: Path) -> None:
    groups = read((folder / "memguard.rules.yml").read_text())
    rules = {rule["alert"]: rule for found in groups.values() for rule in found}
    for alert, bound, wait in [
        ("MemguardHighUsage", "> 0.80", "5m"),
        ("MemguardCriticalUsage", "> 0.90", "2m"),
        ("MemguardGcCpuHigh", "> 0.10", "3m"),
        ("MemguardLeak", "memguard_heap_objects[10m]", "5m"),
        ("MemguardResidentHigh", "> 1073741824", "5m"),
        ("MemguardGcPauseLong", "> 0.1", "2m"),
        ("MemguardFdGrowth", "[5m]) > 50", "3m"),
    ]:
        assert bound in rules[alert]["expr"]
        assert rules[alert]["for"] == wait


def test_metrics_exist_that_rules_name(folder: Path) -> None:
    text = (folder / "memguard.rules.yml").read_text()
    header = (ROOT / "include" / "memguard" / "metrics.h").read_text()
    there = set(re.findall(r'"(memguard_\w+)"', header))
    named = set(re.findall(r"\bmemguard_\w+", text))
    assert len(named) > 12
    for name in named:
        assert re.sub(r"(_seconds)_(sum|bucket)$", r"\1", name) in there


def test_options(tool: Tool) -> None:
    done = tool(
        "rules", "--group", "memguard-gc", "--group", "memguard-memory", "--rss", 200,
        "--label", "team=core", "--label", "why=it's: # {{ $labels.pid }}",
        "--runbook", "https://example.org/it's",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    groups = read(done.out)
    assert set(groups) == {"memguard-gc", "memguard-memory"}
    rule = groups["memguard-memory"][2]
    assert rule == {
        "alert": "MemguardResidentHigh",
        "expr": "memguard_process_resident_memory_bytes > 209715200",
        "for": "5m",
        "labels": {
            "severity": "warning",
            "team": "core",
            "why": "it's: # {{ $labels.pid }}",
        },
        "annotations": {
            "summary": (
                "Resident memory of {{ $labels.program }} ({{ $labels.pid }}) is high"
            ),
            "description": (
                "{{ $value | humanize1024 }}B are resident. "
                "`memguard snapshot {{ $labels.pid }}` tells what it holds."
            ),
            "runbook_url": "https://example.org/it's#resident_high",
        },
    }


def test_wrong_words(tool: Tool) -> None:
    for words, message in [
        (("x",), 'unexpected word "x"'),
        (("--group", "x"), '--group "x": memguard-memory, memguard-gc,'),
        (("--rss", "0"), '--rss "0": a number from 1'),
        (("--label", "x"), '--label "x": NAME=VALUE'),
        (("--label", "severity=info"), 'that is not "severity"'),
        (("--label", "1x=y"), '--label "1x=y": NAME=VALUE'),
        (("--label", "x=a\nb"), "its value has control characters"),
        (("--runbook", "javascript:x"), "a URL that begins with http://"),
        (("--runbook", "http://a b"), "a URL has no white space"),
    ]:
        done = tool("rules", *words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err


def test_nobody_takes_them(tool: Tool) -> None:
    with open("/dev/full", "w") as full:
        words = [
            os.environ.get("TOOL_UNDER_TEST", ROOT / "build/bin/memguard"),
            "rules",
        ]
        done = subprocess.run(words, stdout=full, timeout=60, check=False)
    assert done.returncode == 6
