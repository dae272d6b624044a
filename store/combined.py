# SPDX-License-Identifier: Apache-2.0
"""One node's summaries out of several tables, each hop once (store.intervals says which rows count)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from store.conditions import only, within
from store.intervals import Covered, Times, begins, middles, spans_of, tables_for
from store.query import Span
from store.reading import RowReader, Rows, Wanted
from store.schema import EVENT, SUMMARIES

_MOST_SPANS: Final = 64
_LONGEST_NS: Final = max(table.interval_s for table in SUMMARIES) * 1_000_000_000


def combined(reader: RowReader, wanted: Wanted, span: Span, directory: str) -> Iterator[Rows]:
    """The rows of the node with that directory name; `wanted` is of the coarsest table, with its time.

    The coarsest is read first: what is written meanwhile is found in a finer one, and nothing falls between.
    """
    starts = _starts(reader, span, directory)
    covered = Covered()
    for table in tables_for(span):
        of_table = replace(wanted, table=table)
        if table is wanted.table:
            parts = [_read(reader, of_table, directory)]
        else:
            parts = list(_uncovered(reader, of_table, directory, covered, starts))
        yield from parts
        for part in parts:
            covered.add(begins(_times(part), table.interval_s, starts), _times(part))


def _uncovered(
    reader: RowReader, wanted: Wanted, directory: str, covered: Covered, starts: Times
) -> Iterator[Rows]:
    """Only the times first: nearly all of the rows are covered, and they have a hundred columns."""
    interval_s = wanted.table.interval_s
    times = _times(_read(reader, replace(wanted, columns=("time",)), directory))
    new = times[~covered.has(middles(times, interval_s, starts))]
    for span in spans_of(new, 2 * interval_s, _MOST_SPANS):
        rows = _read(reader, replace(wanted, conditions=[*wanted.conditions, *within(span)]), directory)
        is_new = ~covered.has(middles(_times(rows), interval_s, starts))
        yield {name: column[is_new] for name, column in rows.items()}


def _starts(reader: RowReader, span: Span, directory: str) -> Times:
    """When agents of the node started, as far as it matters to the span; sorted."""
    around = Span(span.since_ns - 2 * _LONGEST_NS, span.until_ns)
    conditions = [*within(around), only("what", "=", "agent"), only("state", "=", "started")]
    rows = _read(reader, Wanted(EVENT, ("since",), conditions), directory)
    return np.sort(rows["since"].astype(np.int64))


def _read(reader: RowReader, wanted: Wanted, directory: str) -> Rows:
    chosen = [path for path in reader.directories(wanted.table) if path.name == directory]
    return reader.read(wanted, chosen)


def _times(rows: Rows) -> Times:
    return rows["time"].astype(np.int64, copy=False)
