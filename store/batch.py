# SPDX-License-Identifier: Apache-2.0
"""Rows on their way: columns of equal length, numbers as numpy arrays, text as a dictionary and codes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.schema import TEXT, Table

Numbers = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Labels:
    """A text column: row i is `values[codes[i]]`."""

    values: Sequence[str]
    codes: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def same(cls, value: str, rows: int) -> "Labels":
        """The same text in every row."""
        return cls((value,), np.zeros(rows, np.uint32))

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Labels":
        """From one text per row; for few rows."""
        numbers: dict[str, int] = {}
        codes = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.uint32)
        return cls(tuple(numbers), codes)

    def texts(self) -> npt.NDArray[np.object_]:
        """One text per row."""
        return np.array([*self.values], dtype=object)[self.codes]

    def take(self, rows: npt.NDArray[np.intp]) -> "Labels":
        """These rows only."""
        return Labels(self.values, self.codes[rows])


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one table, every column of it but `time`, `cluster`, `node`, which the appender knows.

    Raises ValueError if a column is missing, too much, of another type or of another length.
    """

    table: Table
    columns: Mapping[str, Numbers | Labels]

    def __post_init__(self) -> None:
        wanted = {each.name: each.dtype for each in self.table.columns[len(APPENDED) :]}
        if wanted.keys() != self.columns.keys():
            raise ValueError(f"{self.table.name}: columns {sorted(wanted.keys() ^ self.columns.keys())}")
        if len({len(column) for column in self.columns.values()}) > 1:
            raise ValueError(f"{self.table.name}: columns of different lengths")
        for name, column in self.columns.items():
            given = TEXT if isinstance(column, Labels) else column.dtype.str.lstrip("<|")
            if given != wanted[name]:
                raise ValueError(f"{self.table.name}: {name} is {given}, not {wanted[name]}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


APPENDED = ("time", "cluster", "node")
