# SPDX-License-Identifier: Apache-2.0
"""Names of hops, by number: what a flow's records are called, and which series they belong to."""

from collections.abc import Sequence
from itertools import accumulate

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
        self._texts: tuple[dict[str, int], ...] = tuple({} for _ in COLUMNS)
        self._numbers = np.zeros((64, len(COLUMNS) + 1), np.uint32)
        """Of each code the number of its text in each column, and of its series."""

    def __len__(self) -> int:
        return len(self.rows)

    def code(self, row: Row) -> int:
        """The number of these names, a new one if need be."""
        code = self._codes.setdefault(row, len(self.rows))
        if code == len(self.rows):
            self.rows.append(row)
            if code == len(self._numbers):
                self._numbers = np.concatenate([self._numbers, np.zeros_like(self._numbers)])
            texts = (known.setdefault(text, len(known)) for known, text in zip(self._texts, row, strict=True))
            self._numbers[code] = (*texts, self._series_number(tuple(row[at] for at in _IN_SERIES)))
        return code

    def series_of(self, codes: Codes) -> Codes:
        """The number of the series of each code."""
        found: Codes = self._numbers[codes, -1].astype(np.intp)
        return found

    def labels(self, codes: Codes) -> dict[str, Labels]:
        """The columns COLUMNS for records of these codes; their values are those that occur."""
        found = {}
        for at, column in enumerate(COLUMNS):
            numbers = self._numbers[codes, at]
            present = np.flatnonzero(np.bincount(numbers))
            new_numbers = np.zeros(len(self._texts[at]), np.uint32)
            new_numbers[present] = np.arange(len(present))
            texts = [*self._texts[at]]
            found[column] = Labels([texts[number] for number in present.tolist()], new_numbers[numbers])
        return found

    def _series_number(self, series: Row) -> int:
        number = self._series.setdefault(series, len(self.series))
        if number == len(self.series):
            self.series.append(series)
        return number


def labels(named: Sequence[tuple[Names, Codes]]) -> dict[str, Labels]:
    """The columns COLUMNS of records, given in parts: their names and codes."""
    parts = [names.labels(codes) for names, codes in named]
    return {column: _joined([part[column] for part in parts]) for column in COLUMNS}


def _joined(parts: Sequence[Labels]) -> Labels:
    if len(parts) == 1:
        return parts[0]
    values = Labels.of([text for part in parts for text in part.values])
    starts = accumulate((len(part.values) for part in parts), initial=0)
    rows = [part.codes + np.uint32(start) for part, start in zip(parts, starts, strict=False)]
    return values.take(np.concatenate([np.zeros(0, np.uint32), *rows]).astype(np.intp))
