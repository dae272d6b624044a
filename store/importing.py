# SPDX-License-Identifier: Apache-2.0
"""Rows of an embedded store into a server, with their times: so nothing is there twice."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from store.combined import Rows, Wanted
from store.conditions import within
from store.influxdb.lines import lines_of
from store.influxdb.target import Target
from store.layout import FILE_MODE, check_store
from store.query import Span
from store.reading import RowReader, in_order
from store.schema import Table
from store.spool.forwarding import Sending
from store.spool.lane import MAX_ROWS

_HOUR_NS: Final = 3_600_000_000_000
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


class Progress:
    """How far an import into one server has come, by table and node: what is before that need not go again.

    A file in the embedded store, replaced as a whole; removed at the good end.
    """

    def __init__(self, store: Path, target: Target) -> None:
        directory = store / _PROGRESS
        directory.mkdir(0o700, exist_ok=True)
        name = "".join(each if each.isalnum() else "_" for each in str(target))
        self._path = directory / f"{name[:200]}.json"
        self._until: dict[str, int] = self._read()

    def until_ns(self, table: Table, node: str) -> int:
        """Rows before that are in the server."""
        return self._until.get(f"{table.name}/{node}", 0)

    def keep(self, table: Table, node: str, until_ns: int) -> None:
        """Rows before `until_ns` are there. Raises OSError."""
        self._until[f"{table.name}/{node}"] = until_ns
        fresh = self._path.with_suffix(f".{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "w") as file:
            json.dump(self._until, file)
        fresh.rename(self._path)

    def end(self) -> None:
        """Everything is there."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, int]:
        try:
            said: Any = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(name): int(value) for name, value in said.items()} if isinstance(said, dict) else {}


def import_store(
    source: Path,
    target: Target,
    sender: Sending,
    span: Span,
    now_ns: int,
    tell: Callable[[Table, str, int], None] = lambda *_: None,
) -> Imported:
    """All rows of the span, table by table, node by node, hour by hour. Raises StoreError, OSError.

    `tell` hears of each hour that is done: table, node, rows.
    """
    check_store(source)
    progress, reader, imported = Progress(source, target), RowReader(source.absolute()), Imported()
    try:
        for table in target.tables:
            for directory in reader.directories(table):
                for hour in _hours(reader, table, directory, span, progress.until_ns(table, directory.name)):
                    rows = _rows(reader, table, directory, hour)
                    _send(sender, target, table, rows, now_ns, imported)
                    progress.keep(table, directory.name, hour.until_ns)
                    tell(table, directory.name, len(rows["time"]))
    finally:
        imported.problems += reader.problems
        reader.close()
    progress.end()
    return imported


def _hours(reader: RowReader, table: Table, directory: Path, span: Span, done_ns: int) -> Iterator[Span]:
    """Those that have rows, in order: one hour's are held in memory at a time."""
    since_ns = max(span.since_ns, done_ns)
    wanted = Wanted(table, ("time",), within(Span(since_ns, span.until_ns)))
    times = reader.read(wanted, [directory])["time"].astype(np.int64)
    for hour in np.unique(times // _HOUR_NS).tolist():
        yield Span(max(since_ns, hour * _HOUR_NS), min(span.until_ns, (hour + 1) * _HOUR_NS))


def _rows(reader: RowReader, table: Table, directory: Path, span: Span) -> Rows:
    columns = [column.name for column in table.columns]
    return in_order(reader.read(Wanted(table, columns, within(span)), [directory]))


def _send(
    sender: Sending, target: Target, table: Table, rows: Mapping[str, Any], now_ns: int, imported: Imported
) -> None:
    count = len(rows["time"])
    imported.read[table.name] += count
    oldest_ns = now_ns - table.retention_s * 1_000_000_000
    first = int(np.searchsorted(rows["time"], oldest_ns))
    imported.too_old[table.name] += first
    for start in range(first, count, MAX_ROWS):
        some = {name: column[start : start + MAX_ROWS] for name, column in rows.items()}
        lines = lines_of(target, table, some)
        rejected = sender.send(table, lines)
        imported.rejected[table.name] += rejected
        imported.written[table.name] += len(lines) - rejected
