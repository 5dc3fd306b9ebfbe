"""Celery: memguard in every worker child, and children replaced by their resident set.

    app = Celery("tasks", broker=...)
    memguard.integrations.celery.install(app, max_rss_mb=400)

With the prefork pool a child that stays over the limit ends after its task, its
result delivered, in the way of worker_max_tasks_per_child, and the pool starts
another one. Task boundaries tell the load. Pools of threads or greenlets have
one process: it is watched, not replaced. Besides, worker_max_memory_per_child and
worker_max_tasks_per_child of Celery work as ever.
"""

from __future__ import annotations

import os

from memguard import _core, _log
from memguard._core import ConfigTypeError
from memguard.integrations._worker import Limits, Worker, manager_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["install"]


def install(
    app: Any,
    *,
    config: Mapping[str, Any] | None = None,
    max_rss_mb: float | None = None,
    sustain: float = 30.0,
    jitter: float = 30.0,
    min_age: float = 60.0,
) -> None:
    """Connects to the signals of Celery, for tasks of `app`. `config` is that of the
    ResourceManager of each process; see memguard.integrations.Limits for the
    rest. Only processes that work start one.

    Raises ConfigTypeError, RangeError.
    """
    import celery.signals as signals

    if not hasattr(app, "tasks"):
        raise ConfigTypeError(f"app is {app!r}, allowed: a Celery application")
    limits = Limits(max_rss_mb, sustain=sustain, jitter=jitter, min_age=min_age)
    links = _Links(app, config, limits)
    # weak=False: nobody else holds them.
    signals.worker_process_init.connect(links.begin_child, weak=False)
    signals.worker_process_shutdown.connect(links.end_child, weak=False)
    signals.worker_ready.connect(links.begin_single, weak=False)
    signals.task_prerun.connect(links.before, weak=False)
    signals.task_postrun.connect(links.after, weak=False)


class _UntilDue(int):
    """Stands where the pool keeps its number of tasks after which a child ends: the
    number is reached when the child is due, or at the number that was there."""

    worker: Worker
    least: int | None

    def __gt__(self, completed: int) -> bool:
        is_enough = self.least is not None and completed >= self.least
        return not (is_enough or self.worker.is_due)

    def __eq__(self, completed: object) -> bool:
        return True  # an end as foreseen: nobody calls it a failure

    def __bool__(self) -> bool:
        return True

    __hash__ = int.__hash__


class _Links:
    def __init__(
        self, app: Any, config: Mapping[str, Any] | None, limits: Limits
    ) -> None:
        self._app = app
        self._config = config
        self._limits = limits
        self._worker: Worker | None = None
        self._pid = 0

    def _begin(self, limits: Limits | None, slots: int) -> Worker:
        manager = manager_of(None, self._config)
        self._worker = Worker(manager, slots=slots, limits=limits)
        self._pid = os.getpid()
        return self._worker

    def begin_child(self, **_: object) -> None:
        """In a child of the prefork pool."""
        from billiard.process import current_process

        worker = self._begin(self._limits, 1)
        if self._limits.max_rss_mb is None:
            return
        loop: Any = getattr(current_process(), "_target", None)
        if not hasattr(loop, "maxtasks"):
            _log.warning("this pool of Celery is not known: no child is replaced")
            return
        until = _UntilDue(1)
        until.worker, until.least = worker, loop.maxtasks
        loop.maxtasks = until

    def end_child(self, **_: object) -> None:
        """The pool ends children by os._exit(); that is no kill."""
        if self._pid == os.getpid():
            _core._segment_mark_exit()

    def begin_single(self, sender: Any = None, **_: object) -> None:
        """In a worker that runs tasks itself; the parent of children does not."""
        pool = getattr(sender, "pool", None)
        module = type(pool).__module__
        if not module.endswith("prefork"):
            self._begin(None, getattr(pool, "limit", None) or 1)

    def before(self, task: Any = None, **_: object) -> None:
        """A task begins."""
        worker = self._mine(task)
        if worker is not None:
            worker.began()

    def after(self, task: Any = None, **_: object) -> None:
        """A task is over."""
        worker = self._mine(task)
        if worker is not None:
            worker.ended()

    def _mine(self, task: Any) -> Worker | None:
        is_ours = self._pid == os.getpid() and getattr(task, "app", None) is self._app
        return self._worker if is_ours else None
