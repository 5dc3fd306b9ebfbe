"""Text and base64 in rented memory: exact, strict, with the position of mistakes."""

import base64

import pytest
from memguard import (
    ClosedError,
    ConfigTypeError,
    EncodingError,
    MemoryPool,
    RangeError,
    encoding,
    shared_pool,
)
from memguard.encoding import (
    base64_decode,
    base64_encode,
    try_utf8_encode_into,
    utf8_decode,
    utf8_encode,
    utf8_encode_into,
)

TEXTS = [
    ("", b""),
    ("order", b"order"),
    ("\x00\x7f", b"\x00\x7f"),
    ("é\x80", b"\xc3\xa9\xc2\x80"),
    ("€", b"\xe2\x82\xac"),
    ("a😀", b"a\xf0\x9f\x98\x80"),
    ("\ufeff", b"\xef\xbb\xbf"),
]


def taken(buffer: "encoding.PooledBuffer") -> bytes:
    with buffer:
        return bytes(buffer.memory)


# ---- UTF-8 -----------------------------------------------------------------


@pytest.mark.parametrize(("text", "coded"), TEXTS)
def test_utf8_both_ways(pool: MemoryPool, text: str, coded: bytes) -> None:
    buffer = utf8_encode(text, pool)
    assert len(buffer) == len(coded)
    assert utf8_decode(buffer) == text
    assert taken(buffer) == coded
    assert utf8_decode(coded) == text
    assert utf8_decode(memoryview(b"?" + coded)[1:]) == text


def test_without_a_pool_the_shared_one_is_used() -> None:
    before = shared_pool().stats()["rented"]
    assert taken(utf8_encode("shared")) == b"shared"
    assert taken(base64_encode(b"shared")) == b"c2hhcmVk"
    assert taken(base64_decode(b"c2hhcmVk")) == b"shared"
    assert shared_pool().stats()["rented"] == before + 3


@pytest.mark.parametrize(
    ("text", "at"),
    [("\ud800", 0), ("ab\udfff", 2), ("é\ud83d!", 1), ("a\udc00\ud800", 1)],
)
def test_a_lone_surrogate_is_refused(pool: MemoryPool, text: str, at: int) -> None:
    with pytest.raises(EncodingError, match=f"lone surrogate at position {at} "):
        utf8_encode(text, pool)
    room = bytearray(b"....")
    with pytest.raises(EncodingError, match=f"position {at} "):
        utf8_encode_into(text, room)
    assert room == b"...."


@pytest.mark.parametrize(
    ("coded", "at"),
    [
        (b"\x80", 0),
        (b"ab\xff", 2),
        (b"\xc3\xa9\xc3", 2),  # cut off
        (b"\xc0\xaf", 0),  # too long for what it says
        (b"a\xed\xa0\x80", 1),  # a surrogate
        (b"\xf4\x90\x80\x80", 0),  # beyond Unicode
    ],
)
def test_what_is_not_utf8_is_refused(coded: bytes, at: int) -> None:
    with pytest.raises(EncodingError, match=f"position {at} "):
        utf8_decode(coded)


def test_text_into_what_is_there() -> None:
    room = bytearray(b"......")
    assert utf8_encode_into("é€", room) == 5
    assert room == b"\xc3\xa9\xe2\x82\xac."
    assert utf8_encode_into("ab", memoryview(room)[1:4]) == 2
    assert room == b"\xc3ab\x82\xac."
    assert try_utf8_encode_into("abcdef", room) == 6
    assert try_utf8_encode_into("abcdef!", room) is None
    with pytest.raises(RangeError, match="has 6 bytes, needed: 7"):
        utf8_encode_into("abcdef!", room)
    assert room == b"abcdef"


# ---- base64 ----------------------------------------------------------------

# RFC 4648, section 10.
VECTORS = [
    (b"", b""),
    (b"f", b"Zg=="),
    (b"fo", b"Zm8="),
    (b"foo", b"Zm9v"),
    (b"foob", b"Zm9vYg=="),
    (b"fooba", b"Zm9vYmE="),
    (b"foobar", b"Zm9vYmFy"),
]


