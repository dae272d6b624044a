# SPDX-License-Identifier: Apache-2.0
"""Rows of an embedded store into a server, with their times: so nothing is there twice."""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from store.combined import Rows, Wanted
from store.conditions import within
from store.extents import chunks, extents
from store.influxdb.lines import lines_of
from store.influxdb.target import Target
from store.layout import DIRECTORY_MODE, FILE_MODE, TEMPORARY, check_store, encode_node
from store.query import Span
from store.reading import RowReader, in_order
from store.schema import Table
from store.spool.forwarding import Sending
from store.spool.lane import MAX_ROWS

PIECE_ROWS: Final = 5 * MAX_ROWS
"""Rows that are in memory at a time, if a file's are spread evenly; never more than a file has."""
_SECOND_NS: Final = 1_000_000_000
_PROGRESS: Final = "imports"


@dataclass(slots=True)
class Imported:
    """Rows by table: read = written + too_old + rejected."""

    read: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    too_old: Counter[str] = field(default_factory=Counter)
    """The server keeps none that old."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Refused by the server, and set aside."""
    problems: list[str] = field(default_factory=list)
    """Files of the store that could not be read."""
    is_continued: bool = False
    """An earlier import that did not come to its end has sent some before; its rows are not counted."""


class Progress:
    """How far an import into one server has come, by table and node: what is before that need not go again.

    A file in the embedded store, replaced as a whole; removed at the good end. One of an import that began
    with later rows counts for nothing.
    """

    def __init__(self, store: Path, target: Target, since_ns: int) -> None:
        directory = store / _PROGRESS
        directory.mkdir(DIRECTORY_MODE, exist_ok=True)
        self._path = directory / f"{encode_node(str(target))}.json"
        self._since_ns = since_ns
        self._until: dict[str, int] = self._read()

    @property
    def is_begun(self) -> bool:
        """Whether an import goes on."""
        return bool(self._until)

    def until_ns(self, table: Table, node: str) -> int:
        """Rows before that are in the server."""
        return self._until.get(f"{table.name}/{node}", 0)

    def keep(self, table: Table, node: str, until_ns: int) -> None:
        """Rows before `until_ns` are there. Raises OSError."""
        self._until[f"{table.name}/{node}"] = until_ns
        fresh = self._path.with_name(f"{TEMPORARY}{os.getpid()}-{self._path.name}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "w") as file:
            json.dump({"since_ns": self._since_ns, "until_ns": self._until}, file)
        fresh.replace(self._path)

    def end(self) -> None:
        """Everything is there."""
        self._path.unlink(missing_ok=True)
        for left in self._path.parent.glob(f"{TEMPORARY}*-{self._path.name}"):  # of those that were killed
            left.unlink(missing_ok=True)

    def _read(self) -> dict[str, int]:
        try:
            said: Any = json.loads(self._path.read_bytes())
            if int(said["since_ns"]) > self._since_ns:
                return {}
            self._since_ns = int(said["since_ns"])
            return {str(name): int(value) for name, value in said["until_ns"].items()}
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return {}


def import_store(
    source: Path,
    target: Target,
    sender: Sending,
    span: Span,
    now_ns: int,
    tell: Callable[[Table, str, int], None] = lambda *_: None,
    kept_s: Mapping[str, int] | None = None,
) -> Imported:
    """All rows of the span, table by table, node by node, in order of time. Raises StoreError, OSError.

    `tell` hears of each piece that is done: table, node, rows. `kept_s`: how long the server keeps rows, by
    table; 0: for ever; of a table that is not in it, as long as the table says.
    """
    check_store(source)
    progress, reader = Progress(source, target, span.since_ns), RowReader(source.absolute())
    imported = Imported(is_continued=progress.is_begun)
    kept_s = {table.name: table.retention_s for table in target.tables} | dict(kept_s or {})
    try:
        for table in target.tables:
            oldest_ns = now_ns - kept_s[table.name] * _SECOND_NS if kept_s[table.name] else 0
            for directory in reader.directories(table):
                done_ns = progress.until_ns(table, directory.name)
                for piece in _pieces(reader, directory, span, done_ns):
                    rows = _rows(reader, table, directory, piece)
                    _send(sender, target, table, rows, oldest_ns, imported)
                    progress.keep(table, directory.name, piece.until_ns)
                    tell(table, directory.name, len(rows["time"]))
    finally:
        imported.problems += reader.problems
        reader.close()
    progress.end()
    return imported


def _pieces(reader: RowReader, directory: Path, span: Span, done_ns: int) -> Sequence[Span]:
    """Those that are left to do, in order: one's rows are held in memory at a time."""
    left = Span(max(span.since_ns, done_ns), max(span.until_ns, done_ns))
    found = extents(reader, directory)
    return chunks(found, left, PIECE_ROWS) if found else [left]  # which says what cannot be read


def _rows(reader: RowReader, table: Table, directory: Path, span: Span) -> Rows:
    columns = [column.name for column in table.columns]
    return in_order(reader.read(Wanted(table, columns, within(span)), [directory]))


def _send(
    sender: Sending, target: Target, table: Table, rows: Rows, oldest_ns: int, imported: Imported
) -> None:
    count = len(rows["time"])
    imported.read[table.name] += count
    first = int(np.searchsorted(rows["time"], oldest_ns))
    imported.too_old[table.name] += first
    for start in range(first, count, MAX_ROWS):
        some = {name: column[start : start + MAX_ROWS] for name, column in rows.items()}
        lines = lines_of(target, table, some)
        rejected = sender.send(table, lines)
        imported.rejected[table.name] += rejected
        imported.written[table.name] += len(lines) - rejected
