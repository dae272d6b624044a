# SPDX-License-Identifier: Apache-2.0
"""Sums of summary rows by labels and steps of time: for questions over more series than can be merged here.

Quarter octaves add up exactly, so a quantile of their sums is one of all hops, within 9 % (store.histogram).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from store.query import Columns, Span
from store.schema import QUARTER_OCTAVES

QUARTERS: Final = tuple(f"q{number:02}" for number in range(QUARTER_OCTAVES))
SUMMED: Final = ("count", "retransmitted", "sum_ns", *QUARTERS)
EXTREMES: Final = ("min_ns", "max_ns")
Group = tuple[int, tuple[str, ...]]
"""Begin of a step, and the labels."""
_DTYPES: Final = dict.fromkeys(SUMMED, "u8") | dict.fromkeys(EXTREMES, "u4")


def columns_needed(by: Sequence[str]) -> list[str]:
    """Of summary rows, for `sums_of`."""
    return [*dict.fromkeys([*by, "time", *SUMMED, *EXTREMES])]


def sums_of(rows: Columns, by: Sequence[str], step_s: int | None, span: Span) -> Columns:
    """As store.query.Store.quarters says, of these rows of one table."""
    steps = _steps(rows["time"].astype(np.int64), step_s, span)
    labels = [np.asarray(rows[name]).tolist() for name in by]
    numbers: dict[Group, int] = {}
    keys = zip(steps.tolist(), zip(*labels, strict=True) if by else [()] * len(steps), strict=True)
    at = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.intp)
    found: dict[str, npt.NDArray[np.generic]] = {}
    for name in SUMMED:
        sums = np.zeros(len(numbers), np.uint64)
        np.add.at(sums, at, rows[name].astype(np.uint64))
        found[name] = sums
    has_hops = rows["count"].astype(np.int64) > 0
    least = np.full(len(numbers), np.iinfo(np.uint32).max, np.uint32)
    np.minimum.at(least, at[has_hops], rows["min_ns"][has_hops].astype(np.uint32))
    greatest = np.zeros(len(numbers), np.uint32)
    np.maximum.at(greatest, at[has_hops], rows["max_ns"][has_hops].astype(np.uint32))
    found["min_ns"] = np.where(np.asarray(found["count"]) > 0, least, 0).astype(np.uint32)
    found["max_ns"] = greatest
    return _ordered([*numbers], by, found)


def summed_columns(groups: Mapping[Group, Mapping[str, int]], by: Sequence[str]) -> Columns:
    """The same of sums that somebody else made; what is missing is 0."""
    found = {
        name: np.array([sums.get(name, 0) for sums in groups.values()], dtype)
        for name, dtype in _DTYPES.items()
    }
    return _ordered([*groups], by, found)


def _steps(times: npt.NDArray[np.int64], step_s: int | None, span: Span) -> npt.NDArray[np.int64]:
    if step_s is None:
        return np.full(len(times), span.since_ns, np.int64)
    step_ns = step_s * 1_000_000_000
    return times // step_ns * step_ns


def _ordered(
    groups: Sequence[Group], by: Sequence[str], found: Mapping[str, npt.NDArray[np.generic]]
) -> Columns:
    """In order of time, then of the labels."""
    order = np.array(sorted(range(len(groups)), key=lambda at: groups[at]), np.intp)
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for place, name in enumerate(by):
        texts = np.empty(len(groups), object)
        texts[:] = [labels[place] for _, labels in groups]
        columns[name] = texts[order]
    columns["time"] = np.array([time for time, _ in groups], np.int64)[order]
    return columns | {name: found[name][order] for name in _DTYPES}
