"""Serializers: plain JSON and MessagePack that others read, in rented memory."""

import datetime
import gc
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from memguard import (
    AbsentError,
    ClosedError,
    ConfigTypeError,
    EncodingError,
    MemoryPool,
    RangeError,
    ReturnedError,
    shared_pool,
)
from memguard.serializers import JsonSerializer, MessagePackSerializer

ROOT = Path(__file__).resolve().parents[2]
ORDER: dict[str, Any] = {
    "id": 7,
    "big": 9007199254740991,
    "name": "Grüße €😀",
    "price": 12.5,
    "tags": ["a", None, True, -1],
    "empty": {},
}
JSON = (
    '{"id":7,"big":9007199254740991,"name":"Grüße €😀","price":12.5,'
    '"tags":["a",null,true,-1],"empty":{}}'
).encode()
MSGPACK = bytes.fromhex(
    "86a2696407a3626967cf001fffffffffffffa46e616d65af4772c3bcc39f6520e282acf09f9880"
    "a57072696365cb4029000000000000a47461677394a161c0c3ffa5656d70747980"
)
BOTH = [(JsonSerializer, JSON), (MessagePackSerializer, MSGPACK)]
both = pytest.mark.parametrize(("kind", "coded"), BOTH, ids=["json", "msgpack"])
Kind = type[JsonSerializer] | type[MessagePackSerializer]


@both
def test_to_bytes_and_back(pool: MemoryPool, kind: Kind, coded: bytes) -> None:
    serializer = kind(pool)
    assert serializer.serialize(ORDER) == coded
    for method in (serializer.serialize_pooled, serializer.serialize_to_memory):
        with method(ORDER) as buffer:
            assert bytes(buffer.memory) == coded
            assert len(buffer) == len(coded)
            assert serializer.deserialize(buffer) == ORDER
            assert serializer.deserialize(buffer.memory) == ORDER
    assert serializer.deserialize(coded) == ORDER
    assert serializer.deserialize(bytearray(coded)) == ORDER


@both
def test_into_a_writer(pool: MemoryPool, kind: Kind, coded: bytes) -> None:
    serializer = kind(pool)
    with serializer.get_pooled_writer(16) as writer:
        assert serializer.serialize_into(ORDER, writer) == len(coded)
        assert serializer.serialize_into(ORDER, writer) == len(coded)
        assert bytes(writer.written) == coded * 2
    with pool.rent_writer(8, max_bytes=20) as small:
        with pytest.raises(RangeError):
            serializer.serialize_into(ORDER, small)
        assert small.written_count == 0


@both
def test_into_what_is_there(pool: MemoryPool, kind: Kind, coded: bytes) -> None:
    serializer = kind(pool)
    room = bytearray(b"." * (len(coded) + 1))
    assert serializer.try_serialize(ORDER, room) == len(coded)
    assert room == coded + b"."
    exact = bytearray(len(coded))
    assert serializer.try_serialize(ORDER, exact) == len(coded)
    assert exact == coded
    small = bytearray(b"." * (len(coded) - 1))
    assert serializer.try_serialize(ORDER, small) is None
    assert small == b"." * (len(coded) - 1)
    with pool.rent(1000) as buffer:
        assert serializer.try_serialize(ORDER, buffer) == len(coded)
        assert bytes(buffer.memory[: len(coded)]) == coded


def test_sizes_change_from_value_to_value(pool: MemoryPool) -> None:
    serializer = MessagePackSerializer(pool)
    for size in (10, 100_000, 3, 2_000_000, 0, 70_000):
        with serializer.serialize_pooled(b"x" * size) as buffer:
            assert serializer.deserialize(buffer) == b"x" * size


def test_without_a_pool_the_shared_one_is_used() -> None:
    serializer = JsonSerializer()
    assert serializer.pool is shared_pool()
    with serializer.serialize_pooled([1]) as buffer:
        assert bytes(buffer.memory) == b"[1]"


# ---- other processes, other languages --------------------------------------


