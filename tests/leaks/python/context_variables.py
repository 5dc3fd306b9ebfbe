"""Each request is tracked in a context variable. Leaky: in a new one."""

import os
from contextvars import ContextVar

from service import serve

IS_LEAKY = os.environ["LEAK_USE"] == "leaky"
TRACKED: ContextVar[dict] = ContextVar("tracked")


def request(number: int) -> None:
    tracked = ContextVar("tracked") if IS_LEAKY else TRACKED
    tracked.set({"request": number, "spans": []})
    tracked.get()["spans"].append(number)


serve(request, per_second=1500)
