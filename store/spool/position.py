# SPDX-License-Identifier: Apache-2.0
"""How far a node's rows were sent, and what became of them; and the forwarder's lock.

Overwritten in place after each batch: that needs no room on a full disk, and survives kill -9.
"""

import fcntl
import logging
import os
import struct
import zlib
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

from store.layout import DIRECTORY_MODE, FILE_MODE, encode_node
from store.locks import FORWARDERS
from store.schema import TABLES, Table

_MAGIC: Final = b"ohsent1\n"
_RECORD: Final = struct.Struct("<8s16s8Q")  # magic, table, members of Position
_CRC: Final = struct.Struct("<I")
_SLOT_BYTES: Final = 128
_log = logging.getLogger(__name__)


class Locked(Exception):  # noqa: N818  says what is the case
    """Another forwarder sends this node's rows."""


@dataclass(slots=True)
class Position:
    """Of one table: everything before byte `offset` of segment `number` is done with.

    The counts are rows since the spool was made: appended = sent + rejected + no_room + too_old + damaged +
    rows that wait.
    """

    number: int = 0
    offset: int = 0
    sent: int = 0
    """The server said that it has them."""
    rejected: int = 0
    """Set aside, because the server refuses them."""
    no_room: int = 0
    """Fell out of a spool that was full."""
    too_old: int = 0
    """Fell out because they waited for too long, or the server keeps none that old."""
    damaged: int = 0
    """Could not be read, as far as it is known how many that were."""
    torn: int = 0
    """Segments that ended in bytes which are no rows."""


class PositionFile:
    """Positions of all tables of a node. Held until `close()` or the end of the process.

    Raises Locked, or OSError if it cannot be opened.
    """

    def __init__(self, spool: Path, node: str) -> None:
        directory = spool / FORWARDERS
        directory.mkdir(DIRECTORY_MODE, exist_ok=True)
        self._path = directory / encode_node(node)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise Locked(f"spool {spool}: another forwarder sends the rows of node {node!r}") from error
        self.positions = {table.name: self._read(at) for at, table in enumerate(TABLES)}
        self._is_failing = False
        for table in TABLES:  # takes the room that it needs while there is some
            self.keep(table)

    def keep(self, table: Table) -> None:
        """Write down the table's position. A disk without room delays that, and is said."""
        position = self.positions[table.name]
        record = _RECORD.pack(_MAGIC, table.name.encode(), *astuple(position))
        try:
            os.pwrite(self._descriptor, record + _CRC.pack(zlib.crc32(record)), _slot(table))
        except OSError as error:
            if not self._is_failing:
                _log.warning("%s: %s: rows may be sent again after a restart", self._path, error.strerror)
            self._is_failing = True
        else:
            self._is_failing = False

    def is_gone(self) -> bool:
        """Whether another file, or none, has its name by now: another forwarder may hold that one."""
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Let the next one in."""
        os.close(self._descriptor)

    def _read(self, at: int) -> Position:
        return read_position(os.pread(self._descriptor, _SLOT_BYTES, at * _SLOT_BYTES), TABLES[at])


def positions(spool: Path, node: str) -> dict[str, Position]:
    """How far a node's rows were sent, by table, beside a forwarder. Raises OSError."""
    data = (spool / FORWARDERS / encode_node(node)).read_bytes()
    return {table.name: read_position(data[_slot(table) :], table) for table in TABLES}


def read_position(data: bytes, table: Table) -> Position:
    """The position in the slot of a table; from the beginning if there is none or it is damaged."""
    record, crc = data[: _RECORD.size], data[_RECORD.size : _RECORD.size + _CRC.size]
    if not record.startswith(_MAGIC) or crc != _CRC.pack(zlib.crc32(record)):
        return Position()
    _, name, *members = _RECORD.unpack(record)
    return Position(*members) if name.rstrip(b"\0") == table.name.encode() else Position()


def _slot(table: Table) -> int:
    return [each.name for each in TABLES].index(table.name) * _SLOT_BYTES
