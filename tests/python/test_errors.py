"""Errors: typed, with a code, readable."""

import pickle

import memguard
import pytest

TABLE = [
    (memguard.MemguardError, RuntimeError, "ERR_MEMGUARD"),
    (memguard.InvalidError, ValueError, "ERR_MEMGUARD_INVALID"),
    (memguard.NoMemoryError, MemoryError, "ERR_MEMGUARD_NO_MEMORY"),
    (memguard.SystemCallError, OSError, "ERR_MEMGUARD_SYSTEM"),
    (memguard.ConfigKeyError, KeyError, "ERR_MEMGUARD_UNKNOWN_KEY"),
    (memguard.ConfigTypeError, TypeError, "ERR_MEMGUARD_TYPE"),
    (memguard.RangeError, ValueError, "ERR_MEMGUARD_RANGE"),
    (memguard.ConflictError, ValueError, "ERR_MEMGUARD_CONFLICT"),
    (memguard.ClosedError, RuntimeError, "ERR_MEMGUARD_CLOSED"),
    (memguard.AbsentError, RuntimeError, "ERR_MEMGUARD_ABSENT"),
    (memguard.ExistsError, ValueError, "ERR_MEMGUARD_EXISTS"),
    (memguard.NotFoundError, KeyError, "ERR_MEMGUARD_NOT_FOUND"),
    (memguard.HostError, RuntimeError, "ERR_MEMGUARD_HOST"),
    (memguard.WaitTimeoutError, TimeoutError, "ERR_MEMGUARD_TIMEOUT"),
    (memguard.ReturnedError, ValueError, "ERR_MEMGUARD_RETURNED"),
    (memguard.ForeignError, ValueError, "ERR_MEMGUARD_FOREIGN"),
    (memguard.EncodingError, ValueError, "ERR_MEMGUARD_ENCODING"),
    (memguard.BrokenConnectionError, ConnectionError, "ERR_MEMGUARD_BROKEN"),
    (memguard.MemoryLeakDetected, AssertionError, "ERR_MEMGUARD_LEAK"),
]


@pytest.mark.parametrize(("error", "builtin", "code"), TABLE)
def test_classes(
    error: type[memguard.MemguardError], builtin: type[Exception], code: str
) -> None:
    made = error("the message")
    assert isinstance(made, memguard.MemguardError)
    assert isinstance(made, builtin)
    assert made.code == code
    assert str(made) == "the message"
    assert error.__module__ == "memguard"


def test_a_raised_error_survives_pickling() -> None:
    with pytest.raises(memguard.ConfigKeyError) as caught:
        memguard.ResourceManager({"max_memry_mb": 1})
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is memguard.ConfigKeyError
    assert str(again) == str(caught.value)
    assert "memory.max_memory_mb" in str(again)
