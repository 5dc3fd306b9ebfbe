"""Writes the reference pages from the tables they describe.

    generate.py [--check]

With --check nothing is written; exit code 1 if a page is not what it should be.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import performance
import reference
from html_page import body
from readme_figures import with_figures

DOCS = Path(__file__).resolve().parent
TOOL = DOCS.parent / "build" / "bin" / "memguard"
FROM = "<!-- Made by docs/generate.py; change what it is made from instead. -->"

CONFIGURATION = """# Configuration

{from_}

The same keys everywhere: a mapping or object given to a manager, a YAML, JSON or TOML
file, `MEMGUARD_*` variables, or a named profile. What is given to a manager comes
before the environment, that before a file, that before a profile. Case, `_` and `-`
do not matter in names: `maxMemoryMb` is `max_memory_mb`. A bare name is enough where
only one section has it; `section.name`, nested mappings and the other names work
everywhere.

- Variables are `MEMGUARD_` and the key, with or without its section:
  `MEMGUARD_MAX_MEMORY_MB=512`, `MEMGUARD_MEMORY_GC_INTERVAL=5m`. Unknown ones are an
  error. `MEMGUARD_PROFILE` names the profile, `MEMGUARD_CONFIG` the file.
- A duration without a unit is seconds, or milliseconds if the name used ends in `ms`.
- Between keys: `low_water_mark_percent` < `high_water_mark_percent` <=
  `alert_threshold` <= `force_gc_threshold`; `min_buffer_size` <=
  `default_buffer_size` <= `max_buffer_size`; warnings <= their criticals. What you did
  not set moves to fit; two that you set and that contradict are an error.
- The tool (`run --config`, `check-config`) reads YAML and JSON; TOML is for the
  runtimes.

A wrong key names the nearest right one, a wrong value names what is allowed. A change
at run time (`update_config`, `updateConfig`, `PUT /api/v1/memory/config`) takes
effect whole or not at all. `memguard check-config FILE` says what a file amounts to;
`memguard check-config --keys` prints this table.
"""


def configuration() -> Iterator[str]:
    listing = subprocess.run(
        [TOOL, "check-config", "--keys", "--json"], capture_output=True, check=True
    )
    keys: list[dict[str, Any]] = json.loads(listing.stdout)["keys"]
    yield CONFIGURATION.format(from_=FROM)
    for section in dict.fromkeys(key["section"] for key in keys):
        yield f"\n## {section}\n"
        for key in keys:
            if key["section"] == section:
                yield from setting(key)


def setting(key: dict[str, Any]) -> Iterator[str]:
    unit = "" if key["unit"] in ("", "ms") else f" {key['unit']}"
    yield f"\n**`{key['name']}`** = {key['default']}{unit}\\\n"
    yield f"{key['doc'][0].upper()}{key['doc'][1:]}.\\\n"
    allowed = key["value"]
    if key["default"] not in ("true", "false") and "simple" not in allowed:
        allowed += f"; {key['least']} to {key['most']}{unit}"
    told = [f"Allowed: {allowed}"]
    if key["profiles"]:
        values = (f"{name} {value}{unit}" for name, value in key["profiles"].items())
        told.append(f"Profiles: {', '.join(values)}")
    if key["aliases"]:
        told.append("Also: " + ", ".join(f"`{a}`" for a in key["aliases"].split()))
    yield ". ".join(told) + ".\n"


METRICS = """# Metrics

{from_}

What `/metrics` says, of `memguard exporter`, `serve()` and a mounted site, and with
`metrics_text()` or `metricsText()` of the process itself: Prometheus text format
0.0.4, or OpenMetrics 1.0.0 for a client that prefers it. `collect_metrics()` and
`collectMetrics()` give the same as objects, the bridges put them into
prometheus_client, prom-client and OpenTelemetry. `memguard rules` prints alerts on
them, `memguard rules --grafana` a dashboard, `memguard exporter --list-metrics --json`
this table.

Labels of everything a process shows: `pid`, `program`, `runtime`. More of them stand in
brackets. What is not known is left out: never 0, never NaN. How numbers are made stands
in [metrics.h](../include/memguard/metrics.h).

A metric is of Python and Node unless its last column names one of them; *exporter* is
what only a look from outside can know.
"""
COMPATIBLE = """
## Compatible

The same numbers under names that programs had before.
`collect_metrics(compatible=False)` and `collectMetrics({ compatible: false })` leave
them out.

"""
HEAD = "| Name | Type | Unit | Meaning | Of |\n|---|---|---|---|---|\n"
# tests/docs/test_metrics.py compares these with what processes show.
ONLY = {
    "Python": (
        "memguard_gc_collected_objects_total",
        "memguard_heap_objects",
        "memory_heap_objects",
    ),
    "Node": (
        "memguard_allocated_bytes_total",
        "memguard_array_buffer_memory_bytes",
        "memguard_external_memory_bytes",
        "memguard_heap_limit_bytes",
        "memory_total_alloc_bytes",
    ),
    "exporter": (
        "memguard_process_ends_total",
        "memguard_processes_omitted",
        "memguard_service_alerts_total",
        "memguard_service_gc_collections_total",
        "memguard_service_gc_seconds_total",
        "memguard_service_reclaim_freed_bytes_total",
        "memguard_service_reclaim_rounds_total",
    ),
}


def metric_rows() -> list[dict[str, str]]:
    listing = subprocess.run(
        [TOOL, "exporter", "--list-metrics", "--json"], capture_output=True, check=True
    )
    rows: list[dict[str, str]] = json.loads(listing.stdout)["metrics"]
    return rows


def metrics() -> Iterator[str]:
    yield METRICS.format(from_=FROM)
    for group, title in (
        ("canonical", "\n## Canonical\n\n"),
        ("compatible", COMPATIBLE),
    ):
        yield title
        yield HEAD
        for row in metric_rows():
            if row["group"] == group:
                only = "".join(who for who in ONLY if row["name"] in ONLY[who])
                words = (f"`{row['name']}`", row["type"], row["unit"], row["help"])
                yield f"| {' | '.join(words)} | {only} |\n"


RUNBOOK = """<!doctype html>
{from_}
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="dark light">
<title>memguard runbook</title>
<link rel="icon" type="image/svg+xml" href="favicon.svg">
<link rel="stylesheet" href="style.css">
<link rel="stylesheet" href="runbook.css">
</head>
<body>
<main class="prose">
"""


def runbook() -> Iterator[str]:
    """The runbook as the site serves it, beside its other files."""
    yield RUNBOOK.format(from_=FROM)
    yield from body((DOCS / "runbook.md").read_text(encoding="utf-8"))
    yield "</main>\n</body>\n</html>\n"


PAGES = {
    "configuration.md": configuration,
    "metrics.md": metrics,
    "../core/web/runbook.html": runbook,
    "performance.md": lambda: performance.page(FROM),
    "reference-c.md": lambda: reference.c(FROM),
    "reference-node.md": lambda: reference.node(FROM),
    "reference-python.md": lambda: reference.python(FROM),
    "../README.md": lambda: with_figures("README.md"),
    "../README.zh.md": lambda: with_figures("README.zh.md"),
}


def main(words: list[str]) -> int:
    stale = []
    for name, write in PAGES.items():
        page, content = DOCS / name, "".join(write())
        if words == ["--check"]:
            if not page.exists() or page.read_text(encoding="utf-8") != content:
                stale.append(name)
        else:
            page.write_text(content, encoding="utf-8")
    if stale:
        print(f"not current: {', '.join(stale)}; run python docs/generate.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
