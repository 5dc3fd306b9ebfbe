"""What memguard has to say goes to the logger "memguard".

logging is imported when there is something to say.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable


def warning(message: str, *args: object) -> None:
    """Logs a warning."""
    import logging

    logging.getLogger("memguard").warning(message, *args)


def failure(message: str, *args: object) -> None:
    """Logs an error together with the exception being handled."""
    import logging

    logging.getLogger("memguard").error(message, *args, exc_info=True)


class Complaints:
    """Failures of things that run again and again, each told once until it ends.

    A sink that fails under pressure would otherwise fill the log.
    """

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: set[Hashable] = set()

    def failed(self, what: Hashable, message: str, *args: object) -> None:
        """Logs the exception being handled, unless `what` failed before."""
        if what not in self._open:
            self._open.add(what)
            failure(message + " (told once until it works again)", *args)

    def worked(self, what: Hashable) -> None:
        """The next failure of `what` is news again."""
        self._open.discard(what)
