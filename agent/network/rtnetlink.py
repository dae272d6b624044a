# SPDX-License-Identifier: Apache-2.0
"""Reading rtnetlink: dumps, messages and attributes (man 7 netlink, man 7 rtnetlink).

The agent reads its few attributes itself: pyroute2 takes 18 MB and 0.6 ms per interface, and an agent with
TCX needs nothing of it. What changes something goes through agent/hooks/netlink.py.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

REQUEST: Final = 1
RECEIVE_BYTES: Final = 1 << 18
_DUMP: Final = 0x300
_DUMP_INTERRUPTED: Final = 0x10
_ERROR: Final = 2
_DONE: Final = 3
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ATTRIBUTE_TYPE_MASK: Final = 0x3FFF
_TIMEOUT_S: Final = 10.0
_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message without its header."""

    type: int
    flags: int
    body: bytes


def open_socket() -> socket.socket:
    """A blocking rtnetlink socket of this network namespace."""
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    channel.settimeout(_TIMEOUT_S)
    return channel


def dump(message_type: int, body: bytes, what: str) -> list[Message]:
    """Everything of one kind, asked again if a change interrupted it. Raises OSError, naming `what`."""
    with open_socket() as channel:
        for _ in range(_TRIES):
            _send(channel, message_type, body, REQUEST | _DUMP)
            found = _receive_dump(channel, what)
            if found is not None:
                return found
    raise OSError(errno.EBUSY, f"{what}: something changed during each of {_TRIES} attempts")


def get(message_type: int, body: bytes, what: str) -> Message:
    """One object. Raises OSError (ENODEV and the like), naming `what`."""
    with open_socket() as channel:
        _send(channel, message_type, body, REQUEST)
        message = next(messages(channel.recv(RECEIVE_BYTES)))
    _raise_if_error(message, what)
    return message


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield Message(kind, flags, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type; of a repeated one the last."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _ATTRIBUTE_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute; the value's length is a multiple of 4."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def text(value: bytes | None) -> str:
    """A string attribute; empty if it is not there."""
    return value.rstrip(b"\0").decode() if value else ""


def u32(value: bytes | None) -> int:
    """An unsigned attribute; 0 if it is not there."""
    return int(struct.unpack("=I", value)[0]) if value else 0


def _send(channel: socket.socket, message_type: int, body: bytes, flags: int) -> None:
    channel.send(_HEADER.pack(_HEADER.size + len(body), message_type, flags, 1, 0) + body)


def _receive_dump(channel: socket.socket, what: str) -> list[Message] | None:
    """One listing; None if it was interrupted and may have holes."""
    found: list[Message] = []
    is_interrupted = False
    while True:
        for message in messages(channel.recv(RECEIVE_BYTES)):
            is_interrupted |= bool(message.flags & _DUMP_INTERRUPTED)
            _raise_if_error(message, what)
            if message.type == _DONE:
                return None if is_interrupted else found
            found.append(message)


def _raise_if_error(message: Message, what: str) -> None:
    if message.type == _ERROR:
        number = -int(struct.unpack_from("=i", message.body)[0])
        raise OSError(number, f"{what}: {os.strerror(number)}")