def output_of(command: list[str], data: bytes) -> str:
    done = subprocess.run(
        command, input=data, capture_output=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def pooled_bytes(serializer: Any, value: object) -> bytes:
    with serializer.serialize_pooled(value) as buffer:
        return bytes(buffer.memory)


def test_the_plain_library_reads_it_in_another_process(pool: MemoryPool) -> None:
    read = "import sys, json; print(json.dumps(json.load(sys.stdin.buffer)))"
    said = output_of(
        [sys.executable, "-c", read], pooled_bytes(JsonSerializer(pool), ORDER)
    )
    assert json.loads(said) == ORDER
    read = (
        "import sys, json, msgspec;"
        "print(json.dumps(msgspec.msgpack.decode(sys.stdin.buffer.read())))"
    )
    said = output_of(
        [sys.executable, "-c", read], pooled_bytes(MessagePackSerializer(pool), ORDER)
    )
    assert json.loads(said) == ORDER


def test_the_plain_library_of_node_reads_it(pool: MemoryPool) -> None:
    read = "console.log(JSON.stringify({}(require('fs').readFileSync(0))))"
    said = output_of(
        ["node", "-e", read.format("JSON.parse")],
        pooled_bytes(JsonSerializer(pool), ORDER),
    )
    assert json.loads(said) == ORDER
    # As a number: by itself it makes a BigInt of what has 64 bits.
    unpackr = (
        "new (require('msgpackr').Packr)({useRecords: false, int64AsType: 'number'})"
    )
    read = f"const by = {unpackr};" + read.format("by.unpack")
    said = output_of(
        ["node", "-e", read], pooled_bytes(MessagePackSerializer(pool), ORDER)
    )
    assert json.loads(said) == ORDER


def test_what_node_writes_is_read(pool: MemoryPool) -> None:
    write = f"process.stdout.write(JSON.stringify({json.dumps(ORDER)}))"
    said = output_of(["node", "-e", write], b"")
    assert JsonSerializer(pool).deserialize(said.encode()) == ORDER
    write = (
        f"const made = require('msgpackr').pack({json.dumps(ORDER)});"
        "process.stdout.write(made.toString('hex'))"
    )
    said = output_of(["node", "-e", write], b"")
    assert MessagePackSerializer(pool).deserialize(bytes.fromhex(said)) == ORDER


# ---- types -----------------------------------------------------------------


class Frame(msgspec.Struct):
    topic: str
    body: memoryview


class Order(msgspec.Struct):
    id: int
    at: datetime.datetime | None = None


def test_a_type_is_made_and_checked(pool: MemoryPool) -> None:
    serializer = JsonSerializer(pool, type=Order)
    moment = datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)
    with serializer.serialize_pooled(Order(5, moment)) as buffer:
        assert bytes(buffer.memory) == b'{"id":5,"at":"2030-01-02T00:00:00Z"}'
        assert serializer.deserialize(buffer) == Order(5, moment)
    with pytest.raises(EncodingError, match=r"Expected `int`, got `str` - at `\$\.id`"):
        serializer.deserialize(b'{"id":"secret"}')


def test_a_view_in_a_value_keeps_the_memory(pool: MemoryPool) -> None:
    serializer = MessagePackSerializer(pool, type=Frame)
    buffer = serializer.serialize_pooled(Frame("t", memoryview(b"x" * 1000)))
    frame = serializer.deserialize(buffer)
    buffer.return_()
    other = pool.rent(len(frame.body) + 20)
    other.memory[:] = b"y" * len(other)
    assert frame.body == b"x" * 1000
    assert pool.stats()["current"] == 2
    del frame
    gc.collect()
    assert pool.stats()["current"] == 1
    other.return_()


# ---- what cannot be --------------------------------------------------------


class Unknown:
    def __repr__(self) -> str:
        return "secret"


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@both
@pytest.mark.parametrize(
    ("value", "what"),
    [
        (Unknown(), "a Unknown cannot become .*Unknown"),
        ({"a": [Unknown()]}, "a dict cannot become .*Unknown"),
        (1j, "a complex cannot become"),
        (CIRCLE, "a list cannot become .*inside itself"),
        ("\ud800secret", "a str cannot become .*lone surrogate at position 0"),
    ],
)
def test_what_cannot_be_serialized(
    pool: MemoryPool, kind: Kind, coded: bytes, value: object, what: str
) -> None:
    serializer = kind(pool)
    room = bytearray(b"....")
    with pool.rent_writer() as writer:
        for call in (
            lambda: serializer.serialize(value),
            lambda: serializer.serialize_pooled(value),
            lambda: serializer.serialize_to_memory(value),
            lambda: serializer.serialize_into(value, writer),
            lambda: serializer.try_serialize(value, room),
        ):
            with pytest.raises(EncodingError, match=what) as caught:
                call()
            assert "secret" not in str(caught.value)
        assert writer.written_count == 0
    assert room == b"...."
    assert serializer.serialize(ORDER) == coded


