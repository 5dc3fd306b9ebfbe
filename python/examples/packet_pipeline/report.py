"""What a host tells about itself once a second, for people or as JSON lines."""

import json
import os
import platform
import sys
import threading
import time
from typing import Any

from memguard import MemoryMonitor

from .stages import Pipeline

LOOK_SECONDS = 0.05  # between looks at the latest sample
LINE_SECONDS = 1.0


class Reporter:
    """A thread that watches the pipeline's latest sample and prints a line a second.

    A reader that has gone away is no error: `gone` is called and nothing more is
    printed.
    """

    def __init__(self, pipeline: Pipeline, as_json: bool, gone: Any) -> None:
        self._pipeline = pipeline
        self._monitor = pipeline.write.resource_manager.memory_monitor
        # Asked in this thread, the pipeline's own monitor would run its sinks here.
        self._heap_monitor = MemoryMonitor()
        self._as_json = as_json
        self._gone = gone
        self._stop = threading.Event()
        self._lock = threading.Lock()  # one line at a time
        self._thread = threading.Thread(target=self._run, name="report")
        self._seen_levels = {"normal": 0}
        self._level = "normal"
        self.peak_bytes = 0
        self.phase = "starting"

    def __enter__(self) -> "Reporter":
        self._monitor.check_memory_pressure()  # there is a latest sample from now on
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._heap_monitor.close()

    def say(self, text: str) -> None:
        """A line for people; nothing in JSON."""
        if not self._as_json:
            self._print(text)

    def end(self, **result: Any) -> None:
        """The last line: what became of it all."""
        self._stop.set()
        self._thread.join()
        if self._as_json:
            self._print(json.dumps({**self._state(), "event": "end", **result}))

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            if time.monotonic() >= due:
                due += LINE_SECONDS
                self._line()
            else:
                self._look()

    def _look(self) -> Any:
        latest = self._monitor.latest
        self.peak_bytes = max(self.peak_bytes, latest.peak_rss_bytes)
        if latest.level != self._level:
            self._level = latest.level
            self._seen_levels[self._level] = self._seen_levels.get(self._level, 0) + 1
        return latest

    def _line(self) -> None:
        state = self._state()
        if self._as_json:
            self._print(json.dumps({"event": "line", **state}))
        else:
            self._print(
                f"{self.phase:<10} rss {state['rss_bytes'] / 2**20:6.1f} MB  "
                f"level {state['level']:<8}  packets {state['done']:>8,}  "
                f"flushes {state['flushes']:>5,}"
            )

    def _state(self) -> dict[str, Any]:
        latest = self._look()
        stages = self._pipeline.stages
        return {
            "host": "packet pipeline",
            "pid": os.getpid(),
            "runtime": f"CPython {platform.python_version()}",
            "phase": self.phase,
            "limit_mb": self._monitor.max_memory_mb,
            "rss_bytes": latest.rss_bytes,
            "peak_bytes": self.peak_bytes,
            "heap_bytes": self._heap_monitor.collect_memory_stats()["heap_used"],
            "level": latest.level,
            "usage": latest.usage,
            "domain": latest.domain,
            "fds": latest.fd_count,
            "collections": self._monitor.get_gc_stats()["collections"],
            "flushes": sum(stage.flushes for stage in stages),
            "pressure_flushes": sum(stage.pressure_flushes for stage in stages),
            "levels": self._seen_levels,
            "findings": [
                {
                    "signal": f.signal,
                    "tier": f.tier,
                    "culprits": [c.name for c in f.culprits],
                }
                for f in self._pipeline.leaks.findings
            ],
            "in": self._pipeline.read.packets,
            "done": self._pipeline.write.packets,
        }

    def _print(self, line: str) -> None:
        try:
            with self._lock:
                print(line, flush=True)
        except BrokenPipeError:
            self._gone()
            # Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
