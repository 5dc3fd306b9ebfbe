"""metrics.*: a process as text for a scraper.

See metrics.c for what is rendered from segments, metrics.js for Node. The peers are
what the clients do by default: generate_latest() of prometheus_client with its own
collectors (some 30 lines; memguard's text has some 300), register.metrics() of
prom-client with collectDefaultMetrics(). The project's goals are 100 us to render a
process and 50 ms to scrape 200 of them.
"""

import json
from collections.abc import Iterator
from typing import Any

import memguard
from measure import ROOT, output_of, python_ns, row
from prometheus_client import generate_latest

CLIENT = "prometheus_client.generate_latest()"


def rows() -> Iterator[dict[str, Any]]:
    peer = python_ns("generate()", {"generate": generate_latest}, 1000)
    for line in output_of([f"{ROOT}/build/bench_metrics"]).splitlines():
        name, ours = line.split()
        if name == "metrics.scrape200":
            of = f"200 times {CLIENT}"
            yield row(name, "ms", float(ours) / 1e6, 200 * peer / 1e6, of)
        else:
            yield row(name, "us", float(ours) / 1e3, peer / 1e3, CLIENT)
    with memguard.ResourceManager():
        ours = python_ns("text()", {"text": memguard.metrics_text}, 1000)
    yield row("metrics.text.python", "us", ours / 1e3, peer / 1e3, CLIENT)
    for line in output_of(["node", f"{ROOT}/bench/metrics.js"]).splitlines():
        found = json.loads(line)
        yield row(**found)
