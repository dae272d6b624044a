# SPDX-License-Identifier: Apache-2.0
"""Names of hops, by number: what a flow's records are called, and which series they belong to."""

from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

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


class EndNames(NamedTuple):
    """Who an end of a hop is, by columns; a bucket has neither namespace nor pod."""

    namespace: str
    pod: str
    workload: str


_NO_NUMBER = np.uint32(0xFFFF_FFFF)
_series = itemgetter(*(COLUMNS.index(column) for column in SERIES))


class Names:
    """Every name that was given, each with a number. Numbers are never taken back."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        """The names of each number."""
        self.series: list[Row] = []
        """The series, by number: texts in the order of store.schema.SERIES."""
        self._codes: dict[Row, int] = {}
        self._series: dict[Row, int] = {}
        self._series_of: list[int] = []
        """Of each code the number of its series."""
        self._texts: tuple[dict[str, int], ...] = tuple({} for _ in COLUMNS)
        self._numbers = np.full((64, len(COLUMNS)), _NO_NUMBER, np.uint32)
        """Of each code that was in labels() the number of its text in each column: few ever are."""

    def __len__(self) -> int:
        return len(self.rows)

    def code(self, row: Row) -> int:
        """The number of these names, a new one if need be."""
        code = self._codes.setdefault(row, len(self.rows))
        if code == len(self.rows):
            self.rows.append(row)
            self._series_of.append(self._series_number(_series(row)))
        return code

    def series_of(self, codes: Codes) -> Codes:
        """The number of the series of each code."""
        return np.array([self._series_of[code] for code in codes.tolist()], np.intp)

    def labels(self, codes: Codes) -> dict[str, Labels]:
        """The columns COLUMNS for records of these codes; their values are those that occur."""
        present = np.flatnonzero(np.bincount(codes))
        group_of = np.zeros(len(self.rows), np.intp)
        group_of[present] = np.arange(len(present))
        groups = group_of.take(codes)
        self._number_texts(present)
        columns = self._numbers[present].T
        return {
            column: _labels([*texts], of_group).take(groups)
            for column, texts, of_group in zip(COLUMNS, self._texts, columns, strict=True)
        }

    def _number_texts(self, codes: Codes) -> None:
        if len(self._numbers) < len(self.rows):
            more = np.full((len(self.rows), len(COLUMNS)), _NO_NUMBER, np.uint32)
            self._numbers = np.concatenate([self._numbers, more])
        for code in codes[self._numbers[codes, 0] == _NO_NUMBER].tolist():
            pairs = zip(self._texts, self.rows[code], strict=True)
            self._numbers[code] = [known.setdefault(text, len(known)) for known, text in pairs]

    def _series_number(self, series: Row) -> int:
        number = self._series.setdefault(series, len(self.series))
        if number == len(self.series):
            self.series.append(series)
        return number


def _labels(texts: Sequence[str], numbers: Codes) -> Labels:
    """Rows with the texts of these numbers; the values are those that occur."""
    present = np.flatnonzero(np.bincount(numbers))
    new_numbers = np.zeros(len(texts), np.uint32)
    new_numbers[present] = np.arange(len(present))
    return Labels([texts[number] for number in present.tolist()], new_numbers.take(numbers))


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
