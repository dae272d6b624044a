# SPDX-License-Identifier: Apache-2.0
"""One table of one node in a spool: its rows in order, those of the segment that is still written too."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from store.layout import listing, node_directory
from store.schema import Table
from store.segment import Damage, Frame, SegmentReader, is_held
from store.spool.position import Position

MAX_ROWS: Final = 5000
"""Of one batch, as InfluxDB's own advice goes; a frame has at most 8192."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that follow one another, and where the next ones begin."""

    frames: tuple[Frame, ...]
    number: int
    offset: int
    damages: tuple[Damage, ...] = ()

    @property
    def rows(self) -> int:
        """How many there are to send."""
        return sum(frame.rows for frame in self.frames)

    @property
    def damaged_rows(self) -> int:
        """How many there were besides, which cannot be read."""
        return sum(damage.rows for damage in self.damages)


@dataclass(slots=True)
class _Segment:
    """A file of the spool and how much of it was looked at; rows are those that were not sent."""

    number: int
    path: Path
    size_bytes: int = 0
    seen_bytes: int = 0
    rows: int = 0
    first_ns: int | None = None
    last_ns: int = 0
    is_sealed: bool = False
    """Nobody appends any more."""


class Lane:
    """Reads behind an appender; removes what was sent. `position` is the caller's to keep."""

    def __init__(self, spool: Path, table: Table, node: str, position: Position) -> None:
        self.table = table
        self.position = position
        self._directory = node_directory(spool, table.name, node)
        self._segments: list[_Segment] = []

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def rows(self) -> int:
        """Rows that wait, at the last look."""
        return sum(segment.rows for segment in self._segments)

    @property
    def oldest_ns(self) -> int | None:
        """Time of the first row that waits; None: none does."""
        return next((each.first_ns for each in self._segments if each.rows and each.first_ns), None)

    def look(self) -> None:
        """See what is there now. Raises OSError."""
        known = {segment.number: segment for segment in self._segments}
        entries = [entry for entry in listing(self._directory) if not entry.is_parquet]
        found: list[_Segment] = []
        for at, entry in enumerate(entries):
            path = self._directory / entry.name
            if entry.first < self.position.number:
                path.unlink(missing_ok=True)  # sent, and nobody was left to remove it
                continue
            segment = known.get(entry.first) or _Segment(entry.first, path)
            segment.is_sealed = segment.is_sealed or at + 1 < len(entries) or not _is_held(path)
            self._scan(segment)
            found.append(segment)
        self._segments = found

    def read(self) -> Piece | None:
        """The next rows, None where there are none yet; what was sent of whole segments is removed.

        Raises OSError.
        """
        while self._segments:
            segment = self._segments[0]
            piece = self._read(segment)
            if piece is not None:
                return piece
            if not segment.is_sealed:  # as it was before this was read
                return None
            self._finish(segment)
        return None

    def advance(self, piece: Piece) -> None:
        """The rows of the piece are done with."""
        self.position.number, self.position.offset = piece.number, piece.offset
        self.position.damaged += piece.damaged_rows
        for damage in piece.damages:
            _log.warning("%s", damage)
        for segment in self._segments[:1]:
            segment.rows = max(0, segment.rows - piece.rows - piece.damaged_rows)
            segment.first_ns = piece.frames[-1].first_ns if piece.frames else segment.first_ns

    def drop_before(self, time_ns: int) -> int:
        """Remove whole segments whose last row is older; how many rows were in them. Raises OSError."""
        dropped = 0
        while self._segments and self._segments[0].is_sealed and 0 < self._segments[0].last_ns < time_ns:
            dropped += self.drop_first()
        return dropped

    @property
    def can_drop(self) -> bool:
        """Whether there is a segment that nobody appends to."""
        return bool(self._segments) and self._segments[0].is_sealed

    def drop_first(self) -> int:
        """Remove the oldest segment; how many rows were in it. Raises OSError."""
        segment = self._segments[0]
        self._scan(segment)
        rows = segment.rows
        self._leave(segment)
        return rows

    def _read(self, segment: _Segment) -> Piece | None:
        begin = self._begin(segment)
        frames: list[Frame] = []
        try:
            with SegmentReader(segment.path) as reader:
                reader.skip_to(begin)
                for frame in reader:
                    frames.append(frame)
                    if sum(each.rows for each in frames) >= MAX_ROWS:
                        break
        except FileNotFoundError:
            segment.is_sealed = True
            return None
        if reader.offset <= begin:
            return None
        read = tuple(damage for damage in reader.damages if damage.offset < reader.offset)
        return Piece(tuple(frames), segment.number, reader.offset, read)

    def _begin(self, segment: _Segment) -> int:
        """Where its rows begin that were not sent."""
        return self.position.offset if segment.number == self.position.number else 0

    def _finish(self, segment: _Segment) -> None:
        """All that can be read of it was sent."""
        if segment.size_bytes > segment.seen_bytes:
            self.position.torn += 1
            left = segment.size_bytes - segment.seen_bytes
            _log.warning("%s: ends in %d bytes that are no rows", segment.path, left)
        self._leave(segment)

    def _leave(self, segment: _Segment) -> None:
        """First the position, then the file: what is left of a sent one is removed at the next look."""
        self.position.number, self.position.offset = segment.number + 1, 0
        self._segments.remove(segment)
        segment.path.unlink(missing_ok=True)

    def _scan(self, segment: _Segment) -> None:
        """Count its rows from where the last look ended."""
        try:
            segment.size_bytes = os.stat(segment.path).st_size
            if segment.size_bytes > segment.seen_bytes:
                self._count(segment)
        except FileNotFoundError:
            segment.is_sealed = True

    def _count(self, segment: _Segment) -> None:
        with SegmentReader(segment.path) as reader:
            reader.skip_to(max(segment.seen_bytes, self._begin(segment)))
            for start in reader.starts():
                segment.rows += start.rows
                segment.last_ns = start.first_ns + start.rows - 1
                segment.first_ns = segment.first_ns or start.first_ns
            segment.seen_bytes = reader.offset


def largest(lanes: Iterable[Lane]) -> Lane | None:
    """The lane that has most to give, of those that can give up a segment."""
    able = [lane for lane in lanes if lane.can_drop]
    return max(able, key=lambda lane: lane.size_bytes, default=None)


def _is_held(path: Path) -> bool:
    try:
        return is_held(path)
    except FileNotFoundError:
        return False
