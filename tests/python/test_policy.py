"""decide.Policy: what it refuses. What it decides is in tests/vectors."""

from typing import Any

import memguard
import pytest
from memguard import decide

VIEW = {"now_ms": 0, "usage": 0.5, "level": "normal"}


@pytest.mark.parametrize(
    ("view", "error", "text"),
    [
        ({"level": "hihg"}, memguard.InvalidError, "'hihg', allowed: normal,"),
        ({"level": 3}, memguard.ConfigTypeError, "level"),
        ({"available": ["gc"]}, memguard.InvalidError, "'gc', allowed: caches,"),
        ({"available": ["none"]}, memguard.InvalidError, "'none'"),
        ({"available": 7}, TypeError, "available"),
        ({"usage": "80%"}, TypeError, "str"),
        ({"limit_bytes": -1}, OverflowError, "negative"),
        ({"grown_bytes": 0.5}, TypeError, "integer"),
    ],
)
def test_views_that_are_refused(
    view: dict[str, Any], error: type[Exception], text: str
) -> None:
    policy = decide.Policy()
    with pytest.raises(error, match=text):
        policy.next(VIEW | view)
    assert policy.next(VIEW)["action"] == "none"


def test_a_view_needs_time_usage_and_level() -> None:
    with pytest.raises(KeyError, match="level"):
        decide.Policy().next({"now_ms": 0, "usage": 0.5})


def test_actions_that_are_refused() -> None:
    policy = decide.Policy()
    with pytest.raises(memguard.InvalidError, match="'collect', allowed: caches,"):
        policy.done("collect", {}, 0)
    with pytest.raises(TypeError):
        policy.done("full", {"took_ms": "1s"}, 0)
    with pytest.raises(memguard.InvalidError, match="'hot'"):
        policy.may_collect("hot", 1, 0)


def test_settings_are_checked() -> None:
    with pytest.raises(memguard.ConfigKeyError, match="gc_interval"):
        decide.Policy({"gc_intervall": 5})


def test_what_is_not_known_of_an_outcome_may_be_left_out() -> None:
    policy = decide.Policy()
    high = {"now_ms": 0, "usage": 0.9, "level": "high"}
    assert policy.next(high)["action"] == "caches"
    policy.done("caches", {}, 1)
    assert policy.next(high)["action"] == "pools"
