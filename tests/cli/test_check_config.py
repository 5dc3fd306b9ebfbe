"""Configuration files that are right, and those that say what is wrong."""

from pathlib import Path

import pytest
from conftest import Tool

GOOD = """
memory:
  monitor_interval: 30s
  high_water_mark_percent: 80.0
  low_water_mark_percent: 60.0
  alert_threshold: 90.0
  enable_auto_gc: true
  gc_interval: 5m
  force_gc_threshold: 95.0
  max_memory_mb: 1024
  max_heap_mb: 512
"""


def test_a_good_file(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    done = tool("check-config", path)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{path}: good, 9 settings, profile default\n")
    assert "\n  memory.gc_interval = 300000 ms\n" in done.out
    settings = tool("check-config", path, "--json").json()["settings"]
    assert settings["max_memory_mb"] == {"value": 1024, "unit": "MB", "is_set": True}
    assert settings["sample_interval"]["is_set"] is False


def test_json_and_a_profile(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_text('{\n\t"memory": {"max_memory_mb": 300, "enable_auto_gc": false}}')
    found = tool("check-config", path, "--profile", "production", "--json").json()
    assert found["profile"] == "production"
    assert found["settings"]["max_memory_mb"]["value"] == 300
    assert found["settings"]["gc_interval"]["value"] == 600000


@pytest.mark.parametrize("content", ["", "# nothing\n", "{}"])
def test_an_empty_file(tool: Tool, tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.yml"
    path.write_text(content)
    assert (
        tool("check-config", path).out == f"{path}: good, 0 settings, profile default\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "memory:\n  max_memory_mbb: 5\n",
            ":2: unknown key memory.max_memory_mbb; the nearest",
        ),
        ("memory:\n  max_memory_mb: -1\n", ":2: "),
        ("memory:\n  max_memory_mb: lots\n", "lots"),
        ("memory:\n  max_memory_mb: [1, 2]\n", ":2: "),
        ("memory:\n  max_memory_mb:\n", "null"),
        ("memory:\n  max_memory_mb:\n    deep: 1\n", ":3: "),
        ("- 1\n", "holds no mapping"),
        ("memory: [\n", ":2: did not find expected node content"),
        (
            "memory: {high_water_mark_percent: 50, low_water_mark_percent: 70}\n",
            "low_water_mark",
        ),
        ("? [a]\n: 1\n", ":1: a key must be text"),
    ],
)
def test_a_wrong_file(tool: Tool, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    done = tool("check-config", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"memguard check-config: {path}")
    assert message in done.err


def test_no_file(tool: Tool, tmp_path: Path) -> None:
    assert tool("check-config").code == 2
    assert tool("check-config", tmp_path / "none.yaml").code == 4
    assert "TOML is read by the runtimes only" in tool("check-config", "x.toml").err
    assert "allowed: .yaml, .yml, .json" in tool("check-config", "x.ini").err


def test_the_list_of_keys(tool: Tool) -> None:
    keys = {
        row["name"]: row
        for row in tool("check-config", "--keys", "--json").json()["keys"]
    }
    assert keys["gc_interval"] == {
        "section": "memory",
        "name": "gc_interval",
        "value": 'seconds, or text such as "250ms", "30s" or "5m"',
        "unit": "ms",
        "default": "5m",
        "least": "0",
        "most": "1d",
        "profiles": {"production": "10m", "high-load": "3m"},
        "aliases": "memory.gc_interval_ms",
        "doc": "least time between two rounds of reclaiming at the same level; a "
        "higher level, a forced step at force_gc_threshold and byte_aware_gc do not "
        "wait for it",
    }
    assert keys["enable_auto_gc"]["default"] == "true"
    text = tool("check-config", "--keys").out
    assert text.startswith("memory.enabled = true\n    false: nothing is sampled")
    assert "\nmemory.max_memory_mb = 2048 MB\n" in text
    assert tool("check-config", "--keys", "x.yaml").code == 2
