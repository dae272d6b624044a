# SPDX-License-Identifier: Apache-2.0
"""Packets out of a capture file: pcap and pcapng, read as a stream, with bounded memory.

Formats: draft-ietf-opsawg-pcap (magic numbers, 24 bytes of header, 16 per packet) and
draft-ietf-opsawg-pcapng (blocks; a section has its own byte order and interfaces).
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO, NamedTuple

from overhop.errors import UsageError

MOST_BYTES = 1 << 20
"""Of one packet or block: more is damage; tcpdump takes 256 KiB at most."""
_PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\x3c\x4d": ">",
}
"""Byte order by the first four bytes: times in microseconds, then in nanoseconds."""
_SECTION = b"\x0a\x0d\x0d\x0a"
_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_SECTION_BLOCK, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_KNOWN_ELSEWHERE = {
    b"\x1f\x8b": "is compressed: unpack it first (gunzip)",
    b"\x28\xb5": "is compressed: unpack it first (unzstd)",
    b"OV": "is not a capture of packets: is it a recording of the agent?",
}


class CaptureError(UsageError):
    """A file is no capture that can be read."""


class Frame(NamedTuple):
    """One packet as it was captured."""

    link: int
    """Link type (LINKTYPE_ of tcpdump.org): what the first byte is."""
    data: bytes
    length: int
    """Bytes that the packet had; more than in `data` where the capture cut it."""


@dataclass(slots=True)
class CaptureFile:
    """A capture, read once from its beginning."""

    file: BinaryIO
    name: str
    damage: str = ""
    """Why the last packets are missing; empty: nothing is wrong. Known at the end."""

    def frames(self) -> Generator[Frame, None, None]:
        """Every packet. Raises CaptureError if the file is none that can be read, before the first one."""
        magic = self.file.read(4)
        if order := _PCAP_MAGIC.get(magic):
            yield from self._pcap(order)
        elif magic == _SECTION:
            yield from self._pcapng()
        else:
            what = _KNOWN_ELSEWHERE.get(magic[:2], "is neither pcap nor pcapng")
            raise CaptureError(f"{self.name}: {what if magic else 'is empty'}")

    def _pcap(self, order: str) -> Iterator[Frame]:
        header = self.file.read(20)
        if len(header) < 20:
            raise CaptureError(f"{self.name}: ends within its header")
        link = (
            Struct(order + "I").unpack_from(header, 16)[0] & 0xFFFF
        )  # above: length of a frame check sequence
        unpack = Struct(order + "8xII").unpack
        read = self.file.read
        while head := read(16):
            if len(head) < 16:
                self.damage = "ends within a packet"
                return
            captured, length = unpack(head)
            if captured > MOST_BYTES:
                self.damage = f"is damaged: a packet of {captured} bytes"
                return
            data = read(captured)
            if len(data) < captured:
                self.damage = "ends within a packet"
                return
            yield Frame(link, data, max(length, captured))

    def _pcapng(self) -> Iterator[Frame]:
        reader = _Blocks(self.file, self.name)
        try:
            yield from reader.frames()
        except _DamageError as damage:
            if not reader.has_begun:
                raise CaptureError(f"{self.name}: {damage}") from None
            self.damage = str(damage)


class _DamageError(Exception):
    """The rest cannot be read."""


class _Blocks:
    """The blocks of a pcapng file, whose first four bytes were read."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.has_begun = False
        """A section header was read."""
        self._file, self._name = file, name
        self._order = "<"
        self._interfaces: list[tuple[int, int]] = []
        """Link type and snap length."""
        self._readers: dict[int, Callable[[bytes], Frame | None]] = {
            _INTERFACE: self._interface,
            _OLD_PACKET: self._old_packet,
            _SIMPLE_PACKET: self._simple_packet,
            _PACKET: self._packet,
        }

    def frames(self) -> Iterator[Frame]:
        """Packets of all sections; raises _DamageError."""
        self._section()
        while raw := self._file.read(4):
            if len(raw) < 4:
                raise _DamageError("ends within a block")
            if raw == _SECTION:
                self._section()
                continue
            (kind,) = Struct(self._order + "I").unpack(raw)
            body = self._body(self._read(4))
            if (read := self._readers.get(kind)) and (frame := read(body)):
                yield frame

    def _section(self) -> None:
        """A section header: byte order, no interfaces yet."""
        length = self._read(4)
        magic = self._read(4)
        if magic not in _ORDER:
            raise _DamageError("is damaged: a section without a byte order")
        self._order = _ORDER[magic]
        self._body(length, read=4)
        self._interfaces.clear()
        self.has_begun = True

    def _body(self, raw_length: bytes, read: int = 0) -> bytes:
        """What is between the lengths of a block, but for `read` bytes."""
        (length,) = Struct(self._order + "I").unpack(raw_length)
        if length < 12 + read or length % 4 or length > MOST_BYTES + 64:
            raise _DamageError(f"is damaged: a block of {length} bytes")
        body = self._read(length - 12 - read)
        if self._read(4) != raw_length:
            raise _DamageError("is damaged: a block has two lengths")
        return body

    def _read(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise _DamageError("ends within a block")
        return data

    def _unpack(self, codes: str, body: bytes) -> tuple[int, ...]:
        shape = Struct(self._order + codes)
        if len(body) < shape.size:
            raise _DamageError("is damaged: a block is too short")
        found: tuple[int, ...] = shape.unpack_from(body)
        return found

    def _interface(self, body: bytes) -> None:
        link, snap_length = self._unpack("HxxI", body)
        self._interfaces.append((link, snap_length))

    def _packet(self, body: bytes) -> Frame:
        interface, captured, length = self._unpack("I8xII", body)
        return self._frame(interface, body[20 : 20 + captured], captured, length)

    def _old_packet(self, body: bytes) -> Frame:
        interface, captured, length = self._unpack("Hxx8xII", body)
        return self._frame(interface, body[20 : 20 + captured], captured, length)

    def _simple_packet(self, body: bytes) -> Frame:
        (length,) = self._unpack("I", body)
        captured = min(length, len(body) - 4)
        if self._interfaces and (snap_length := self._interfaces[0][1]):
            captured = min(captured, snap_length)
        return self._frame(0, body[4 : 4 + captured], captured, length)

    def _frame(self, interface: int, data: bytes, captured: int, length: int) -> Frame:
        if interface >= len(self._interfaces) or len(data) < captured:
            raise _DamageError("is damaged: a packet of an interface that is not described, or too short")
        return Frame(self._interfaces[interface][0], data, max(length, captured))
