"""memguard's part in the engine: one manager that watches, tunes and warns."""

from typing import Any

from memguard import FdWatch, ResourceManager

FD_THRESHOLD = 400
FD_GROWTH_PER_MINUTE = 50


class Guard:
    """A ResourceManager that tunes the collector on the live load, and a watch on
    descriptors that trims the connection pool. A context manager."""

    def __init__(self, links: Any, config: dict[str, Any] | None = None) -> None:
        # The loop has other things to do than to ask whether callbacks wait.
        settings = {"auto_tune": True, "background_callbacks": True}
        self.manager = ResourceManager(settings | (config or {}))
        self.monitor = self.manager.memory_monitor
        self.tuner = self.manager.gc_tuner
        self.fds = FdWatch(
            FD_THRESHOLD, FD_GROWTH_PER_MINUTE, lambda _: links.trim(),
            monitor=self.monitor,
        )  # fmt: skip

    def watch_loop(self) -> None:
        """Takes the load from the running loop: idle collections happen when it has
        little to do."""
        self.tuner.watch_loop()

    def __enter__(self) -> "Guard":
        return self

    def __exit__(self, *_: object) -> None:
        self.fds.close()
        self.manager.close()