@both
def test_too_deep_for_the_stack(pool: MemoryPool, kind: Kind, coded: bytes) -> None:
    """From CPython 3.14 on only the stack's size counts: it is that of a thread."""
    said: list[str] = []

    def deep() -> None:
        serializer = kind(pool)
        value = nested(100_000)
        for call in (serializer.serialize, serializer.serialize_pooled):
            try:
                call(value)
            except EncodingError as error:
                said.append(str(error))
        said.append(str(serializer.serialize(ORDER) == coded))

    former = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=deep)
        thread.start()
    finally:
        threading.stack_size(former)
    thread.join(60)
    assert len(said) == 3
    assert "a list cannot become" in said[0]
    assert "it is nested too deeply" in said[0]
    assert said[1:] == [said[0], "True"]


def test_numbers_that_do_not_fit(pool: MemoryPool) -> None:
    with pytest.raises(EncodingError, match=r"a dict cannot become msgpack: .*ints"):
        MessagePackSerializer(pool).serialize_pooled({"a": 1 << 64})
    assert JsonSerializer(pool).serialize([float("nan")]) == b"[null]"


@pytest.mark.parametrize(
    ("kind", "coded", "what"),
    [
        (JsonSerializer, b'{"a":secret}', r"\(byte 5\)"),
        (JsonSerializer, b"[1,2", "ends too early, at byte 4"),
        (JsonSerializer, b"", "ends too early, at byte 0"),
        (JsonSerializer, b"1 2", r"\(byte 2\)"),
        (JsonSerializer, b'["ok","\xff"]', "not UTF-8 at byte 7"),
        (JsonSerializer, b"[" * 100_000, "nested too deeply"),
        (MessagePackSerializer, b"\x92\x01", "ends too early, at byte 2"),
        (MessagePackSerializer, b"\x92\x01\xc1", r"\(byte 2\)"),
        (MessagePackSerializer, b"\x01\x01", r"\(byte 1\)"),
        (MessagePackSerializer, b"\x92\xa2ok\xa2a\xff", "not UTF-8 at byte 6"),
        (MessagePackSerializer, b"\x91" * 100_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_deserialized(
    pool: MemoryPool, kind: Kind, coded: bytes, what: str
) -> None:
    with pytest.raises(EncodingError, match=what) as caught:
        kind(pool).deserialize(coded)
    assert "secret" not in str(caught.value)


def test_a_value_that_is_refused_is_not_told(pool: MemoryPool) -> None:
    import enum
    from typing import Literal

    class Colour(enum.Enum):
        RED = "red"

    for wanted in (Colour, Literal["red"]):
        with pytest.raises(EncodingError, match=r"Invalid enum value - at `\$\[0\]`"):
            JsonSerializer(pool, type=list[wanted]).deserialize(b'["secret"]')  # type: ignore[valid-type]


@both
def test_wrong_arguments(pool: MemoryPool, kind: Kind, coded: bytes) -> None:
    serializer = kind(pool)
    with pytest.raises(ConfigTypeError, match="destination is of type bytes"):
        serializer.try_serialize(1, b"....")
    with pytest.raises(ConfigTypeError, match="destination is of type list"):
        serializer.try_serialize(1, [])
    with pytest.raises(ConfigTypeError, match="view is of type int"):
        serializer.deserialize(5)
    buffer = serializer.serialize_pooled(1)
    buffer.return_()
    with pytest.raises(ReturnedError):
        serializer.deserialize(buffer)
    with pytest.raises(ReturnedError):
        serializer.try_serialize(1, buffer)


@both
def test_a_closed_pool_is_refused(kind: Kind, coded: bytes) -> None:
    with MemoryPool() as pool:
        serializer = kind(pool)
    with pytest.raises(ClosedError):
        serializer.serialize_pooled(ORDER)
    assert serializer.serialize(ORDER) == coded


def test_without_msgspec_it_is_said_what_to_install(
    pool: MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(AbsentError, match=r"pip install 'memguard\[msgspec\]'"):
        JsonSerializer(pool)


@both
def test_threads_share_a_serializer(pool: MemoryPool, kind: Kind, coded: bytes) -> None:
    serializer = kind(pool)
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(300):
            value = {"thread": number, "rows": list(range(turn))}
            with serializer.serialize_pooled(value) as buffer:
                if serializer.deserialize(buffer) != value:
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
