"""The live screen on a real pseudo-terminal, seen through a terminal emulator."""

import errno
import fcntl
import os
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator

import pyte
import pytest
from conftest import TOOL, Tool
from hosts import HOLDS, NODE, host, published


class Terminal:
    def __init__(self, columns: int = 140, lines: int = 20, **variables: str) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        try:
            self.pid, self._fd = os.forkpty()  # pty.fork() hides why it could not
        except OSError as error:
            # No /dev/ptmx, no /dev/pts.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            pytest.skip(f"no terminals can be made here: {error}")
        if self.pid == 0:
            environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
            os.execve(
                TOOL,
                [str(TOOL), "top", "--interval", "0.1"],
                {**environment, **variables},
            )
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, size)
        self.screen.resize(lines, columns)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def read(self, seconds: float = 0.1) -> None:
        if select.select([self._fd], [], [], seconds)[0]:
            try:
                self._stream.feed(os.read(self._fd, 65536))
            except OSError:  # its other end is closed
                time.sleep(0.05)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def until(self, condition: Callable[[list[str]], object]) -> list[str]:
        end = time.monotonic() + 30
        while not condition(self.lines()):
            assert time.monotonic() < end, "\n".join(self.lines())
            self.read()
        return self.lines()

    def wait(self) -> int:
        """Its exit code."""
        end = time.monotonic() + 30
        while True:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < end

    def close(self) -> None:
        os.close(self._fd)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture
def pids(tool: Tool) -> Iterator[list[int]]:
    with host(HOLDS, "90") as one, host(HOLDS, "20") as two, host(NODE, node=True) as n:
        for pid in (one, two, n):
            published(tool, pid)
        yield [one, two, n]


def order(lines: list[str]) -> list[int]:
    first = [line.split()[0] for line in lines[3:] if line.strip()]
    return [int(word) for word in first if word.isdigit()]


def test_rows_keys_and_the_end(pids: list[int]) -> None:
    terminal = Terminal()
    try:
        lines = terminal.until(lambda lines: sorted(order(lines)) == sorted(pids))
        assert "3 processes" in lines[0]
        assert lines[2].split()[:6] == ["PID", "KIND", "RSS", "HEAP", "NATIVE", "USAGE"]
        by_size = order(lines)
        assert by_size.index(pids[0]) < by_size.index(pids[1])
        assert "▁" in "".join(lines) or "█" in "".join(lines)
        terminal.press("p")
        terminal.until(lambda lines: order(lines) == sorted(pids))
        terminal.press("p")
        terminal.until(lambda lines: order(lines) == sorted(pids, reverse=True))
        terminal.press("h")
        terminal.until(lambda lines: any("this help" in line for line in lines))
        terminal.press("h")
        terminal.until(lambda lines: sorted(order(lines)) == sorted(pids))
        os.kill(pids[1], signal.SIGKILL)
        terminal.until(lambda lines: "2 processes" in lines[0])
        terminal.press("d")
        terminal.until(lambda lines: any("killed" in line for line in lines))
        terminal.press("q")
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_the_chosen_process_collects(pids: list[int]) -> None:
    terminal = Terminal()
    try:
        terminal.until(lambda lines: "3 processes" in lines[0])
        terminal.press("g")
        lines = terminal.until(lambda lines: "has collected" in lines[1])
        assert int(lines[1].split()[1]) in pids
        terminal.press("q")
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_any_size_and_no_utf8(pids: list[int]) -> None:
    terminal = Terminal(LC_ALL="C")
    try:
        lines = terminal.until(lambda lines: "3 processes" in lines[0])
        assert "".join(lines).isascii()
        for columns, rows in [(40, 5), (80, 2), (200, 40), (10, 1), (80, 24)]:
            terminal.resize(columns, rows)
            terminal.read(0.3)
        terminal.until(lambda lines: "3 processes" in lines[0])
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait() == 128 + signal.SIGTERM
    finally:
        terminal.close()
