# SPDX-License-Identifier: Apache-2.0
"""The embedded store as it is read: store.query.Store over Parquet and segments (docs/store.md)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from store.combined import NodeSpans, Rows, Wanted, combined
from store.conditions import Condition, of_hops, of_trace, only, within
from store.intervals import tables_for
from store.layout import Entry, check_store
from store.quarters import Steps, summed_names
from store.query import POINTS, Columns, Span, StoreError, TraceId, Where
from store.reading import LOOKS, RowReader, in_order, joined_rows
from store.schema import EVENT, HOP_SAMPLE, Table
from store.schema import table as table_of


class _End(NamedTuple):
    """The first or last sample of a node."""

    node: str
    time_ns: int
    kept_shift: int


class EmbeddedStore:
    """Reads the store at `directory`, beside appenders and the writer; for one thread.

    Raises StoreError if there is none, or one of a newer version, or it cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        try:
            check_store(directory)
        except OSError as error:
            raise StoreError(f"store {directory}: {error.strerror}: look at its rights") from error
        self._reader = RowReader(directory.absolute())

    @property
    def problems(self) -> Sequence[str]:
        """Files or parts of files that could not be read so far, and why; the rest was answered."""
        return self._reader.problems

    def summaries(
        self,
        span: Span,
        where: Where,
        table: str | None = None,
        columns: Sequence[str] | None = None,
        points: int = POINTS,
    ) -> Columns:
        """Summary rows in order of time; `columns`: only these.

        Without `table`: rows of the coarsest that gives so many points (else of the finest), and where a node
        has none of them, above all for the last minutes, rows of finer tables: each hop is counted once.
        """
        tables = [_named(table)] if table else tables_for(span, points)
        chosen = _names(columns, tables[0])
        wanted = Wanted(tables[0], [*dict.fromkeys([*chosen, "time"])], of_hops(where))
        if table:
            rows = self._ordered(replace(wanted, conditions=[*wanted.conditions, *within(span)]), where.node)
        else:
            source = _Directories(self._reader, tables, where.node)
            rows = in_order(joined_rows(wanted, [*combined(source, wanted, span, tables)]))
        return {name: rows[name] for name in chosen}

    def samples(
        self,
        span: Span,
        where: Where,
        min_latency_ns: int = 0,
        limit: int = 10_000,
        columns: Sequence[str] | None = None,
    ) -> Columns:
        """Samples, the slowest first; `columns`: only these."""
        conditions = [*within(span), *of_hops(where), only("latency_ns", ">=", min_latency_ns)]
        chosen = _names(columns, HOP_SAMPLE)
        read = [*dict.fromkeys([*chosen, "latency_ns", "time"])]
        wanted = Wanted(HOP_SAMPLE, read, conditions, slowest=limit)
        rows = self._reader.read(wanted, self._reader.directories(HOP_SAMPLE, where.node))
        order = np.lexsort((rows["time"], -rows["latency_ns"].astype(np.int64)))[:limit]
        return {name: rows[name][order] for name in chosen}

    def quarters(
        self,
        span: Span,
        where: Where,
        by: Sequence[str] = (),
        step_s: int | None = None,
        table: str | None = None,
    ) -> Columns:
        """Sums over the rows of one table, as store.query.Store says."""
        which = _named(table) if table else tables_for(span)[0]
        wanted = Wanted(which, summed_names(by), [*within(span), *of_hops(where)])
        steps = Steps(by, step_s, span.since_ns)
        return self._reader.sums(wanted, steps, self._reader.directories(which, where.node))

    def summary_count(self, span: Span, where: Where) -> int:
        """How many rows the coarsest table has that gives 60 points."""
        return len(self.summaries(span, where, tables_for(span)[0].name, ("time",))["time"])

    def trace(self, trace: TraceId) -> Columns:
        """All samples of one trace, in order of time."""
        return self._ordered(Wanted(HOP_SAMPLE, _names(None, HOP_SAMPLE), of_trace(trace)))

    def events(self, span: Span) -> Columns:
        """Events in order of time."""
        return self._ordered(Wanted(EVENT, _names(None, EVENT), within(span)))

    def nodes(self) -> Mapping[str, Mapping[str, int]]:
        """For each node that wrote samples: `first_ns`, `last_ns` (their times), the last `kept_shift`."""
        known: dict[str, Mapping[str, int]] = {}
        for directory in self._reader.directories(HOP_SAMPLE):
            first, last = self._ends(directory)
            if first and last:
                known[last.node] = {
                    "first_ns": first.time_ns,
                    "last_ns": last.time_ns,
                    "kept_shift": last.kept_shift,
                }
        return known

    def close(self) -> None:
        """Let go of files and memory."""
        self._reader.close()

    def _ordered(self, wanted: Wanted, node: str | None = None) -> Rows:
        return in_order(self._reader.read(wanted, self._reader.directories(wanted.table, node)))

    def _ends(self, directory: Path) -> tuple[_End | None, _End | None]:
        """Of the first and the last sample in a directory; None: there is none."""
        for _ in range(LOOKS):
            try:
                entries = self._reader.entries(directory)
                return self._end(directory, entries, 0), self._end(directory, entries[::-1], -1)
            except FileNotFoundError:
                continue
        return None, None

    def _end(self, directory: Path, entries: Sequence[Entry], at: int) -> _End | None:
        """The row at 0 or -1 of the first of the entries that has one."""
        for entry in entries:
            wanted = Wanted(HOP_SAMPLE, ("time", "node", "kept_shift"), self._end_only(directory, entry, at))
            rows = in_order(self._reader.read_files(wanted, [(directory, entry)]))
            if len(rows["time"]):
                return _End(str(rows["node"][at]), int(rows["time"][at]), int(rows["kept_shift"][at]))
        return None

    def _end_only(self, directory: Path, entry: Entry, at: int) -> list[Condition]:
        """Of a Parquet file one row group is to be read, not all."""
        facts = self._reader.scanner().facts(directory / entry.name) if entry.is_parquet else None
        return [only("time", "=", (facts.first_ns, facts.last_ns)[at])] if facts else []


class _Directories:
    """NodeRows: a node is known by the name of its directories."""

    def __init__(self, reader: RowReader, tables: Sequence[Table], node: str | None) -> None:
        self._reader = reader
        paths = [path for one in tables for path in reader.directories(one, node)]
        self.nodes: Sequence[str] = sorted({path.name for path in paths})

    def read(self, wanted: Wanted, spans: NodeSpans) -> Iterator[tuple[str, Rows]]:
        """One node and span after the other: what was read of it is small, or is all that is asked for."""
        for path in self._reader.directories(wanted.table):
            for span in spans.get(path.name, ()):
                of_span = replace(wanted, conditions=[*wanted.conditions, *within(span)])
                yield path.name, self._reader.read(of_span, [path])


def _names(columns: Sequence[str] | None, table: Table) -> Sequence[str]:
    return [each.name for each in table.columns] if columns is None else columns


def _named(name: str) -> Table:
    try:
        return table_of(name)
    except KeyError as error:
        raise StoreError(f"{name}: no table of the store") from error
