"""leaks.sim.*: simulated lives, harmless and leaking, see leak_sim.c.

`false`: percent of harmless days with a new alarm, of all shapes (`likely`,
`collections`, `confirmed`) and by shape. `found`: percent of leaks told within two
days, by their rate in percent of the limit per minute; `median` and `p90`: minutes
after the end of the warm-up by which half and nine in ten of them are told (2880,
two days: not within that time).
"""

import subprocess
from collections.abc import Iterator
from typing import Any

from measure import ROOT, fewer, row

LIVES = fewer(455)  # of each harmless shape


def rows() -> Iterator[dict[str, Any]]:
    done = subprocess.run(
        [f"{ROOT}/build/bench_leak_sim", str(LIVES)],
        check=True,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    lines = done.stdout.splitlines()
    print("\n".join(line for line in lines if not line.startswith("row ")))
    for line in lines:
        if line.startswith("row "):
            _, name, unit, ours, peer, peer_name = line.split()
            yield row(name, unit, float(ours), float(peer), peer_name)
