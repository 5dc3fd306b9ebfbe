"""Runs the rows of tests/vectors/policy.json; tests/vectors/README.md says how they
are made. tests/core/test_policy.c and tests/node/policy_rows.js do the same."""

from typing import Any

from memguard import decide

BUCKET_MS = 1000
KB = 1024
MB = 1024 * 1024
WORDS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
OUTCOME = {"took_ms": 1, "gc_ms": 0, "freed_bytes": 0, "used_bytes": 100 * MB}
VIEW = ("now_ms", "usage", "level", "limit_bytes", "grown_bytes", "available")


def numbers(mapping: dict[str, Any]) -> dict[str, Any]:
    """JSON has no word for what is no number, so the rows write it as text."""
    return {
        key: WORDS.get(value, value) if isinstance(value, str) else value
        for key, value in mapping.items()
    }


class Steps:
    """A row with `steps`."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.policy = decide.Policy(row["config"])
        self.view: dict[str, Any] = {"now_ms": 0, "usage": 0, "level": "normal"}
        self.outcomes: dict[str, dict[str, Any]] = {}
        for step in row["steps"]:
            self.run(step)

    def run(self, step: dict[str, Any]) -> None:
        self.view |= numbers({key: step[key] for key in VIEW if key in step})
        self.outcomes |= step.get("outcomes", {})
        if "spent" in step:
            self.policy.spent(step["spent"])
        if "next" in step:
            got = self.policy.next(self.view)
            assert {key: got[key] for key in step["next"]} == step["next"], step
        if "done" in step:
            self.done(step["done"])
        if "rounds" in step:
            rounds = self.rounds()
            assert rounds == step["rounds"], (step, rounds)
        if "may_collect" in step:
            level, gc_ms, expected = step["may_collect"]
            got = self.policy.may_collect(level, gc_ms, self.view["now_ms"])
            assert got is expected, step
        if "time_to_limit_ms" in step:
            expected, got = step["time_to_limit_ms"], self.policy.time_to_limit_ms
            if expected is None or got is None:
                assert got is expected, step
            else:
                assert abs(got - expected) < 1e-6, (step, got)
        if "is_unreclaimable" in step:
            expected = step["is_unreclaimable"]
            assert self.policy.is_unreclaimable is expected, step

    def rounds(self) -> list[list[str]]:
        """Acts as an engine does until nothing is left to do."""
        found: list[list[str]] = []
        for _ in range(60):
            decision = self.policy.next(self.view)
            if decision["action"] == "none":
                return found
            if decision["begins_round"]:
                found.append([decision["reason"], decision["level"]])
            elif not found:
                found.append(["continued", decision["level"]])
            found[-1].append(decision["action"])
            self.done(decision["action"])
        raise AssertionError(f"no end: {found}")

    def done(self, action: str) -> None:
        outcome = OUTCOME | self.outcomes.get("all", {}) | self.outcomes.get(action, {})
        outcome = numbers(outcome)
        took_ms = outcome["took_ms"]
        self.view["now_ms"] += took_ms if 0 < took_ms < float("inf") else 0
        self.view["usage"] = outcome.get("usage_after", self.view["usage"])
        if "grown_after" in outcome:
            self.view["grown_bytes"] = outcome["grown_after"]
        self.policy.done(action, outcome, self.view["now_ms"])


class Simulation:
    """A row with `simulate`: a process that allocates, seen by an engine, for hours.
    Whole numbers only, so that it goes alike in every language."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.setup = row["simulate"]
        self.policy = decide.Policy(row["config"])
        self.tracker = decide.LevelTracker(row["config"])
        self.random = 2463534242
        self.now_ms = 0
        self.live_kb = self.setup["live_mb"] * KB
        self.garbage_kb = 0
        self.base_kb = self.live_kb
        self.level = "normal"
        self.was_unreclaimable = False
        self.balance_ms = self.least_ms = 0.0  # GC time less budget; its minimum
        self.found: dict[str, Any] = {
            "rounds": {},
            "actions": {},
            "gc_ms": 0,
            "unreclaimable": 0,
            "peak_percent": 0,
        }
        self.run()

    def chance(self, below: int) -> int:
        """Xorshift (Marsaglia, J. Stat. Soft. 8(14), 2003)."""
        x = self.random
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        self.random = x
        return x % below

    def usage(self) -> float:
        return (self.live_kb + self.garbage_kb) / (self.setup["limit_mb"] * KB)

    def pass_time(self, ms: int) -> None:
        critical = self.level == "critical"
        self.balance_ms -= ms * self.setup["budget"][1 if critical else 0] / 100

    def allocate(self, step: int) -> None:
        step %= sum(phase["steps"] for phase in self.setup["phases"])
        for phase in self.setup["phases"]:
            if step < phase["steps"]:
                break
            step -= phase["steps"]
        most_kb = self.setup["live_max_mb"] * KB
        self.live_kb = max(min(self.live_kb + phase["live_kb"], most_kb), 0)
        self.garbage_kb += phase["garbage_kb"] + self.chance(phase["noise_kb"] + 1)
        percent = int(self.usage() * 100)
        self.found["peak_percent"] = max(self.found["peak_percent"], percent)

    def act(self, decision: dict[str, Any]) -> None:
        action = decision["action"]
        takes = self.setup["actions"][action]
        freed_kb = self.garbage_kb * takes["percent"] // 100
        gc_ms = takes["gc_ms"] and takes["gc_ms"] + self.chance(takes["jitter_ms"] + 1)
        used_kb = self.live_kb + self.garbage_kb
        self.garbage_kb -= freed_kb
        if action in ("full", "release"):
            self.base_kb = used_kb - freed_kb
        self.now_ms += gc_ms + takes["other_ms"]
        self.pass_time(gc_ms + takes["other_ms"])
        self.least_ms = min(self.least_ms, self.balance_ms)
        self.balance_ms += gc_ms
        most_ms = BUCKET_MS + self.setup["overrun_ms"]
        assert self.balance_ms - self.least_ms <= most_ms + 1e-6, self.now_ms
        outcome = {
            "took_ms": gc_ms + takes["other_ms"],
            "gc_ms": gc_ms,
            "freed_bytes": freed_kb * KB,
            "used_bytes": used_kb * KB,
            "usage_after": self.usage(),
        }
        self.policy.done(action, outcome, self.now_ms)
        self.count("actions", action)
        self.found["gc_ms"] += gc_ms

    def count(self, what: str, name: str) -> None:
        self.found[what][name] = self.found[what].get(name, 0) + 1

    def ask(self) -> dict[str, Any]:
        grown_kb = max(self.live_kb + self.garbage_kb - self.base_kb, 0)
        decision = self.policy.next(
            {
                "now_ms": self.now_ms,
                "usage": self.usage(),
                "level": self.level,
                "limit_bytes": self.setup["limit_mb"] * MB,
                "grown_bytes": grown_kb * KB if self.setup["counts_bytes"] else None,
                "available": list(self.setup["actions"]),
            }
        )
        if decision["begins_round"]:
            self.count("rounds", decision["reason"])
        gave_up = self.policy.is_unreclaimable
        self.found["unreclaimable"] += gave_up and not self.was_unreclaimable
        self.was_unreclaimable = gave_up
        return decision

    def run(self) -> None:
        step = seen_ms = 0
        while self.now_ms < self.setup["minutes"] * 60_000:
            self.allocate(step)
            self.level = self.tracker.update(self.usage(), self.now_ms)
            self.pass_time(self.now_ms - seen_ms)
            while (decision := self.ask())["action"] != "none":
                self.act(decision)
            seen_ms = self.now_ms
            self.now_ms += self.setup["step_ms"]
            step += 1
