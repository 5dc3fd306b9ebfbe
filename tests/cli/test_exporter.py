"""`memguard exporter`: what it shows of the processes of a host, and does in them."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from http.client import HTTPConnection
from pathlib import Path

import pytest
from conftest import TOOL, Tool
from exporters import LINT_ALLOWED, TOKEN, WRITE, exporter, lint
from hosts import COLLECTS, HOLDS, NODE, host, published, until

MB = 1048576
MANY = """
import os, signal, sys
import memguard
monitor = memguard.MemoryMonitor({"sample_interval": "1s"})
monitor.start_monitoring()
for _ in range(int(sys.argv[1]) - 1):
    if os.fork() == 0:
        signal.pause()
print("ready", flush=True)
signal.pause()
"""


def test_both_runtimes(tool: Tool) -> None:
    with host(COLLECTS) as one, host(NODE, node=True) as two, exporter() as site:
        published(tool, one)
        published(tool, two)
        until(lambda: site.metric("memguard_process_up", pid=two) == 1)
        rows = site.processes()
        assert {rows[one]["runtime"], rows[two]["runtime"]} == {"python", "node"}
        answer = site.get("/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"] == (
            "text/plain; version=0.0.4; charset=utf-8"
        )
        assert lint(answer.text) <= LINT_ALLOWED
        for pid in (one, two):
            rss = site.metric("memguard_process_resident_memory_bytes", pid=pid)
            assert rss is not None
            assert 5 * MB < rss < 500 * MB
        until(
            lambda: (
                (site.metric("memguard_gc_collections_total", pid=one,
                             kind="generation2") or 0) > 3
            )
        )  # fmt: skip


def test_open_metrics(tool: Tool) -> None:
    with host(HOLDS, "1") as pid, exporter() as site:
        published(tool, pid)
        kind = "application/openmetrics-text; version=1.0.0"
        answer = site.get("/metrics", Accept=kind)
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.text.endswith("# EOF\n")
        assert "# UNIT memguard_process_cpu_seconds seconds\n" in answer.text


def test_nobody_is_there(environment: None) -> None:
    with exporter() as site:
        assert site.get("/metrics").status == 200
        assert site.get("/livez").json() == {"status": "ok"}
        assert site.processes() == {}
        assert site.get("/api/v1/memory/stats").status in (404, 503)


def test_the_dashboard(environment: None) -> None:
    with exporter() as site:
        page = site.get("/")
        assert page.status == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_folder_that_is_not_there(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has published anything yet; later somebody does."""
    folder = Path(os.environ["MEMGUARD_DIR"]) / "later"
    monkeypatch.setenv("MEMGUARD_DIR", str(folder))
    with exporter() as site:
        assert site.processes() == {}
        with host(HOLDS, "1") as pid:
            until(lambda: pid in site.processes())


def test_a_process_that_is_stopped(tool: Tool) -> None:
    """All is shown as before, and what asks it gives up without keeping others."""
    with host(HOLDS, "30") as pid, host(HOLDS, "1") as other, exporter() as site:
        published(tool, pid)
        published(tool, other)
        os.kill(pid, signal.SIGSTOP)
        try:
            codes: list[int] = []
            asking = [
                threading.Thread(
                    target=lambda: codes.append(
                        site.ask(
                            "POST", f"/api/v1/memory/gc?pid={pid}", b"{}", **WRITE
                        ).status
                    )
                )
                for _ in range(4)
            ]
            for thread in asking:
                thread.start()
            for _ in range(5):
                assert site.metric("memguard_process_up", pid=pid) == 1
                rss = site.metric("memguard_process_resident_memory_bytes", pid=pid)
                assert rss is not None
                assert rss > 30 * MB
            done = site.ask("POST", f"/api/v1/memory/gc?pid={other}", b"{}", **WRITE)
            assert done.status == 200
            for thread in asking:
                thread.join(60)
            assert codes == [504] * 4
        finally:
            os.kill(pid, signal.SIGCONT)
        until(
            lambda: (
                site.ask("POST", f"/api/v1/memory/gc?pid={pid}", b"{}", **WRITE).status
                == 200
            )
        )


