# SPDX-License-Identifier: Apache-2.0
"""Names of hops, by number: what a flow's records are called, and which series they belong to."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from store.batch import Labels
from store.schema import SERIES

Codes = npt.NDArray[np.intp]
"""The number of each record's names in a Names."""

COLUMNS = (
    "kind",
    "message",
    "src_ns",
    "src_pod",
    "src_workload",
    "dst_ns",
    "dst_pod",
    "dst_workload",
    "service",
    "encap",
    "context",
)
"""What a hop is called, by columns of store.schema.HOP_SAMPLE."""
Row = tuple[str, ...]
"""One text per column of COLUMNS."""

_IN_SERIES = tuple(COLUMNS.index(column) for column in SERIES)


class Names:
    """Every name that was given, each with a number. Numbers are never taken back."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        """The names of each number."""
        self.series: list[Row] = []
        """The series, by number: texts in the order of store.schema.SERIES."""
        self._codes: dict[Row, int] = {}
        self._series: dict[Row, int] = {}
        self._series_of = np.zeros(64, np.intp)

    def __len__(self) -> int:
        return len(self.rows)

    def code(self, row: Row) -> int:
        """The number of these names, a new one if need be."""
        code = self._codes.setdefault(row, len(self.rows))
        if code == len(self.rows):
            self.rows.append(row)
            if code == len(self._series_of):
                self._series_of = np.concatenate([self._series_of, np.zeros_like(self._series_of)])
            self._series_of[code] = self._series_number(tuple(row[at] for at in _IN_SERIES))
        return code

    @property
    def series_of(self) -> Codes:
        """The number of the series of each code."""
        return self._series_of[: len(self.rows)]

    def _series_number(self, series: Row) -> int:
        number = self._series.setdefault(series, len(self.series))
        if number == len(self.series):
            self.series.append(series)
        return number


def labels(named: Sequence[tuple[Names, Codes]]) -> dict[str, Labels]:
    """The columns COLUMNS of records, given in parts: their names and codes."""
    rows: list[Row] = []
    numbers = [np.zeros(0, np.intp)]
    for names, parts in groupby(named, key=itemgetter(0)):
        present, found = np.unique(np.concatenate([codes for _, codes in parts]), return_inverse=True)
        numbers.append(found + len(rows))
        rows += [names.rows[code] for code in present.tolist()]
    of_records = np.concatenate(numbers)
    return {
        column: Labels.of([row[at] for row in rows]).take(of_records) for at, column in enumerate(COLUMNS)
    }
