"""The pytest plugin: tests of others, in a pytest of their own."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]

HEAD = """
import asyncio, logging, os, threading, unittest, warnings
import pytest
from memguard import MemoryLeakDetected

kept = []

class Session:
    def __init__(self):
        self.values = {"a": 1}
"""


@pytest.fixture
def run_tests(tmp_path: Path) -> Run:
    """Runs a file of tests; returns what pytest said. It must end with `code`."""

    def run(text: str, *, code: int, conftest: str = "") -> str:
        file = tmp_path / "test_theirs.py"
        (tmp_path / "conftest.py").write_text(textwrap.dedent(conftest))
        file.write_text(HEAD + textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-rfE",
             "-p", "no:cacheprovider", str(file)],
            cwd=tmp_path, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "INTERNALERROR" not in done.stdout
        return done.stdout + done.stderr

    return run


def test_a_leaking_test_fails_and_names_the_type(run_tests: Run) -> None:
    said = run_tests(
        """
        @pytest.mark.memguard(leak=True)
        def test_leaks():
            kept.append(Session())

        @pytest.mark.memguard
        def test_does_not():
            Session()

        def test_is_not_looked_at():
            kept.append(Session())
        """,
        code=1,
    )
    assert "1 failed, 2 passed" in said
    assert "MemoryLeakDetected: test_leaks leaks" in said
    assert "type test_theirs.Session: +" in said


def test_fixtures_and_parameters_are_given_to_each_call(run_tests: Run) -> None:
    said = run_tests(
        """
        @pytest.fixture
        def store():
            return []

        @pytest.mark.parametrize("is_kept", [True, False])
        @pytest.mark.memguard(iterations=20)
        def test_store(store, tmp_path, is_kept):
            assert tmp_path.is_dir()
            if is_kept:
                store.append(Session())
        """,
        code=1,
    )
    assert "1 failed, 1 passed" in said
    assert "test_store[True] leaks" in said


def test_what_pytest_keeps_of_logs_and_warnings_is_no_leak(run_tests: Run) -> None:
    said = run_tests(
        """
        @pytest.mark.memguard
        def test_talks(caplog):
            logging.getLogger("theirs").warning("%s", "said")
            warnings.warn("old", DeprecationWarning)
            with caplog.at_level(logging.DEBUG):
                logging.getLogger("theirs").debug("%s", "more")
            print("said")

        class TestClass:
            @pytest.mark.memguard
            def test_method(self):
                Session()
        """,
        code=0,
    )
    assert "2 passed" in said


def test_descriptors_threads_and_chosen_signals(run_tests: Run) -> None:
    said = run_tests(
        """
        @pytest.fixture(autouse=True)
        def closing():
            before = set(os.listdir("/proc/self/fd"))
            yield
            for name in set(os.listdir("/proc/self/fd")) - before:
                try:
                    os.close(int(name))
                except OSError:
                    pass

        @pytest.mark.memguard(leak="fds", iterations=20)
        def test_opens():
            os.open(os.devnull, os.O_RDONLY)

        @pytest.mark.memguard(leak=("threads", "native"))
        def test_opens_but_is_not_asked():
            os.open(os.devnull, os.O_RDONLY)
        """,
        code=1,
    )
    assert "1 failed, 1 passed" in said
    assert "fd file /dev/null: +" in said
    assert "next: lsof -p " in said


def test_coroutines(run_tests: Run) -> None:
    said = run_tests(
        """
        @pytest.mark.memguard(iterations=20)
        async def test_leaks():
            await asyncio.sleep(0)
            kept.append(Session())

        @pytest.mark.memguard(iterations=20)
        async def test_does_not():
            await asyncio.sleep(0)
        """,
        code=1,
        conftest="""
        import asyncio
        import pytest

        @pytest.hookimpl
        def pytest_pyfunc_call(pyfuncitem):
            asyncio.run(pyfuncitem.obj())
            return True
        """,
    )
    assert "1 failed, 1 passed" in said
    assert "type test_theirs.Session: +" in said


def test_limit_mb(run_tests: Run) -> None:
    said = run_tests(
        """
        @pytest.mark.memguard(limit_mb=40)
        def test_takes_much():
            block = bytearray(130 << 20)
            block[::4096] = b"x" * len(block[::4096])

        @pytest.mark.memguard(limit_mb=40)
        def test_takes_little():
            kept.append(Session())

        def test_block(memguard):
            with memguard.limit_mb(200):
                bytearray(b"x") * (20 << 20)
            with pytest.raises(AssertionError, match="at its peak, limit_mb is 5"):
                with memguard.limit_mb(5):
                    bytearray(b"x") * (50 << 20)
        """,
        code=1,
    )
    assert "1 failed, 2 passed" in said
    assert "test_takes_much took 1" in said
    assert "limit_mb is 40" in said


def test_the_fixture(run_tests: Run) -> None:
    said = run_tests(
        """
        def leak():
            kept.append(Session())

        def test_finds(memguard):
            with pytest.raises(MemoryLeakDetected, match="leak leaks") as caught:
                memguard.assert_no_leak(leak, iterations=20)
            assert caught.value.code == "ERR_MEMGUARD_LEAK"
            finding = caught.value.findings[0]
            assert finding.culprits[0].name == "test_theirs.Session"
            memguard.assert_no_leak(Session)
            assert memguard.find_leaks(Session, iterations=20) == []
        """,
        code=0,
    )
    assert "1 passed" in said


def test_what_fails_or_skips_by_itself_is_told_as_it_is(run_tests: Run) -> None:
    said = run_tests(
        """
        @pytest.mark.memguard
        def test_fails():
            kept.append(Session())
            assert len(kept) < 1

        @pytest.mark.memguard
        def test_skips():
            pytest.skip("not here")

        @pytest.mark.memguard(iterations=40)
        def test_fails_later():
            kept.append(Session())
            assert len(kept) < 20
        """,
        code=1,
    )
    assert "2 failed, 1 skipped" in said
    assert "MemoryLeakDetected" not in said


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ("leek=True", "'leek' is unknown, allowed: leak, limit_mb, iterations, warmup"),
        ("True", "arguments are given by name"),
        ("limit_mb=0", "limit_mb is 0, allowed: a number above 0"),
        ("limit_mb='x'", "limit_mb is 'x', allowed: a number above 0"),
        ("leak='fdz'", "signal 'fdz', allowed: blocks, native, fds, threads"),
        ("leak=7", "'int' object is not iterable"),
        ("iterations=2", "iterations is 2, allowed: 4 to 10000000"),
        ("warmup='x'", "warmup is 'x', allowed: a whole number"),
    ],
)
def test_bad_marks_are_refused(run_tests: Run, mark: str, complaint: str) -> None:
    said = run_tests(
        f"""
        @pytest.mark.memguard({mark})
        def test_it():
            pass
        """,
        code=4,
    )
    assert "test_it: mark memguard: " + complaint in said


def test_methods_of_unittest_are_refused(run_tests: Run) -> None:
    said = run_tests(
        """
        class Theirs(unittest.TestCase):
            @pytest.mark.memguard
            def test_it(self):
                pass
        """,
        code=4,
    )
    assert "for test functions, not for those of unittest.TestCase" in said