def test_more_questions_than_may_wait(tool: Tool) -> None:
    with host(HOLDS, "1") as pid, exporter() as site:
        published(tool, pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            codes: list[int] = []
            target = "/api/v1/memory/config"
            asking = [
                threading.Thread(target=lambda: codes.append(site.get(target).status))
                for _ in range(8)
            ]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join(60)
            # Some are told that too many wait, the others that it does not answer.
            assert sorted(codes)[-1] == 504
            assert set(codes) == {503, 504}
            assert codes.count(504) >= 4
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_process_that_was_killed(tool: Tool) -> None:
    with exporter() as site:
        with host(HOLDS, "1") as pid:
            published(tool, pid)
            assert site.metric("memguard_process_up", pid=pid) == 1
            os.kill(pid, signal.SIGKILL)
            until(lambda: site.metric("memguard_process_up", pid=pid) == 0)
        row = site.processes()[pid]
        assert row["alive"] is False
        assert row["verdict"] == "killed, not memory"
        assert site.metric("memguard_process_resident_memory_bytes", pid=pid) is None
        done = site.ask("POST", f"/api/v1/memory/gc?pid={pid}", b"{}", **WRITE)
        assert done.status == 410
        assert site.get(f"/api/v1/memory/history?pid={pid}").json()["points"]


def test_the_dead_are_added_up_once(tool: Tool) -> None:
    """By an exporter that begins after them, however many look."""
    with host(COLLECTS) as pid:
        published(tool, pid)

        def counted() -> int:
            found = tool("stats", pid, "--json").json()["gc"]
            return int(found.get("generation2", {}).get("count", 0))

        until(lambda: counted() > 3)
        os.kill(pid, signal.SIGSTOP)
        before = counted()
        os.kill(pid, signal.SIGKILL)
    count = ("memguard_service_gc_collections_total", "generation2")
    ends = ("memguard_process_ends_total", "killed, not memory")
    with exporter() as one, exporter() as two:
        folder = Path(os.environ["MEMGUARD_DIR"])
        until(lambda: list(folder.glob("service-*")))
        for site in (one, two, one):
            found = site.metric(count[0], kind=count[1], program="python")
            assert found is not None
            assert found >= before
            until(
                lambda site=site: (
                    site.metric(ends[0], verdict=ends[1], program="python") == 1
                )
            )
            assert site.metric(count[0], kind=count[1], program="python") == found


def test_a_file_that_is_replaced(tool: Tool) -> None:
    """A process whose file is taken away makes another one, under the same name."""
    name = "memguard_process_recording_timestamp_seconds"
    with host(HOLDS, "1") as pid, exporter() as site:
        published(tool, pid)
        before = site.metric(name, pid=pid)
        assert before is not None
        (path,) = Path(os.environ["MEMGUARD_DIR"]).glob(f"*-{pid}-*[0-9]")
        path.unlink()
        until(lambda: (site.metric(name, pid=pid) or 0) > before, 90)
        until(lambda: site.processes()[pid]["alive"])


def test_two_hundred_processes(environment: None) -> None:
    """Each is shown, at no more than 20 MB."""
    with subprocess.Popen(
        [sys.executable, "-c", MANY, "200"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == b"ready\n"
            with exporter() as site:
                until(
                    lambda: (
                        site.get("/metrics").text.count("\nmemguard_process_threads{")
                        == 200
                    ),
                    100,
                )
                for _ in range(5):
                    rows = site.processes().values()
                    assert len(rows) == 200
                    assert all(row["alive"] for row in rows)
                    assert lint(site.get("/metrics").text) <= LINT_ALLOWED
                assert site.memory_mb() <= 20
        finally:
            os.killpg(first.pid, signal.SIGKILL)


def test_gc_optimize_and_settings(tool: Tool) -> None:
    with host(HOLDS, "1") as one, host(NODE, node=True) as two, exporter() as site:
        for pid in (one, two):
            published(tool, pid)
            who = f"?pid={pid}"
            done = site.ask("POST", f"/api/v1/memory/gc{who}", b"{}", **WRITE)
            assert done.status == 200
            assert done.json()["message"] == "Garbage collection completed"
            done = site.ask("POST", f"/api/v1/memory/optimize{who}", **WRITE)
            assert done.status == 200
            key = "max_memory_mb" if pid == one else "maxMemoryMb"
            body = f'{{"memory": {{"{key}": 700}}}}'.encode()
            done = site.ask("PUT", f"/api/v1/memory/config{who}", body, **WRITE)
            assert done.status == 200, done.text
            found = site.get(f"/api/v1/memory/config{who}").json()
            assert found["memory"]["max_memory_mb"] == 700
            done = site.ask(
                "PUT", f"/api/v1/memory/config{who}", b'{"memory": {"x": 1}}', **WRITE
            )
            assert done.status == 400
            assert '"x"' in done.text or "memory.x" in done.text
        # Without a pid there must be one alone.
        done = site.ask("POST", "/api/v1/memory/gc", b"{}", **WRITE)
        assert done.status == 400
        assert "pid" in done.json()["error"]


def test_who_may(tool: Tool) -> None:
    with host(HOLDS, "1") as pid:
        published(tool, pid)
        target = "/api/v1/memory/gc"
        with exporter() as site:
            for lines, code in [
                ({}, 401),
                ({"X-Memguard": "1"}, 401),
                ({**WRITE, "Authorization": f"Bearer {TOKEN}x"}, 401),
                ({"Authorization": f"Bearer {TOKEN}"}, 403),
                ({**WRITE, "Origin": "http://evil.example"}, 403),
                ({**WRITE, "Host": "evil.example"}, 421),
            ]:
                done = site.ask("POST", target, b"{}", **lines)
                assert done.status == code
                assert "\n" not in done.json()["error"]
            assert site.get("/metrics", Host="evil.example").status == 421
        with exporter("--allow-host", "box.example") as site:
            assert site.get("/metrics", Host="box.example:9479").status == 200
        with exporter("--read-token") as site:
            assert site.get("/metrics").status == 401
            assert site.get("/livez").status == 200
            assert site.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 200
        with exporter(token="") as site:
            assert site.get("/metrics").status == 200
            done = site.ask("POST", target, b"{}", **WRITE)
            assert done.status == 403
            assert "MEMGUARD_WEB_TOKEN" in done.text


def test_a_token_file(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("another-token-of-enough-letters\n")
    with host(HOLDS, "1") as pid, exporter("--token-file", path, token="") as site:
        published(tool, pid)
        lines = {**WRITE, "Authorization": "Bearer another-token-of-enough-letters"}
        assert site.ask("POST", "/api/v1/memory/gc", b"{}", **lines).status == 200
        assert site.ask("POST", "/api/v1/memory/gc", b"{}", **WRITE).status == 401


def test_readiness(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMGUARD_MAX_MEMORY_MB", "20")
    with host(HOLDS, "30") as pid, exporter("--ready-below", "90") as site:
        published(tool, pid)
        until(lambda: site.get(f"/readyz?pid={pid}").status == 503)
        assert site.get("/livez").status == 200
        until(lambda: site.get("/health").json()["services"] == {"memory": "warning"})


class Local(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


def lives(path: Path) -> bool:
    """Whether an exporter answers there."""
    client = Local(path)
    with contextlib.closing(client), contextlib.suppress(OSError):
        client.request("GET", "/livez")
        return client.getresponse().read() == b'{"status":"ok"}\n'
    return False


def test_a_local_socket(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with exporter("--unix", path) as site:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert lives(path)
        done = tool("exporter", "--unix", path)
        assert done.code == 6
        assert "Address already in use" in done.err
        assert path.exists()
        site.running.kill()
        site.running.wait(30)
        site.running.returncode = 0
    assert path.exists()  # left behind by one that was killed
    with exporter("--unix", path) as site:
        assert site.end() == 0
    assert not path.exists()
    path.write_text("mine")
    done = tool("exporter", "--unix", path)
    assert done.code == 6
    assert path.read_text() == "mine"


def test_other_machines_need_a_token(tool: Tool, tmp_path: Path) -> None:
    needs = "0.0.0.0 can be reached by other machines, which needs"
    done = tool("exporter", "--listen", "0.0.0.0:0")
    assert (done.code, done.out) == (2, "")
    assert f"{needs} --allow-remote and a token" in done.err
    done = tool("exporter", "--listen", "0.0.0.0:0", "--allow-remote")
    assert (done.code, done.out) == (2, "")
    assert f"{needs} a token: --token-file" in done.err
    with exporter("--listen", "0.0.0.0:0", "--allow-remote") as site:
        assert site.get("/metrics").status == 401
        assert site.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 200
        assert site.get("/livez").status == 200


def test_wrong_words(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, code, message in [
            (("x",), 2, 'unexpected word "x"'),
            (("--listen", "x"), 2, '--listen "x": ADDRESS:PORT, such as'),
            (("--listen", "::1:80"), 2, '--listen "::1:80": ADDRESS:PORT'),
            (("--listen", "127.0.0.1:x"), 2, 'the port of --listen "x": a number'),
            (("--listen", "127.0.0.1:65536"), 2, '"65536": a number from 0'),
            (("--listen", f"127.0.0.1:{port}"), 6, "Address already in use"),
            (("--listen", "127.0.0.1:0", "--unix", "x"), 2, "--listen or --unix"),
            (("--unix", "x" * 200), 2, "a path of at most 107 bytes"),
            (("--unix", "/no/such/folder/s"), 6, "cannot listen at /no/such/folder/s"),
            (("--token-file", "none"), 2, "none"),
            (("--token-file", "short"), 2, "16"),
            (("--read-token",), 2, "--read-token needs a token: --token-file"),
            (("--allow-host", "a b"), 2, '"a b"'),
            (("--ready-below", "-1"), 2, '--ready-below "-1": a number from 0'),
            (("--json",), 2, "--list-metrics goes alone, or with --json"),
            (("--list-metrics", "--read-token"), 2, "--list-metrics goes alone"),
        ]:
            done = tool("exporter", *words)
            assert (done.code, done.out) == (code, ""), words
            assert message in done.err
            assert len(done.err.splitlines()) == 1
            assert "short\n" not in done.err


def test_the_library_is_not_there(tool: Tool, tmp_path: Path) -> None:
    """It says what to install; all other commands do without."""
    (tmp_path / "libmicrohttpd.so.12").write_text("none")
    variables = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = tool("exporter", env=variables)
    assert (done.code, done.out) == (6, "")
    assert "needs libmicrohttpd 0.9.73 or later" in done.err
    assert "apt-get install libmicrohttpd12" in done.err
    assert tool("ps", env=variables).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it(tool: Tool, number: int) -> None:
    """Also while a process does not answer, and nobody takes an answer."""
    with host(HOLDS, "1") as pid, exporter() as site:
        published(tool, pid)
        os.kill(pid, signal.SIGSTOP)
        got: list[int] = []
        asking = threading.Thread(
            target=lambda: got.append(site.get("/api/v1/memory/config").status)
        )
        waits = socket.create_connection(("127.0.0.1", site.port))
        try:
            asking.start()
            waits.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
            threads = f"/proc/{site.pid}/task"
            # One looks at the dead at times, another one asks.
            until(lambda: len(os.listdir(threads)) > 2)
            assert site.end(number) == 0
            asking.join(30)
            assert got == [503]
        finally:
            waits.close()
            os.kill(pid, signal.SIGCONT)


def test_nobody_reads_where_it_listens(environment: None, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with open("/dev/full", "w") as full:
        running = subprocess.Popen([TOOL, "exporter", "--unix", path], stdout=full)
    try:
        until(lambda: lives(path))
        running.terminate()
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait(30)
