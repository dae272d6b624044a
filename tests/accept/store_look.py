# SPDX-License-Identifier: Apache-2.0
"""All rows of a store as somebody else's process sees them.

`python -m tests.accept.store_look DIR` looks again and again and prints one JSON line a look: rows by table,
rows that are there twice, files that cannot be read.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from store.combined import Rows, Wanted
from store.reading import RowReader
from store.schema import HOP_SAMPLE, TABLES, Table

_HOP = ("mono_ns", "trace_hi", "trace_lo", "span", "seq", "ack", "first_ifindex", "second_ifindex")
"""What tells one hop from all others of its node."""


@dataclass(slots=True)
class Look:
    """What one look found."""

    rows: dict[str, int] = field(default_factory=dict)
    """By table."""
    twice: dict[str, int] = field(default_factory=dict)
    """Rows whose key (node, time) is there already; and, by `hops`, samples of a hop that is."""
    problems: list[str] = field(default_factory=list)


def look(directory: Path) -> Look:
    """Everything at this moment. Raises StoreError."""
    found = Look()
    reader = RowReader(directory)
    for table in TABLES:
        rows = rows_of(reader, table)
        found.rows[table.name] = len(rows["time"])
        found.twice[table.name] = _twice(rows, ("node", "time"))
        if table is HOP_SAMPLE:
            found.twice["hops"] = _twice(rows, ("node", *_HOP))
    found.problems = list(reader.problems)
    reader.close()
    return found


def rows_of(reader: RowReader, table: Table) -> Rows:
    """Key columns of all rows of a table; of samples what tells hops apart, of summaries the counts."""
    more = _HOP if table is HOP_SAMPLE else ("count", "retransmitted") if table.interval_s else ()
    return reader.read(Wanted(table, ("node", "time", *more)), reader.directories(table))


def _twice(rows: Rows, key: tuple[str, ...]) -> int:
    count = len(rows["time"])
    nodes, numbers = np.unique(rows["node"].astype(str), return_inverse=True)
    columns = [numbers.astype(np.uint64), *(rows[name].astype(np.uint64) for name in key[1:])]
    keys = np.column_stack(columns) if count else np.empty((0, len(key)), np.uint64)
    return count - len(np.unique(keys, axis=0)) if len(nodes) else 0


def main() -> int:
    """Look until somebody ends it."""
    directory = Path(sys.argv[1])
    while True:
        print(json.dumps(asdict(look(directory))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
