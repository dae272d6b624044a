# SPDX-License-Identifier: Apache-2.0
"""What an appender leaves for the next one of its node: last row time, last number; and its lock.

One page, overwritten in place with each append: that needs no room on a full disk, and survives kill -9.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from store.layout import (
    APPENDERS,
    DIRECTORY_MODE,
    FILE_MODE,
    TEMPORARY,
    decode_node,
    encode_node,
    listing,
    node_directory,
)
from store.query import StoreError
from store.schema import TABLES
from store.segment import last_row_ns

AHEAD_NS: Final = 1_000_000_000
"""Row times that are less ahead of the clock are those of one moment, which are 1 ns apart."""
_MAGIC: Final = b"ohnode1\n"
_RECORD: Final = struct.Struct("<8sIqQ")  # magic, pid of the appender, last row time, last number
_CRC: Final = struct.Struct("<I")


class NodeFile:
    """Held from construction to `close()` or the end of the process.

    Raises StoreError if another appender holds it, OSError if it cannot be opened or written.
    """

    def __init__(self, store: Path, node: str) -> None:
        directory = store / APPENDERS
        directory.mkdir(DIRECTORY_MODE, exist_ok=True)
        self.path = directory / encode_node(node)
        self.is_closed = False
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            self._lock(store, node)
            _, last_ns, number = self._read()
            found_ns, found_number = _left_behind(store, node)
            self.last_ns, self.number = max(last_ns, found_ns), max(number, found_number)
            self.note(self.last_ns, self.number)
        except BaseException:
            self.close()
            raise

    def note(self, last_ns: int, number: int) -> None:
        """Before a row of time `last_ns` or a segment of that number is written. Raises OSError."""
        self.last_ns, self.number = max(last_ns, self.last_ns), max(number, self.number)
        record = _RECORD.pack(_MAGIC, os.getpid(), self.last_ns, self.number)
        os.pwrite(self.descriptor, record + _CRC.pack(zlib.crc32(record)), 0)

    def is_gone(self) -> bool:
        """Whether another file, or none, has its name by now."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self.descriptor))
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Let the next one in."""
        self.is_closed = True
        os.close(self.descriptor)

    def _lock(self, store: Path, node: str) -> None:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid, _, _ = self._read()
            raise StoreError(
                f"store {store}: another agent (pid {pid}) writes for node {node!r}: "
                "stop it, or give this one another node name or store"
            ) from error

    def _read(self) -> tuple[int, int, int]:
        """Pid, last row time, last number; zeros if the file is new or damaged."""
        return _parsed(os.pread(self.descriptor, _RECORD.size + _CRC.size, 0))


def ahead_ns(last_ns: int, now_ns: int) -> int:
    """How far row times are ahead of the clock, because it was set back; 0: they are the clock's."""
    ahead = last_ns - now_ns
    return ahead if ahead >= AHEAD_NS else 0


def nodes_ahead(store: Path, now_ns: int) -> Mapping[str, int]:
    """Last row time (ns since 1970) of each node whose row times are ahead of the clock. Raises OSError."""
    found = {}
    for path in sorted((store / APPENDERS).glob("*")):
        _, last_ns, _ = _parsed(path.read_bytes())
        if ahead_ns(last_ns, now_ns):
            found[decode_node(path.name) or path.name] = last_ns
    return found


def _parsed(data: bytes) -> tuple[int, int, int]:
    record, crc = data[: _RECORD.size], data[_RECORD.size :]
    if not record.startswith(_MAGIC) or crc != _CRC.pack(zlib.crc32(record)):
        return 0, 0, 0
    _, pid, last_ns, number = _RECORD.unpack(record)
    return pid, last_ns, number


def _left_behind(store: Path, node: str) -> tuple[int, int]:
    """Last row time and number of the node's files: what a power cut left may be newer than the record.

    Removes what an earlier appender did not finish.
    """
    last_ns = number = 0
    for table in TABLES:
        directory = node_directory(store, table.name, node)
        _remove_unfinished(directory)
        for entry in listing(directory)[-1:]:
            number = max(number, entry.last)
            if not entry.is_parquet:
                last_ns = max(last_ns, last_row_ns(directory / entry.name))
    return last_ns, number


def _remove_unfinished(directory: Path) -> None:
    for path in directory.glob(f"{TEMPORARY}*.seg"):
        path.unlink(missing_ok=True)
