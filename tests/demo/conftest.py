"""Fixtures of the examples' tests."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def store() -> Iterator[Any]:
    """The memory of a trading engine."""
    from market import NAMES
    from trading.engine import COLUMNS, TIMEFRAMES
    from trading.store import Store

    made = Store(NAMES, TIMEFRAMES, COLUMNS)
    yield made
    made.close()
