"""Programs started with `memguard run`: as without it, but watched."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TOOL, Tool

PROBE = """
import sys, threading
started = sys.modules.get("memguard.start")
manager = started.begin() if started else None
print(manager and manager.settings["memory"]["max_memory_mb"], sys.argv[1:])
"""


def test_a_python_program(tool: Tool) -> None:
    done = tool("run", "--max-memory", "300MB", "--", sys.executable, "-c", PROBE, "a")
    assert (done.code, done.out, done.err) == (0, "300 ['a']\n", "")


def test_settings_reach_the_program(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("memory: {max_memory_mb: 111, gc_interval: 7s}\n")
    code = """
import memguard.start
s = memguard.start.begin().settings["memory"]
print(s["max_memory_mb"], s["gc_interval"], s["high_water_mark_percent"])
"""
    program = ("--", sys.executable, "-c", code)
    done = tool("run", "--config", path, *program)
    assert done.out == "111 7.0 80\n"
    done = tool("run", "--set", "max_memory_mb=222", "--config", path, *program)
    assert done.out == "222 7.0 80\n"
    done = tool("run", "--config", path, "--profile", "production", *program)
    assert done.out == "111 7.0 75\n"


def test_what_is_set_by_hand_wins_over_variables(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMGUARD_MAX_MEMORY_MB", "100")
    monkeypatch.setenv("MEMGUARD_GC_INTERVAL", "9s")
    done = tool("run", "--set", "max_memory_mb=200", "--", "env")
    assert "MEMGUARD_MEMORY_MAX_MEMORY_MB=200MB\n" in done.out
    assert "MEMGUARD_MAX_MEMORY_MB" not in done.out
    assert "MEMGUARD_GC_INTERVAL=9s\n" in done.out


def test_a_node_program(tool: Tool) -> None:
    code = """
const manager = globalThis[Symbol.for('memguard.start')];
console.log(manager.settings.memory.maxMemoryMb, process.argv.slice(1).join());
"""
    done = tool("run", "--max-memory", "300MB", "--", "node", "-e", code, "a", "b")
    assert (done.code, done.out, done.err) == (0, "300 a,b\n", "")


def test_node_gets_an_old_space_for_its_limit(tool: Tool) -> None:
    script = "echo $NODE_OPTIONS"
    done = tool("run", "--max-memory", "300MB", "--", "sh", "-c", script)
    assert done.out == f'--require="{ROOT}/node/start.js" --max-old-space-size=177\n'


def test_options_of_the_host_stay(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--max-old-space-size=99")
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    script = 'echo "$NODE_OPTIONS"; echo "$PYTHONPATH"'
    done = tool("run", "--max-memory", "300MB", "--", "sh", "-c", script)
    assert done.out.splitlines() == [
        f'--max-old-space-size=99 --require="{ROOT}/node/start.js"',
        f"{ROOT}/python/memguard/start:/some/where",
    ]
    done = tool("run", "--no-node", "--no-python", "--", "sh", "-c", script)
    assert done.out == "--max-old-space-size=99\n/some/where\n"


def test_a_hidden_sitecustomize_runs(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.own = 5\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "import sys, sitecustomize; print(sys.own, 'memguard' in sys.modules)"
    done = tool("run", "--", sys.executable, "-c", code)
    assert (done.code, done.out, done.err) == (0, "5 True\n", "")


def test_below_a_shell_and_below_python(tool: Tool) -> None:
    inner = "import sys; print('memguard.start' in sys.modules)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    done = tool("run", "--", "sh", "-c", f'"{sys.executable}" -c "$0"', code)
    assert (done.code, done.out, done.err) == (0, "True\n", "")


def test_exit_codes_and_signals(tool: Tool) -> None:
    code = "import sys; sys.exit(7)"
    assert tool("run", "--", sys.executable, "-c", code).code == 7
    assert tool("run", "--", "node", "-e", "process.exit(9)").code == 9
    assert tool("run", "--", "sh", "-c", "kill -TERM $$").code == -signal.SIGTERM
    done = tool("run", "--", sys.executable, "-c", "raise ValueError('x')")
    assert done.code == 1
    assert done.err.endswith("ValueError: x\n")


def test_it_becomes_the_command(environment: None) -> None:
    code = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
print(os.getpid(), flush=True)
signal.pause()
"""
    running = subprocess.Popen(
        [TOOL, "run", "--", sys.executable, "-c", code], stdout=subprocess.PIPE
    )
    try:
        assert running.stdout is not None
        assert int(running.stdout.readline()) == running.pid
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)
        assert running.returncode == 5
    finally:
        running.kill()


def test_what_cannot_be_started(tool: Tool, tmp_path: Path) -> None:
    done = tool("run", "--", "no-such-program")
    assert (done.code, done.out) == (127, "")
    assert done.err == "memguard run: no-such-program: No such file or directory\n"
    done = tool("run", "--", tmp_path)
    assert done.code == 126
    assert done.err == f"memguard run: {tmp_path}: Permission denied\n"


def test_wrong_words(tool: Tool) -> None:
    for words, message in [
        ([], "a command to run is needed after --"),
        (["--profile", "fast", "true"], '"fast"'),
        (["--set", "max_memory_mb", "true"], "KEY=VALUE is expected"),
        (["--set", "max_memory_mbb=1", "true"], "max_memory_mb"),
        (["--max-memory", "-5", "true"], "-5"),
        (["--max-memory", "lots", "true"], "lots"),
    ]:
        done = tool("run", *words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err


def test_without_packages_beside_it(environment: None, tmp_path: Path) -> None:
    alone = tmp_path / "memguard"
    shutil.copy(TOOL, alone)
    done = subprocess.run(
        [alone, "run", "--", "true"], capture_output=True, text=True, cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "neither memguard's Python package nor its npm package" in done.stderr


def test_a_broken_package_does_not_stop_the_program(
    environment: None, tmp_path: Path
) -> None:
    """The start hook of a package without its extension, before an interpreter that
    has no memguard either."""
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    shutil.copytree(
        ROOT / "python" / "memguard",
        packages / "memguard",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "memguard"
    shutil.copy(TOOL, tool)
    done = subprocess.run(
        [tool, "run", "--no-node", "--", "/usr/bin/python3", "-c", "print(4)"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "4\n")
    assert done.stderr.startswith("memguard: not started in Python 3.")
    assert done.stderr.count("\n") == 1
