# SPDX-License-Identifier: Apache-2.0
"""Batches of any table out of a few values per row; what is not given is 0 or empty."""

from collections.abc import Mapping

import numpy as np

from store.batch import APPENDED, Batch, Labels, Numbers
from store.schema import TEXT, Table

Row = Mapping[str, int | str]


def batch(table: Table, *rows: Row) -> Batch:
    columns: dict[str, Numbers | Labels] = {}
    for column in table.columns[len(APPENDED) :]:
        if column.dtype == TEXT:
            columns[column.name] = Labels.of([str(row.get(column.name, "")) for row in rows])
        else:
            columns[column.name] = np.array([row.get(column.name, 0) for row in rows], column.dtype)
    return Batch(table, columns)
