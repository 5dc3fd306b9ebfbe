"""The HTTP site of memguard._core; this file only divides its stubs."""

from collections.abc import Sequence
from typing import final

WebResponse = tuple[int, str, list[tuple[str, str]], bytes, bool]
"""(status, reason, headers, body, is_head); stubs only."""

@final
class Site:
    """The HTTP site of this process, without sockets. Any thread."""

    def __new__(
        cls,
        token: str | None,
        read_needs_token: bool,
        allowed_hosts: Sequence[str],
        writes_per_minute: int,
        ready_below_percent: float,
    ) -> Site: ...
    def serve(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        clock_ms: float = 0.0,
        /,
    ) -> tuple[WebResponse | None, tuple[str, str, int] | None]:
        """Judges a request: (response, None), or (None, (command, arguments, key))
        where the process has to do something first."""

    def answered(self, key: int, code: str, text: str, /) -> WebResponse:
        """The response to a command: its code ("OK" or that of an error) and text."""
