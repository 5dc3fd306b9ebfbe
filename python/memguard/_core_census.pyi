"""The tables of memguard._core; this file only divides its stubs."""

from typing import Any, Self, final

@final
class Census:
    """A bounded table of names, counts and bytes. One thread at a time: the
    second raises ConflictError. max_names: 1 to 100000, 0 for that many."""

    def __new__(cls, max_names: int = 0, /) -> Self: ...
    def __len__(self) -> int: ...
    def begin(self, in_slices: bool = True, /) -> None:
        """Empties the table and starts to count objects."""

    def step(self, most: int = 50000, /) -> bool:
        """Visits some of the objects, then lets other threads run. False when all
        are counted."""

    def walk(self) -> Any:
        """How the objects were counted: memguard.census.Walk."""
    def read_fds(self) -> None:
        """Adds the open descriptors. Raises AbsentError, SystemCallError."""

    def read_maps(self) -> None:
        """Adds the mappings. Raises AbsentError, SystemCallError."""

    def add(self, name: str, count: int, size: int, /) -> None: ...
    def rows(self, first: int, most: int, /) -> list[tuple[str, int, int]]: ...
    @property
    def is_cut(self) -> bool: ...

def census_difference(
    before: Census, after: Census, kind: str, by_bytes: bool, limit: int, /
) -> list[tuple[str, str, int, int, int, float]]: ...
def census_referrers(type_name: str, limit: int, /) -> list[tuple[str, int]]: ...
def census_is_alone() -> bool: ...
