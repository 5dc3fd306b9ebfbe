"""What is known of the rows before they are measured: which way is better, and how
far a ratio may be worse than the recorded one before it counts.

The first kind whose pattern matches is a row's. Of a figure that a quiet machine
does not repeat within the tolerance the reason for a wider one, or for none, stands
here; a row of no kind is an error, so that a direction is never guessed.
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

TOLERANCE = 0.15
LOWER, HIGHER, NEITHER = "lower", "higher", "neither"


class Kind(NamedTuple):
    pattern: str
    better: str = LOWER
    tolerance: float | None = TOLERANCE  # None: is not checked
    slack: float = 0.0  # a difference of ours, in its unit, that never counts
    why: str = ""  # of another tolerance, of a slack


FEW = "some collections in the whole run"
COUNT = "a whole number of few: one more is much in percent"
LATE = "the last percent waits for the machine's scheduler"
SMALL = "near the resolution of what it is read from"
START = "the difference of two starts of a process"

KINDS = (
    Kind("survive.*.alive", HIGHER),
    Kind("survive.g.reported", HIGHER),
    Kind("survive.a.speed", HIGHER, 0.5, why="the peer's collections differ by run"),
    Kind("survive.*.speed", HIGHER),
    Kind("queue.alive", HIGHER),
    Kind("queue.lost_or_twice"),
    Kind("queue.speed", HIGHER),
    Kind("queue.cpu"),
    Kind("queue.peak"),
    Kind("queue.p99", tolerance=0.5, why=LATE),
    Kind("queue.paused.p99", tolerance=1.0, why=LATE),
    Kind("queue.paused.pauses", NEITHER, None, why="as often as memory is short"),
    Kind("queue.monitoring_cpu", tolerance=0.5, why=SMALL),
    Kind("queue.own_*"),
    Kind("tune*.pause_p95", tolerance=1.0, why="the longest of a second, few seconds"),
    Kind("tune*.gc_cpu", tolerance=0.3, why=FEW),
    Kind("tune*.peak_rss"),
    Kind("tune*.throughput", HIGHER),
    Kind("pool.c.pair*"),
    Kind("pool.c.across.*", tolerance=0.5, why="two threads that meet, or do not"),
    Kind("pool.c.touch.*"),
    Kind("pool.c.burst.*", tolerance=0.3, why="page faults of the peer"),
    Kind("pool.python.*"),
    Kind("pool.node.*", tolerance=0.3, why="collections of the peer's buffers"),
    Kind("bus*.alloc"),
    Kind("bus*.throughput", HIGHER),
    Kind("bus*.p99", tolerance=0.5, why=LATE),
    Kind("bus*.peak_rss"),
    Kind("bus*.gc", tolerance=0.5, why=FEW),
    Kind("trading*.rss"),
    Kind("trading*.engine_peak"),
    Kind("trading*.pause_p95", tolerance=0.5, why=FEW),
    Kind("trading*.late_p99", tolerance=0.5, why=LATE),
    Kind("trading*.growth", slack=2, why="a small difference of two sizes"),
    Kind("trading*.fds", slack=2, why=COUNT),
    Kind("trading*.fds_growth", slack=2, why=COUNT),
    Kind("trading*.rate", HIGHER),
    Kind("pipeline.throughput", HIGHER),
    Kind("pipeline.cpu"),
    Kind("pipeline.peak_rss"),
    Kind("pipeline.lost"),
    Kind("leaks.sim.false.*"),  # the lives are drawn alike in every run
    Kind("leaks.sim.found.*", HIGHER),
    Kind("leaks.sim.median.*"),
    Kind("leaks.sim.p90.*"),
    Kind("leaks.idle"),
    Kind("leaks.wide"),
    Kind("leaks*.recall", HIGHER),
    Kind("leaks*.false_alarms", slack=1, why=COUNT),
    Kind("leaks*.culprit", HIGHER),
    Kind("census.python"),
    Kind("census.python_hold", tolerance=0.5, why=LATE),
    Kind("segment.*"),
    Kind("metrics.*"),
    Kind("run.startup.*", tolerance=0.3, why=START),
    Kind("top.once200", tolerance=0.3, why=START),
    Kind("exporter.scrape*", tolerance=0.3, why="as much waiting as work"),
    Kind("exporter.rss200"),
    Kind("exporter.paced", slack=2, why=COUNT),
    Kind("exporter.paced.p99", tolerance=None, why=LATE),
    Kind("compare.false", slack=5, why="percent of few comparisons"),
    Kind("compare.found", HIGHER),
    Kind("gc_profile.*", tolerance=1.0, why=FEW),
    Kind("monitor.cpu*", tolerance=0.5, slack=0.01, why=SMALL),
    Kind("monitor.rss*", tolerance=0.3, why=SMALL),
    Kind("import.*", tolerance=0.3, why="files that the machine has to read"),
    Kind("sample.*"),
    Kind("buffer.should_flush.*"),
    Kind("gc.observe.*", tolerance=0.3, why="the difference of two loops"),
    Kind("allocator.*"),
)


def kind_of(name: str) -> Kind:
    """@raise KeyError no kind matches."""
    for kind in KINDS:
        if fnmatchcase(name, kind.pattern):
            return kind
    raise KeyError(f"{name}: bench/kinds.py does not say which way is better")
