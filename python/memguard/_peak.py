"""The peak of the resident set from a moment on, as the kernel keeps it."""

from __future__ import annotations

import gc

from memguard import _core
from memguard._core import AbsentError


def begin() -> int:
    """The resident set now, in bytes; its peak counts from now on. What was free
    before is given back first, or it would be used without being seen. Raises
    AbsentError where the kernel does not tell."""
    gc.collect()
    _core._trim_malloc()
    try:
        with open("/proc/self/clear_refs", "wb") as file:
            file.write(b"5\n")  # VmHWM becomes VmRSS
    except OSError as error:
        raise AbsentError(f"the peak of memory cannot be reset: {error}") from None
    return _status_bytes(b"VmRSS:")


def read() -> int:
    """The highest resident set since begin(), in bytes."""
    return _status_bytes(b"VmHWM:")


def _status_bytes(label: bytes) -> int:
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(label):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise AbsentError(f"/proc/self/status does not tell {label.decode()}")
