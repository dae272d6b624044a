# SPDX-License-Identifier: Apache-2.0
"""How rows of an embedded store lie in its files: from what files say of themselves, none is read for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from store.combined import Wanted
from store.conditions import only
from store.layout import Entry
from store.query import Span, StoreError
from store.reading import LOOKS, RowReader
from store.schema import Table
from store.segment import SegmentReader

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Extent:
    """The rows of one file: times of the first and the last one."""

    entry: Entry
    first_ns: int
    last_ns: int
    rows: int


def extents(reader: RowReader, directory: Path) -> list[Extent]:
    """Of the files of one node and table, in order; files without rows that can be read are left out.

    Raises StoreError.
    """
    return _looked(directory, partial(_extents, reader, directory))


def rows_since(reader: RowReader, table: Table, directory: Path, since_ns: int) -> int:
    """How many rows one node has from then on; only of a file that begins before, times are read.

    Raises StoreError.
    """

    def look() -> int:
        found = [extent for extent in _extents(reader, directory) if extent.last_ns >= since_ns]
        begun = [(directory, extent.entry) for extent in found if extent.first_ns < since_ns]
        wanted = Wanted(table, ("time",), [only("time", ">=", since_ns)])
        rows = len(reader.read_files(wanted, begun)["time"]) if begun else 0
        return rows + sum(extent.rows for extent in found if extent.first_ns >= since_ns)

    return _looked(directory, look)


def _looked(directory: Path, look: Callable[[], _Found]) -> _Found:
    """Again while files are compacted."""
    for _ in range(LOOKS):
        try:
            return look()
        except FileNotFoundError as error:
            gone = error.filename
    raise StoreError(f"store {directory}: {gone} and other files go while they are read: try again")


def _extents(reader: RowReader, directory: Path) -> list[Extent]:
    if not directory.exists():
        return []
    found = [_extent(reader, directory, entry) for entry in reader.entries(directory)]
    return [extent for extent in found if extent is not None]


def chunks(found: Sequence[Extent], span: Span, most_rows: int) -> list[Span]:
    """Times one after the other that have all rows of the span, each about `most_rows` of them or fewer.

    A file's rows are taken to be spread evenly over its time; none ends behind the last row that is known.
    """
    spans: list[Span] = []
    rows, since_ns, until_ns = 0, span.since_ns, span.since_ns
    for part_rows, part_until_ns in _parts(found, span, most_rows):
        if rows and rows + part_rows > most_rows:
            spans.append(Span(since_ns, until_ns))
            rows, since_ns = 0, until_ns
        rows, until_ns = rows + part_rows, part_until_ns
    return [*spans, Span(since_ns, until_ns)] if rows else spans


def _parts(found: Sequence[Extent], span: Span, most_rows: int) -> list[tuple[int, int]]:
    """Rows of each part of a file and the time at which it ends."""
    parts: list[tuple[int, int]] = []
    for extent in found:
        first_ns, end_ns = max(extent.first_ns, span.since_ns), min(extent.last_ns + 1, span.until_ns)
        if first_ns >= end_ns:
            continue
        rows = max(1, extent.rows * (end_ns - first_ns) // (extent.last_ns + 1 - extent.first_ns))
        count = -(-rows // most_rows)
        parts += [
            (-(-rows // count), first_ns + (end_ns - first_ns) * number // count)
            for number in range(1, count + 1)
        ]
    return parts


def _extent(reader: RowReader, directory: Path, entry: Entry) -> Extent | None:
    """Raises FileNotFoundError: it was compacted, or is too old, meanwhile."""
    if entry.is_parquet:
        facts = reader.scanner().facts(directory / entry.name)
        return None if facts is None else Extent(entry, facts.first_ns, facts.last_ns, facts.rows)
    try:
        with SegmentReader(directory / entry.name) as segment:
            starts = list(segment.starts())
    except FileNotFoundError:
        raise
    except (OSError, StoreError):
        return None  # whoever reads its rows says what is wrong
    if not starts:
        return _unreadable(entry, segment)
    rows = sum(start.rows for start in starts)
    return Extent(entry, starts[0].first_ns, starts[-1].first_ns + starts[-1].rows - 1, rows)


def _unreadable(entry: Entry, segment: SegmentReader) -> Extent | None:
    """Where whoever reads its rows must look, to say what is wrong."""
    if segment.header is None or not segment.damages:
        return None
    return Extent(entry, segment.header.first_ns, segment.header.first_ns, 1)
