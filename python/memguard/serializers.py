"""JSON and MessagePack over rented memory: JsonSerializer, MessagePackSerializer.

    serializer = memguard.serializers.MessagePackSerializer()
    with serializer.serialize_pooled(order) as message:
        await bus.publish("orders", message)

msgspec writes into a workspace that is used again and again; from there the bytes,
whose number is then known, are copied once to where they are wanted. What is made
is plain JSON in UTF-8 and plain MessagePack.

Values are what msgspec takes: dict, list, str, int, float, bool, None, bytes,
datetime, UUID, Decimal, enums, dataclasses, msgspec.Struct and others. With a
`type`, deserialize() makes and checks that type; msgspec.Struct types are several
times faster than dicts, and a field of type memoryview refers to the bytes it was
read from, which then stay rented until it is gone.

Any thread. Raises EncodingError for what cannot be serialized (naming its type) and
for what is not JSON or MessagePack (naming the position, in bytes from 0); messages
never contain values. AbsentError if msgspec is not installed.

How deep values may be nested is up to CPython; 3.14 goes as deep as the thread's
stack allows. Where that has no bounds (ulimit -s unlimited), a list that contains
itself takes all memory there.
"""

from __future__ import annotations

import re

from memguard._core import (
    AbsentError,
    ConfigTypeError,
    EncodingError,
    MemguardError,
    pooled_copy,
)
from memguard.pool import shared_pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memguard._core import PooledBuffer, PooledBufferWriter
    from memguard.pool import MemoryPool

__all__ = ["JsonSerializer", "MessagePackSerializer"]

_TRAILING = re.compile(r"(JSON .*trailing characters) \(byte (\d+)\)")

ROOM_BYTES = 4096  # of a new workspace
WORKSPACE_BYTES = 1048576  # one that grew beyond is not kept


class _Serializer:
    """What both formats share. `pool` is a MemoryPool, by default the shared one."""

    _format = ""

    def __init__(self, pool: MemoryPool | None = None, *, type: Any = None) -> None:
        try:
            import msgspec
        except ImportError:
            raise AbsentError(
                f"{self.__class__.__name__} needs the package msgspec: "
                "pip install 'memguard[msgspec]'"
            ) from None
        library = getattr(msgspec, self._format)
        self.pool = shared_pool() if pool is None else pool
        encoder = library.Encoder()
        self._encode_plain, self._encode_into = encoder.encode, encoder.encode_into
        decoder = library.Decoder() if type is None else library.Decoder(type)
        self._decode = decoder.decode
        self._refused = (msgspec.MsgspecError, ValueError)
        self._spare: list[bytearray] = []  # append() and pop() are one step each

    # ---- to bytes --------------------------------------------------------------

    def serialize(self, value: Any) -> bytes:
        """The bytes of `value`, not pooled."""
        try:
            made: bytes = self._encode_plain(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._unserializable(value, error) from None
        return made

    def serialize_pooled(self, value: Any) -> PooledBuffer:
        """The bytes of `value` in a rental of exactly their number."""
        # As the others, less calls: this is the one that matters.
        spare = self._spare
        workspace = spare.pop() if spare else bytearray(ROOM_BYTES)
        try:
            self._encode_into(value, workspace)
            return pooled_copy(self.pool, workspace)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._unserializable(value, error) from None
        finally:
            if len(workspace) <= WORKSPACE_BYTES:
                spare.append(workspace)

    def serialize_to_memory(self, value: Any) -> PooledBuffer:
        """The same as serialize_pooled()."""
        return self.serialize_pooled(value)

    def serialize_into(self, value: Any, writer: PooledBufferWriter) -> int:
        """Appends the bytes of `value`. @return how many. What `writer` may be: a
        PooledBufferWriter, or any binary file. Raises RangeError when it is full:
        then nothing was written."""
        workspace = self._encode(value)
        try:
            writer.write(workspace)
            return len(workspace)
        finally:
            self._keep(workspace)

    def try_serialize(self, value: Any, destination: Any) -> int | None:
        """Writes the bytes of `value` to the start of `destination`, which is
        contiguous and writable. @return how many; None if there is too little
        room: then nothing was written."""
        target = _writable(destination)
        workspace = self._encode(value)
        try:
            count = len(workspace)
            if count > len(target):
                return None
            target[:count] = workspace
            return count
        finally:
            self._keep(workspace)

    def get_pooled_writer(self, size_hint: int = 256) -> PooledBufferWriter:
        """A writer over the pool, for serialize_into() and others."""
        return self.pool.rent_writer(size_hint)

    def _encode(self, value: Any) -> bytearray:
        """@return a workspace with exactly the bytes; _keep() it."""
        workspace = self._spare.pop() if self._spare else bytearray(ROOM_BYTES)
        try:
            self._encode_into(value, workspace)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._keep(workspace)
            raise self._unserializable(value, error) from None
        return workspace

    def _keep(self, workspace: bytearray) -> None:
        if len(workspace) <= WORKSPACE_BYTES:
            self._spare.append(workspace)

    def _unserializable(self, value: Any, error: Exception) -> Exception:
        if isinstance(error, MemguardError):  # of the pool, not of the value
            return error
        if isinstance(error, UnicodeEncodeError):
            why = f"a text has a lone surrogate at position {error.start}"
        elif isinstance(error, RecursionError):
            why = "it is nested too deeply, or inside itself"
        else:
            why = str(error)  # names a type, never a value
        kind = type(value).__name__
        return EncodingError(f"a {kind} cannot become {self._format}: {why}")

    # ---- from bytes ------------------------------------------------------------

    def deserialize(self, view: Any) -> Any:
        """The value that the bytes stand for. `view`: bytes, a PooledBuffer, what
        else has a contiguous buffer."""
        try:
            return self._decode(view)
        except RecursionError:
            why = "nested too deeply"
        except UnicodeDecodeError as error:
            why = f"a text is not UTF-8 at byte {_position(view, error)}"
        except self._refused as error:
            if isinstance(error, MemguardError):  # of a buffer that was returned
                raise
            why = _without_values(str(error), memoryview(view).nbytes)
        except TypeError:
            kind = type(view).__name__
            raise ConfigTypeError(
                f"view is of type {kind}, allowed: contiguous bytes"
            ) from None
        raise EncodingError(f"not {self._format}: {why}")


class JsonSerializer(_Serializer):
    """JSON in UTF-8; `type` as told above. NaN and infinities become null."""

    _format = "json"


class MessagePackSerializer(_Serializer):
    """MessagePack; `type` as told above."""

    _format = "msgpack"


def _writable(destination: Any) -> memoryview:
    try:
        view = memoryview(destination).cast("B")
    except TypeError:
        view = None
    if view is None or view.readonly:
        kind = type(destination).__name__
        raise ConfigTypeError(
            f"destination is of type {kind}, allowed: contiguous writable bytes"
        )
    return view


def _position(view: Any, error: UnicodeDecodeError) -> int:
    """Where in the message it is that Python found in one text of it."""
    return bytes(view).find(error.object) + error.start


def _without_values(message: str, size: int) -> str:
    """What msgspec says, less what it quotes of the data."""
    if message == "Input data was truncated":
        return f"it ends too early, at byte {size}"
    trailing = _TRAILING.fullmatch(message)
    if trailing is not None:  # it tells the one after
        return f"{trailing[1]} (byte {int(trailing[2]) - 1})"
    what, separator, path = message.partition(" - at ")
    if what.startswith("Invalid ") and " value " in what:
        what = what[: what.index(" value ") + len(" value")]
    return what + separator + path
