"""What somebody sees who calls the tool for the first time, or wrongly."""

import re

import pytest
from conftest import ROOT, Tool

COMMANDS = [
    "run", "top", "ps", "stats", "health", "gc", "optimize", "gc-profile", "snapshot",
    "postmortem", "baseline", "compare", "watch", "check-config", "exporter", "rules",
]  # fmt: skip


def test_without_a_command(tool: Tool) -> None:
    done = tool()
    assert done.code == 2
    assert done.out.startswith("usage: memguard COMMAND [OPTION...]\n")


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_commands_and_exit_codes(tool: Tool, word: str) -> None:
    done = tool(word)
    assert (done.code, done.err) == (0, "")
    for command in COMMANDS:
        assert f"\n  {command} " in done.out
    assert "\n    3  compare: moved, but the runs are too few" in done.out


def test_version(tool: Tool) -> None:
    done = tool("--version")
    assert (done.code, done.out, done.err) == (0, "memguard 0.1.0\n", "")


def test_an_unknown_command(tool: Tool) -> None:
    done = tool("frobnicate")
    assert done.code == 2
    assert done.err == (
        'memguard: there is no command "frobnicate"; `memguard --help` lists them\n'
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(tool: Tool, command: str) -> None:
    done = tool(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: memguard {command} ")
    assert f"\nexamples:\n  memguard {command}" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option(tool: Tool, command: str) -> None:
    done = tool(command, "--frobnicate")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"memguard {command}: unknown option or missing value: "
        f'"--frobnicate" (`memguard {command} --help`)\n'
    )


def test_the_manual_tells_of_every_command_and_option(tool: Tool) -> None:
    manual = (ROOT / "core" / "cli" / "memguard.1").read_text().replace("\\-", "-")
    for command in [*COMMANDS, "stress"]:
        usage = tool(command, "--help").out.partition("examples:")[0]
        assert f"\n.B {command}\n" in manual
        section = manual.partition(f"\n.B {command}\n")[2].partition("\n.SS ")[0]
        for option in re.findall(r"--[a-z][a-z-]+", usage):
            assert option in section, (command, option)
