# SPDX-License-Identifier: Apache-2.0
"""Protocol Buffers' wire format, as far as a few small messages need it (protobuf.dev, "Encoding"). Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_VARINT: Final = 0
_I64: Final = 1
_LEN: Final = 2
_I32: Final = 5
_MAX_VARINT_BYTES: Final = 10


class ProtobufError(ValueError):
    """These bytes are no message."""


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of a message by number, in their order; fixed-size ones are left out."""

    numbers: dict[int, int] = field(default_factory=dict)
    """Of each the last, as the format says."""
    bytes_: dict[int, list[bytes]] = field(default_factory=dict)

    def number(self, at: int) -> int:
        """A number; 0 where there is none."""
        return self.numbers.get(at, 0)

    def text(self, at: int) -> str:
        """A text; empty where there is none. Raises ProtobufError."""
        try:
            return self.bytes_[at][-1].decode() if at in self.bytes_ else ""
        except UnicodeDecodeError:
            raise ProtobufError(f"field {at} is no text") from None

    def message(self, at: int) -> "Message":
        """A message; an empty one where there is none. Raises ProtobufError."""
        return parse(self.bytes_[at][-1]) if at in self.bytes_ else Message()

    def messages(self, at: int) -> Iterator["Message"]:
        """All of a repeated field. Raises ProtobufError."""
        return map(parse, self.bytes_.get(at, ()))

    def texts(self, at: int) -> dict[str, str]:
        """A map of texts. Raises ProtobufError."""
        return {each.text(1): each.text(2) for each in self.messages(at)}


def parse(data: bytes) -> Message:
    """The message in `data`. Raises ProtobufError."""
    found = Message()
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            found.numbers[number], at = _varint(data, at)
        elif kind == _LEN:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ProtobufError("it is cut off")
            found.bytes_.setdefault(number, []).append(data[at : at + length])
            at += length
        elif kind in (_I64, _I32):
            at += 8 if kind == _I64 else 4
            if at > len(data):
                raise ProtobufError("it is cut off")
        else:
            raise ProtobufError(f"wire type {kind}")
    return found


def text_field(number: int, text: str) -> bytes:
    """A text as a field."""
    data = text.encode()
    return _packed(number << 3 | _LEN) + _packed(len(data)) + data


def flag_field(number: int) -> bytes:
    """A true as a field."""
    return _packed(number << 3 | _VARINT) + b"\x01"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(_MAX_VARINT_BYTES):
        if at >= len(data):
            raise ProtobufError("it is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at
    raise ProtobufError("a number of more than ten bytes")


def _packed(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
