# SPDX-License-Identifier: Apache-2.0
"""Segments: files of rows as an appender writes them (docs/store.md, "A segment, byte by byte").

Nothing that a file holds makes reading raise or allocate without bound: what cannot be read is counted.
"""

import fcntl
import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Self

import numpy as np

from store.batch import APPENDED, Batch, Labels, Numbers
from store.columns import MAX_RAW_BYTES, MAX_ROWS, Damaged, decode_columns, encode_columns, readable
from store.layout import FORMAT_VERSION
from store.query import StoreError
from store.schema import TEXT, Column, Table

_MAGIC: Final = b"overhop\n"
_PREFIX: Final = struct.Struct("<8sIII")  # magic, version, bytes of the JSON, CRC-32
_MAX_HEADER_BYTES: Final = 1 << 20
_FRAME_MAGIC: Final = b"rows"
_START: Final = struct.Struct("<4sIIIqII")  # magic and the members of _Start
_MAX_DATA_BYTES: Final = MAX_RAW_BYTES + (MAX_RAW_BYTES >> 8)  # what does not compress grows a little
_LAST_NS: Final = 1 << 63
_NUMBERS: Final = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)) | {"f4", "f8"}


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment says of itself: all columns of its table; no row is earlier than `first_ns`."""

    table: str
    columns: tuple[Column, ...]
    cluster: str
    node: str
    first_ns: int


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """Rows ready to be written, into whichever segment of their table is open."""

    table: Table
    first_ns: int
    rows: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows of one append: every column of the table, `time` strictly increasing from `first_ns` on."""

    header: Header
    first_ns: int
    rows: int
    columns: Mapping[str, Numbers | Labels]


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that no rows were read from, and why."""

    path: Path
    offset: int
    length_bytes: int
    reason: str
    rows: int = 0
    """How many rows were in them, as far as that is known."""

    def __str__(self) -> str:
        return f"{self.path}: {self.length_bytes} bytes from {self.offset} on: {self.reason}"


class _Start(NamedTuple):
    """The start of a frame, behind its magic."""

    data_bytes: int
    raw_bytes: int
    rows: int
    first_ns: int
    data_crc: int
    crc: int


def encode_header(header: Header) -> bytes:
    """The beginning of a segment."""
    about = {
        "table": header.table,
        "columns": [[each.name, each.dtype] for each in header.columns],
        "cluster": readable(header.cluster),
        "node": readable(header.node),
        "first_ns": header.first_ns,
    }
    text = json.dumps(about, separators=(",", ":")).encode()
    return _PREFIX.pack(_MAGIC, FORMAT_VERSION, len(text), _header_crc(FORMAT_VERSION, text)) + text


def encode_frame(batch: Batch, first_ns: int) -> EncodedFrame | None:
    """The rows (at least one) as one frame, row i at `first_ns` + i; None: more than one frame holds.

    Raises ValueError if a code has no text.
    """
    raw = encode_columns(batch) if len(batch) <= MAX_ROWS else None
    if raw is None:
        return None
    # Z_RLE: on planes of bytes it is no larger than level 1 and takes 60 % of its time (docs/store.md).
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    data = packer.compress(raw) + packer.flush()
    start = _Start(len(data), len(raw), len(batch), first_ns, zlib.crc32(data), 0)
    start = start._replace(crc=_start_crc(start))
    return EncodedFrame(batch.table, first_ns, len(batch), _START.pack(_FRAME_MAGIC, *start) + data)


def is_held(path: Path) -> bool:
    """Whether an appender still has the segment open. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would wait for somebody who writes
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def last_row_ns(path: Path) -> int:
    """Time of the last row, by the frames' starts alone; 0: there is none. Raises like SegmentReader."""
    with SegmentReader(path) as reader:
        return max((start.first_ns + start.rows - 1 for start in reader.starts()), default=0)


