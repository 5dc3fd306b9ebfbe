"""A short while of tracemalloc: which lines allocate what stays."""

from __future__ import annotations

from time import monotonic

from memguard import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.census import Culprit

_LONGER = 4  # times as long as asked for, while nothing grows
_PART = 0.2  # of the growth that goes on: less is not what leaks
_FOLDER = __file__.rpartition("_")[0]


class Trace:
    """Of at most 64 MB. Ended early when it cannot go on. One thread at a time."""

    def __init__(self) -> None:
        self.is_on = False
        self.signal = ""
        self._began = 0.0
        self._again_at = 0.0  # 0: it was not asked to end
        self._latest = 0.0
        self._before: dict[str, tuple[int, int]] | None = None

    def start(self) -> None:
        """Unless the program traces, or tracing could end the process."""
        import tracemalloc

        if tracemalloc.is_tracing() or not _core.census_is_alone():
            return
        tracemalloc.start(1)
        self.is_on = True
        self._began = monotonic()
        self._again_at = 0.0

    def follow(self) -> None:
        """Now and then. What is alive at first is what the program has in hand at
        any time."""
        if not self.is_on:  # then it needs nothing that would have to be loaded
            return
        import tracemalloc

        from memguard import census

        if not tracemalloc.is_tracing():  # the program stopped it
            self.is_on = False
        elif (
            tracemalloc.get_tracemalloc_memory() > census._WINDOW_MOST_BYTES
            or not _core.census_is_alone()
        ):
            self.stop()
        elif self._before is None:
            self._before = census._sites()

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask for the sites again."""
        return self.is_on and 0 < self._again_at <= monotonic()

    def sites(self, signal: str, per_minute: float, unit: str) -> list[Culprit]:
        """Those that grew; ends it. Goes on for a while, and returns none, if they
        are not what grows so much `per_minute`: it may come in bursts."""
        from memguard import census

        now = monotonic()
        if not self._again_at:
            self._latest = self._began + _LONGER * (now - self._began)
        try:
            grown = census._grown_sites(self._before or {}, census._sites())
        except BaseException:
            self.stop()
            raise
        found = [one for one in grown if not one.name.startswith(_FOLDER)]
        has_grown = sum(
            one.growth_bytes if unit == "bytes" else one.growth for one in found
        )
        if has_grown < _PART * per_minute * (now - self._began) / 60 and (
            now < self._latest
        ):
            self.signal = signal
            self._again_at = now + (self._latest - self._began) / _LONGER
            return []
        self.stop()
        return found

    def stop(self) -> None:
        if self.is_on:
            import tracemalloc

            self.is_on = False
            self._before = None
            tracemalloc.stop()
