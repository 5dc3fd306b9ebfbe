"""The message bus (python/examples and node/examples) on real brokers that are killed,
slow, full or not there, and with payloads that are no messages."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
import redis
from memguard import MemoryPool

ROOT = Path(__file__).resolve().parents[2]
BUS = ROOT / "python" / "examples" / "message_bus"
sys.path[:0] = [str(BUS.parent), str(ROOT / "tests" / "python")]

from message_bus import host, messages, roads  # noqa: E402
from servers import proxy_to, serving  # noqa: E402

SECONDS = 100.0  # bound of each wait
MESSAGES = 1000
SUM = 2_137_946_298_535  # of their checksums
OUTBOX = "memguard:outbox:"

GOOD = {"kind": "data", "session": "evil", "n": 0, "sum": 1, "body": b"x"}
HOSTILE = [
    (b"", "unreadable"),
    (b"\xc1", "unreadable"),
    (b"\xdf\xff\xff\xff\xff", "unreadable"),  # a map of four milliards
    (b"\x91" * 5000, "unreadable"),
    (b"\xda\xff\xff short", "unreadable"),
    (b"\x07", "no map"),
    (msgspec.msgpack.encode([GOOD]), "no map"),
    (b"\x80", "kind"),
    (msgspec.msgpack.encode({**GOOD, "kind": ["data"]}), "kind"),
    (msgspec.msgpack.encode({**GOOD, "session": "s" * 17}), "field"),
    (msgspec.msgpack.encode({**GOOD, "n": -1}), "field"),
    (msgspec.msgpack.encode({**GOOD, "n": 1 << 31}), "field"),
    (msgspec.msgpack.encode({**GOOD, "body": "text"}), "field"),
    (msgspec.msgpack.encode({**GOOD, "kind": "answers", "sums": [[1]]}), "field"),
    (msgspec.msgpack.encode(GOOD), "sum"),
    (msgspec.msgpack.encode({**GOOD, "body": bytes(200_000)}), "large"),
]
REJECTED = {
    "unreadable": 5, "no map": 2, "kind": 2, "field": 5, "sum": 1, "large": 1,
}  # fmt: skip


class Run:
    """The program, and what it said last."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.line: dict[str, Any] = {}

    def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Reads lines up to one for which it holds. @return it."""
        end = time.monotonic() + SECONDS
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.line = json.loads(text)
            assert self.line["event"] == "line", self.line
            if self.line.get("node") and condition(self.line):
                return self.line
            assert time.monotonic() < end, self.line
        raise AssertionError(f"it has ended; before it said {self.line}")

    def until_more(self, count: int) -> None:
        """Until both sides have had so many more messages answered."""
        if not self.line:
            self.until(lambda _: True)
        least = {s: self.line[s]["acknowledged"] + count for s in ("python", "node")}
        self.until(lambda line: all(line[s]["acknowledged"] >= least[s] for s in least))

    def end(self, code: int = 0) -> tuple[dict[str, Any], str]:
        """@return the last line, and what went to stderr."""
        out, err = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == code, err
        assert "Traceback" not in err
        last = json.loads(out.splitlines()[-1])
        assert last["event"] == "end"
        return last, err

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def running(folder: Path, *options: object) -> Iterator[Run]:
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, str(BUS), "--json", *map(str, options)],
        env={**os.environ, "TMPDIR": str(temporary)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Run(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
    assert os.listdir(temporary) == []


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def check_all_there(end: dict[str, Any]) -> None:
    """What each side has published, the other has received, once."""
    for sender, receiver in (("python", "node"), ("node", "python")):
        ours, theirs = end[sender], end[receiver]
        assert (ours["lost"], ours["unpublished"]) == (0, 0)
        assert ours["published"] == ours["acknowledged"] == theirs["received"] > 0
        assert ours["sent_sum"] == theirs["received_sum"] > 0


# --- There and back -----------------------------------------------------------


def test_over_streams_and_past_what_is_no_message(tmp_path: Path) -> None:
    with serving("redis", tmp_path) as server, redis.Redis(port=server.port) as client:
        for topic in ("bus.node", "bus.python"):
            for payload, _ in HOSTILE:
                client.xadd(topic, {"payload": payload})
            client.xadd(topic, {"other": b"no payload at all"})
        options = ("--url", server.url, "--name", "bus", "--messages", MESSAGES)
        with running(tmp_path, *options) as run:
            end, _ = run.end()
        # They are kept for who wants to look, everything else is gone.
        assert client.keys() == [b"bus.aside"]
        aside = [fields[b"payload"] for _, fields in client.xrange("bus.aside")]
    assert end["error"] is None
    check_all_there(end)
    for side in (end["python"], end["node"]):
        assert side["acknowledged"] == side["received"] == MESSAGES
        assert side["sent_sum"] == side["received_sum"] == SUM
        assert (side["duplicated"], side["resent"]) == (0, 0)
        assert side["failures"] == {}
        assert side["rejected"] == {**REJECTED, "unreadable": 6}
        assert side["pending"] == 0
        assert 0 <= side["pool_hit_rate"] < 1
        assert side["peak_bytes"] >= side["rss_bytes"] > 1 << 20
    assert sorted(aside) == sorted([payload for payload, _ in HOSTILE] * 2 + [b""] * 2)


def test_a_read_of_nothing_but_junk_is_set_aside(tmp_path: Path) -> None:
    """As many as one read takes, for each side."""
    junk = {
        topic: [f"{topic} {number}".encode() for number in range(64)]
        for topic in ("bus.node", "bus.python")
    }
    with serving("redis", tmp_path) as server, redis.Redis(port=server.port) as client:
        for topic, payloads in junk.items():
            for payload in payloads:
                client.xadd(topic, {"payload": payload})
        options = ("--url", server.url, "--name", "bus", "--messages", 1)
        with running(tmp_path, *options) as run:
            end, _ = run.end()
        aside = [fields[b"payload"] for _, fields in client.xrange("bus.aside")]
    check_all_there(end)
    assert sorted(aside) == sorted(junk["bus.node"] + junk["bus.python"])


async def answers_of(url: str, count: int) -> Counter[int]:
    """How often each of so many messages is answered by the Node side."""
    found: Counter[int] = Counter()
    has_all = asyncio.Event()

    async def take(message: Any) -> None:
        value = msgspec.msgpack.decode(message.data)
        if value["kind"] == "answers" and value["session"] == "asking":
            found.update(number for number, _ in value["sums"])
        if len(found) == count:
            has_all.set()

    client = await nats.connect(url)
    try:
        await client.subscribe("bus.python", cb=take)
        for number in range(count):
            value, _ = messages.data("asking", number)
            await client.publish("bus.node", msgspec.msgpack.encode(value))
            if number % 4 == 3:
                await client.flush()  # the next ones come while these are answered
        async with asyncio.timeout(SECONDS):
            await has_all.wait()
        return found
    finally:
        await client.close()


def test_node_answers_each_message_once(tmp_path: Path) -> None:
    node = ["node", str(host.NODE_SIDE), "--watched", "--json", "--broker", "nats"]
    node += ["--name", "bus", "--messages", "1", "--patience", "600"]
    with (
        serving("nats", tmp_path) as server,
        subprocess.Popen(
            [*node, "--url", server.url], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "open"
            found = asyncio.run(answers_of(server.url, MESSAGES))
            out, _ = process.communicate(timeout=SECONDS)  # its input ends
        finally:
            process.kill()
    assert found == dict.fromkeys(range(MESSAGES), 1)
    end = json.loads(out.splitlines()[-1])
    assert (end["event"], end["received"]) == ("end", MESSAGES)


@pytest.mark.parametrize(
    ("broker", "limit_mb", "slowed"), [("nats", 4096, 0), ("redis-channels", 30, 1)]
)
def test_over_transports(
    broker: str, limit_mb: int, slowed: int, tmp_path: Path
) -> None:
    """With less memory than the interpreters take, few are on their way at a time."""
    options = (
        "--broker", broker, "--messages", MESSAGES, "--max-memory-mb", limit_mb,
    )  # fmt: skip
    with (
        serving(broker.split("-")[0], tmp_path) as server,
        running(tmp_path, "--url", server.url, *options) as run,
    ):
        end, _ = run.end()
    check_all_there(end)
    for side in (end["python"], end["node"]):
        assert side["acknowledged"] == side["received"] == MESSAGES
        assert side["sent_sum"] == side["received_sum"] == SUM
        assert side["rejected"] == {}
        assert side["pending"] is None
        assert side["slowed"] >= slowed


# --- Brokers that end ---------------------------------------------------------


def test_redis_is_killed_and_what_it_acknowledged_arrives(tmp_path: Path) -> None:
    with serving("redis", tmp_path, is_kept=True) as server:
        options = ("--url", server.url, "--seconds", 600)
        with running(tmp_path, *options) as run:
            run.until_more(200)
            server.kill()
            run.until(
                lambda line: line["python"]["failures"] and line["node"]["failures"]
            )
            with serving("redis", tmp_path, server.port, is_kept=True):
                run.until_more(200)
                run.interrupt()
                end, _ = run.end()
    check_all_there(end)
    assert end["python"]["failures"]["BrokenConnectionError"] > 0
    assert end["python"]["rejected"] == end["node"]["rejected"] == {}


async def publish_hostile(url: str) -> None:
    client = await nats.connect(url)
    for topic in ("bus.python", "bus.node"):
        for payload, _ in HOSTILE:
            await client.publish(topic, payload)
    await client.drain()


def test_nats_is_killed_and_what_was_not_answered_is_sent_again(tmp_path: Path) -> None:
    """Core NATS keeps nothing: what was under way is gone with it."""
    with serving("nats", tmp_path) as server:
        options = (
            "--broker", "nats", "--url", server.url, "--seconds", 600, "--name", "bus",
        )  # fmt: skip
        with running(tmp_path, *options) as run:
            run.until_more(200)
            server.kill()
            run.until(
                lambda line: line["python"]["failures"] and line["node"]["failures"]
            )
            with serving("nats", tmp_path, server.port):
                run.until_more(200)
                asyncio.run(publish_hostile(server.url))
                run.until(lambda line: line["python"]["rejected"] == REJECTED)
                run.until(lambda line: line["node"]["rejected"] == REJECTED)
                run.interrupt()
                end, _ = run.end()
    check_all_there(end)
    assert end["python"]["failures"]["BrokenConnectionError"] > 0
    assert end["node"]["failures"]["ERR_MEMGUARD_BROKEN"] > 0


# --- Brokers in trouble -------------------------------------------------------


def kept_by(client: "redis.Redis", way: str) -> set[int]:
    """The numbers of messages that wait in the outbox or the stream of this way."""
    rows = [client.hget(key, "payload") for key in client.keys(f"{OUTBOX}{way}:mess*")]
    rows += [fields[b"payload"] for _, fields in client.xrange(way)]
    values = [msgspec.msgpack.decode(row) for row in rows]
    return {value["n"] for value in values if value["kind"] == "data"}


def test_redis_is_full_and_loses_nothing(tmp_path: Path) -> None:
    with serving("redis", tmp_path) as server, redis.Redis(port=server.port) as client:
        client.config_set("maxmemory-policy", "noeviction")
        options = ("--url", server.url, "--seconds", 600, "--name", "bus")
        with running(tmp_path, *options, "--patience", 1) as run:
            run.until_more(200)
            client.config_set("maxmemory", 1)
            run.until(lambda line: line["python"]["failures"].get("InvalidError"))
            run.until(lambda line: line["node"]["failures"].get("EREFUSED"))
            client.config_set("maxmemory", 0)
            run.until_more(200)
            # And now it stays full: nothing moves, but nothing is lost.
            client.config_set("maxmemory", 1)
            for side, way in (("python", "bus.node"), ("node", "bus.python")):
                refused = sum(run.line[side]["failures"].values()) + 5

                def is_stuck(
                    line: Any, side: str = side, way: str = way, refused: int = refused
                ) -> bool:
                    waiting = client.zcard(f"{OUTBOX}{way}:pending")
                    is_refused = sum(line[side]["failures"].values()) >= refused
                    return is_refused and waiting + line[side]["unpublished"] > 0

                run.until(is_stuck)
            run.interrupt()
            end, _ = run.end(code=1)
        for sender, receiver in (("python", "node"), ("node", "python")):
            ours = end[sender]
            answered = set()
            for _, fields in client.xrange(f"bus.{sender}"):
                value = msgspec.msgpack.decode(fields[b"payload"])
                answered |= {number for number, _ in value.get("sums", ())}
            kept = kept_by(client, f"bus.{receiver}")
            # What Redis has acknowledged and nobody answered is still in there.
            assert len(kept | answered) >= ours["lost"]
            assert ours["lost"] + ours["unpublished"] > 0
            assert ours["pending"] == client.zcard(f"{OUTBOX}bus.{receiver}:pending")
    assert end["error"] is None


def test_redis_is_slow(tmp_path: Path) -> None:
    with (
        serving("redis", tmp_path) as server,
        proxy_to(server, delay_s=0.02) as proxy,
        running(
            tmp_path, "--url", f"redis://127.0.0.1:{proxy.port}", "--messages", 20
        ) as run,
    ):
        end, _ = run.end()
    check_all_there(end)
    assert [end[side]["received"] for side in ("python", "node")] == [20, 20]


def test_redis_refuses(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # nobody else gets the port, and nobody listens
        port = deaf.getsockname()[1]
        with running(tmp_path, "--url", f"redis://127.0.0.1:{port}") as run:
            end, err = run.end(code=1)
    assert "message_bus: BrokenConnectionError: " in err
    assert end["error"].startswith("BrokenConnectionError: ")
    assert end["python"]["published"] == 0


# --- Its own end --------------------------------------------------------------


def test_ctrl_c_ends_it_and_the_broker_it_has_started(tmp_path: Path) -> None:
    with running(tmp_path, "--seconds", 600) as run:
        run.until_more(1)
        children = children_of(run.process.pid)
        assert len(children) == 2  # the broker and the Node side
        run.interrupt()
        end, _ = run.end()
    check_all_there(end)
    assert all(is_gone(pid) for pid in children)


def test_the_other_side_is_killed(tmp_path: Path) -> None:
    with (
        serving("redis", tmp_path) as server,
        running(tmp_path, "--url", server.url, "--seconds", 600) as run,
    ):
        run.until_more(1)
        (node,) = children_of(run.process.pid)
        os.kill(node, signal.SIGKILL)
        end, err = run.end(code=1)
    assert "message_bus: PeerError: the Node side ended with -9" in err
    assert end["error"] == "PeerError: the Node side ended with -9"


@pytest.mark.parametrize(
    ("state", "is_done"),
    [
        ({}, False),
        ({"in_flight": 0, "unpublished": 0}, False),  # it was killed
        ({"lost": 0, "unpublished": 0, "pending": 0}, True),
        ({"lost": 0, "unpublished": 0, "pending": None}, True),  # there is no outbox
        ({"lost": 1, "unpublished": 0, "pending": 0}, False),
        ({"lost": 0, "unpublished": 1, "pending": 0}, False),
        ({"lost": 0, "unpublished": 0, "pending": 1}, False),
    ],
)
def test_when_the_broker_may_forget(state: dict[str, Any], is_done: bool) -> None:
    assert host.has_all(state) is is_done


async def die_and_close(broker: str, url: str) -> None:
    died = asyncio.Event()

    async def settled() -> None:
        died.set()
        raise TypeError("a bug")

    with MemoryPool() as pool:
        road = roads.ROADS[broker](url, "bus", "python", "node", pool)
        try:
            await road.open(lambda *_: None, settled, lambda _: None)
            async with redis.asyncio.Redis.from_url(url) as client:
                if broker == "redis":
                    await client.xadd("bus.python", {"payload": b"x"})
                else:
                    await client.publish("bus.python", b"x")
            async with asyncio.timeout(SECONDS):
                await died.wait()
        finally:
            await road.close(False)


@pytest.mark.parametrize("broker", ["redis", "redis-channels"])
def test_a_task_that_died_is_told_of(broker: str, tmp_path: Path) -> None:
    with (
        serving("redis", tmp_path) as server,
        pytest.raises(TypeError, match="a bug"),
    ):
        asyncio.run(die_and_close(broker, server.url))


def test_nothing_outlives_it(tmp_path: Path) -> None:
    with running(tmp_path, "--broker", "nats", "--seconds", 600) as run:
        run.until_more(1)
        children = children_of(run.process.pid)
        try:
            run.process.kill()
            until(lambda: all(is_gone(pid) for pid in children))
        finally:
            for pid in children:
                if not is_gone(pid):
                    os.kill(pid, signal.SIGKILL)
        # Nobody was left to remove it.
        (folder,) = (tmp_path / "tmp").iterdir()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--messages", "0"], "--messages: 0 is not above 0"),
        (["--seconds", "inf"], "--seconds: inf is not above 0"),
        (["--broker", "kafka"], "--broker: invalid choice: 'kafka'"),
        (["--alone"], "--alone needs --url"),
    ],
)
def test_wrong_usage(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        host.parse(options)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
