# SPDX-License-Identifier: Apache-2.0
"""Which rows are wanted: said once, for DuckDB and for numpy. Values never become part of a query's text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from store.batch import Labels, Numbers
from store.query import Span, TraceId, Where
from store.schema import TEXT

Operator = Literal["=", ">=", "<"]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column compared with a value of its type; texts only with `=`."""

    column: str
    operator: Operator
    value: int | str


Condition = tuple[tuple[Comparison, ...], ...]
"""At least one of these holds, each of which is several tests that hold together."""


def only(column: str, operator: Operator, value: int | str) -> Condition:
    """One test."""
    return ((Comparison(column, operator, value),),)


def within(span: Span) -> list[Condition]:
    """Rows of these times."""
    return [only("time", ">=", span.since_ns), only("time", "<", span.until_ns)]


def of_trace(trace: TraceId) -> list[Condition]:
    """Samples of one trace."""
    return [only("trace_lo", "=", trace.lo), only("trace_hi", "=", trace.hi)]


def of_hops(where: Where) -> list[Condition]:
    """Summaries or samples; namespace and workload are of the same end."""
    conditions: list[Condition] = []
    ends = []
    for end in ("src", "dst"):
        wanted = ((f"{end}_ns", where.namespace), (f"{end}_workload", where.workload))
        ends.append(tuple(Comparison(column, "=", value) for column, value in wanted if value is not None))
    if ends[0]:
        conditions.append(tuple(ends))
    for column, value in (("node", where.node), ("kind", where.kind)):
        if value is not None:
            conditions.append(only(column, "=", value))
    return conditions


def mask(conditions: Sequence[Condition], columns: Mapping[str, Numbers | Labels], rows: int) -> Mask:
    """Which of the rows fulfil all conditions."""
    wanted = np.ones(rows, np.bool_)
    for condition in conditions:
        any_of = np.zeros(rows, np.bool_)
        for tests in condition:
            all_of = np.ones(rows, np.bool_)
            for test in tests:
                all_of &= _holds(test, columns[test.column])
            any_of |= all_of
        wanted &= any_of
    return wanted


def always(test: Comparison, dtype: str) -> bool | None:
    """What the test gives for every number, where its value is beyond the column's type; else None."""
    if dtype == TEXT:
        return None
    limits, value = np.iinfo(dtype), int(test.value)
    if limits.min <= value <= limits.max:
        return None
    return test.operator == ("<" if value > limits.max else ">=")


def _holds(test: Comparison, column: Numbers | Labels) -> Mask:
    if isinstance(column, Labels):
        fitting = np.array([value == test.value for value in column.values], np.bool_)
        return fitting[column.codes] if len(fitting) else np.zeros(len(column), np.bool_)
    known = always(test, column.dtype.str)
    if known is not None:
        return np.full(len(column), known, np.bool_)
    numbers: npt.NDArray[Any] = column  # of whichever integer type
    if test.operator == "=":
        return np.asarray(numbers == test.value)
    return np.asarray(numbers >= test.value if test.operator == ">=" else numbers < test.value)