@pytest.fixture(params=["pybase64", "without"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pybase64 for what is long, and without it."""
    if request.param == "without":
        monkeypatch.setattr(encoding, "_fast", None)


@pytest.mark.parametrize(("plain", "coded"), VECTORS)
def test_base64_vectors(pool: MemoryPool, plain: bytes, coded: bytes) -> None:
    assert taken(base64_encode(plain, pool)) == coded
    assert taken(base64_decode(coded, pool)) == plain
    assert taken(base64_decode(coded.decode(), pool)) == plain


def test_the_url_safe_alphabet(pool: MemoryPool) -> None:
    assert taken(base64_encode(b"\xfb\xff\xbf\xff", pool)) == b"+/+//w=="
    assert taken(base64_encode(b"\xfb\xff\xbf\xff", pool, url_safe=True)) == b"-_-__w=="
    assert taken(base64_decode(b"-_-__w==", pool, url_safe=True)) == b"\xfb\xff\xbf\xff"
    with pytest.raises(EncodingError, match="position 0 is not of the alphabet"):
        base64_decode(b"-_-__w==", pool)
    with pytest.raises(EncodingError, match="position 1 is not of the alphabet"):
        base64_decode(b"-/-__w==", pool, url_safe=True)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("size", [*range(0, 10), 767, 1023, 1024, 1025, 12288, 40001])
def test_the_standard_library_reads_and_writes_the_same(
    pool: MemoryPool, size: int
) -> None:
    plain = bytes(i * 7 % 256 for i in range(size))
    for url_safe, peer in ((False, base64.b64encode), (True, base64.urlsafe_b64encode)):
        coded = taken(base64_encode(plain, pool, url_safe))
        assert coded == peer(plain)
        assert taken(base64_decode(coded, pool, url_safe)) == plain
        assert taken(base64_decode(memoryview(coded), pool, url_safe)) == plain
        assert taken(base64_decode(coded.decode(), pool, url_safe)) == plain


WRONG = [
    (b"Zg=", 3, "no multiple of 4"),
    (b"Z", 1, "no multiple of 4"),
    (b"Zm9vY", 5, "no multiple of 4"),
    (b"=", 1, "no multiple of 4"),
    (b"====", 0, "padding"),
    (b"Z===", 1, "padding"),
    (b"Zg==Zg==", 2, "padding"),
    (b"Zm=v", 2, "padding"),
    (b"Zm9v\n", 4, "not of the alphabet"),
    (b"Zm 9", 2, "not of the alphabet"),
    (b"Zm9\xff", 3, "not of the alphabet"),
    (b"Zh==", 1, "bits that are not zero"),
    (b"Zm9=", 2, "bits that are not zero"),
]


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("before", [0, 4000, 16384 * 2])
@pytest.mark.parametrize(("coded", "at", "why"), WRONG)
def test_what_is_not_base64_is_refused(
    pool: MemoryPool, coded: bytes, at: int, why: str, before: int
) -> None:
    with pytest.raises(EncodingError) as caught:
        base64_decode(b"A" * before + coded, pool)
    assert f"position {before + at} is" in str(caught.value)
    assert why in str(caught.value)


@pytest.mark.usefixtures("path")
def test_padding_between_chunks_is_refused(pool: MemoryPool) -> None:
    chunk = encoding.CHUNK_BYTES
    coded = b"A" * (chunk - 2) + b"==" + b"A" * 400
    with pytest.raises(EncodingError, match=f"position {chunk - 2} is padding"):
        base64_decode(coded, pool)


def test_text_that_is_not_ascii_is_no_base64(pool: MemoryPool) -> None:
    with pytest.raises(EncodingError, match="position 2 is not of the alphabet"):
        base64_decode("Zm\u0139v", pool)


# ---- bad arguments ---------------------------------------------------------


def test_wrong_types_are_named(pool: MemoryPool) -> None:
    with pytest.raises(ConfigTypeError, match="text is of type bytes"):
        utf8_encode(b"text", pool)  # type: ignore[arg-type]
    with pytest.raises(ConfigTypeError, match="view is of type str"):
        utf8_decode("text")
    with pytest.raises(ConfigTypeError, match="destination is of type bytes"):
        utf8_encode_into("text", b"text")
    with pytest.raises(ConfigTypeError, match="data is of type str"):
        base64_encode("text", pool)
    with pytest.raises(ConfigTypeError, match="data is of type int"):
        base64_decode(5, pool)
    with pytest.raises(ConfigTypeError, match="data is of type memoryview"):
        base64_encode(memoryview(b"text")[::2], pool)
    with pytest.raises(ConfigTypeError, match="pool is of type dict"):
        base64_encode(b"text", {})  # type: ignore[arg-type]


def test_a_closed_pool_is_refused() -> None:
    with MemoryPool() as closed:
        pass
    for call in (utf8_encode, base64_encode, base64_decode):
        with pytest.raises(ClosedError):
            call("QUFB" if call is not base64_encode else b"AAA", closed)  # type: ignore[operator]
