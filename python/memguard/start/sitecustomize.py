"""Run by an interpreter that `memguard run` started, before its program.

A program must run as it would without us: whatever fails here is one line on
stderr, and the sitecustomize that this one hides is run in its place.
"""

import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_PACKAGES = os.path.dirname(os.path.dirname(_FOLDER))


def _is_ours(folder: str) -> bool:
    return os.path.abspath(folder or os.curdir) == _FOLDER


def _begin() -> None:
    try:
        try:
            import memguard.start as start
        except ModuleNotFoundError:
            # An environment without memguard: that of the tool serves, if it was
            # built for this interpreter. Only the package, not its neighbours.
            sys.path.append(_PACKAGES)
            try:
                import memguard.start as start
            finally:
                sys.path.remove(_PACKAGES)
        start.begin()
    except Exception as error:
        name = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
        sys.stderr.write(f"memguard: not started in {name}: {error}\n")


def _run_hidden() -> None:
    """Runs the sitecustomize that would have been found without this one."""
    del sys.modules["sitecustomize"]
    try:
        __import__("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = _SELF


_SELF = sys.modules["sitecustomize"]
sys.path[:] = [folder for folder in sys.path if not _is_ours(folder)]
# Flags that ignore the environment end here too: then nobody finds this file.
if not getattr(sys, "_memguard_began", False):
    sys._memguard_began = True  # type: ignore[attr-defined]
    _begin()
_run_hidden()