class SegmentReader:
    """The frames of one segment, whole ones only, one at a time. Iterate once.

    Afterwards `damages` names what was skipped, and `unread_bytes` counts those at the end that are no whole
    frame: of a segment that is being written the frame to come, of a sealed one a lost tail. Without a
    readable header `header` is None, and there are no frames.
    Raises OSError as open and read do (FileNotFoundError: list again), StoreError for a newer format
    and for what is no file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.damages: list[Damage] = []
        self.unread_bytes = 0
        self.offset = 0
        """Where the last whole frame ended (or the header): what follows can be read from there later."""
        self._file: BinaryIO = _open_file(path)
        try:
            self.header = self._read_header()
        except StoreError:
            self.close()
            raise
        self.offset = self._file.tell() if self.header else 0

    def skip_to(self, offset: int) -> None:
        """Begin with the frame at `offset`, an earlier reader's; one inside the header is its end."""
        self.offset = max(offset, self.offset)
        self._file.seek(self.offset)

    def __iter__(self) -> Iterator[Frame]:
        with self._file:
            while self.header:
                offset = self._file.tell()
                start = self._read_start(offset)
                data = self._read(start.data_bytes, offset) if start else None
                if start is None or data is None:
                    return
                self.offset = self._file.tell()
                try:
                    frame = _decode_frame(self.header, start, data)
                except Damaged as error:
                    length = _START.size + len(data)
                    self.damages.append(Damage(self.path, offset, length, str(error), start.rows))
                else:
                    yield frame

    def starts(self) -> Iterator[_Start]:
        """The starts of the frames without their data; instead of iterating."""
        end = os.fstat(self._file.fileno()).st_size
        while self.header:
            start = self._read_start(self._file.tell())
            if start is None or self._file.seek(start.data_bytes, os.SEEK_CUR) > end:
                return
            self.offset = self._file.tell()
            yield start

    def _read_header(self) -> Header | None:
        prefix = self._read(_PREFIX.size, 0)
        if prefix is None:
            return None
        magic, version, length, crc = _PREFIX.unpack(prefix)
        if magic != _MAGIC or length > _MAX_HEADER_BYTES:
            self._stop(0, "no header of a segment")
            return None
        text = self._read(length, 0)
        if text is None:
            return None
        if _header_crc(version, text) != crc:
            self._stop(0, "the header's checksum is wrong")
            return None
        if version != FORMAT_VERSION:
            raise StoreError(
                f"segment {self.path}: it has format {version}, this overhop knows {FORMAT_VERSION}: "
                "use the overhop that wrote it"
            )
        try:
            return _decode_header(text)
        except Damaged as error:
            self._stop(0, str(error))
            return None

    def _read_start(self, offset: int) -> _Start | None:
        """None: no further frame can be found."""
        packed = self._read(_START.size, offset)
        if packed is None:
            return None
        magic, *members = _START.unpack(packed)
        start = _Start(*members)
        if magic != _FRAME_MAGIC or _start_crc(start) != start.crc:
            self._stop(offset, "the checksum of a frame's start is wrong")
            return None
        if start.data_bytes > _MAX_DATA_BYTES:
            self._stop(offset, f"a frame claims {start.data_bytes} bytes")
            return None
        return start

    def _read(self, length: int, offset: int) -> bytes | None:
        """None: the file ends before; `offset` is where what is incomplete then began."""
        data = self._file.read(length)
        if len(data) == length:
            return data
        self.unread_bytes = self._file.tell() - offset
        return None

    def _stop(self, offset: int, reason: str) -> None:
        self.unread_bytes = os.fstat(self._file.fileno()).st_size - offset
        self.damages.append(Damage(self.path, offset, self.unread_bytes, reason))

    def close(self) -> None:
        """Let go of the file; the end of the iteration does so too."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_file(path: Path) -> BinaryIO:
    """Raises OSError, StoreError if it is no file: a FIFO would be waited for."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise StoreError(f"segment {path}: is no file: who put it into the store?")
    return file


def _header_crc(version: int, text: bytes) -> int:
    return zlib.crc32(text, zlib.crc32(struct.pack("<II", version, len(text))))


def _start_crc(start: _Start) -> int:
    return zlib.crc32(_START.pack(_FRAME_MAGIC, *start)[:-4])


def _decode_header(text: bytes) -> Header:
    try:
        about: Any = json.loads(text)  # of any shape until the next lines
        columns = tuple(Column(str(name), str(dtype)) for name, dtype in about["columns"])
        table, cluster, node = (str(about[key]) for key in ("table", "cluster", "node"))
        (table + cluster + node).encode()  # no lone surrogates
        header = Header(table, columns, cluster, node, int(about["first_ns"]))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise Damaged("the header is not what an appender writes") from error
    if tuple(each.name for each in columns[: len(APPENDED)]) != APPENDED:
        raise Damaged("the header's columns do not begin with time, cluster, node")
    if len({each.name for each in columns}) < len(columns):
        raise Damaged("the header has a column twice")
    if any(each.dtype != TEXT and each.dtype not in _NUMBERS for each in columns):
        raise Damaged("the header has a column of unknown type")
    return header


def _decode_frame(header: Header, start: _Start, data: bytes) -> Frame:
    if zlib.crc32(data) != start.data_crc:
        raise Damaged("the checksum of a frame is wrong")
    if not 0 < start.rows <= MAX_ROWS or start.raw_bytes > MAX_RAW_BYTES:
        raise Damaged(f"a frame claims {start.rows} rows of {start.raw_bytes} bytes")
    if not 0 <= start.first_ns < _LAST_NS - start.rows:
        raise Damaged(f"a frame claims the time {start.first_ns}")
    raw = _decompress(data, start.raw_bytes)
    columns: dict[str, Numbers | Labels] = {
        "time": np.arange(start.first_ns, start.first_ns + start.rows, dtype=np.int64),
        "cluster": Labels.same(header.cluster, start.rows),
        "node": Labels.same(header.node, start.rows),
    }
    columns |= decode_columns(raw, start.rows, header.columns[len(APPENDED) :])
    return Frame(header, start.first_ns, start.rows, columns)


def _decompress(data: bytes, raw_bytes: int) -> bytes:
    """Never more than `raw_bytes`, whatever the data would become."""
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(data, raw_bytes + 1)
    except zlib.error as error:
        raise Damaged("a frame cannot be decompressed") from error
    if len(raw) != raw_bytes or not unpacker.eof or unpacker.unused_data:
        raise Damaged("a frame has another size than it says")
    return raw
