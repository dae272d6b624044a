# SPDX-License-Identifier: Apache-2.0
"""Sums of summary rows by labels and steps of time: for questions over more series than can be merged here.

Quarter octaves add up exactly, so a quantile of their sums is one of all hops, within 9 % (store.histogram).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from store.hist_text import merged_quarters
from store.query import Columns
from store.schema import QUARTER_OCTAVES

QUARTERS: Final = tuple(f"q{number:02}" for number in range(QUARTER_OCTAVES))
HISTOGRAM: Final = "hist"
_TOTALS: Final = ("count", "retransmitted", "sum_ns")
SUMMED: Final = (*_TOTALS, *QUARTERS)
EXTREMES: Final = {"min_ns": "min", "max_ns": "max"}
"""Columns of which not the sum is wanted, but that."""
Group = tuple[int, tuple[str, ...]]
"""Begin of a step, and the labels."""
_SUMS_AT_ONCE: Final = 50_000
"""Bounds the memory to some 40 MB, unless there are more groups."""
_DTYPES: Final = dict.fromkeys(SUMMED, "u8") | dict.fromkeys(EXTREMES, "u4")


@dataclass(frozen=True, slots=True)
class Steps:
    """What is summed up: rows of equal labels `by`, in one step of time, of `step_s` seconds since 1970.

    Without `step_s` all are in one, which begins at `since_ns`.
    """

    by: Sequence[str]
    step_s: int | None
    since_ns: int

    @property
    def step_ns(self) -> int | None:
        """The length of a step."""
        return None if self.step_s is None else self.step_s * 1_000_000_000


def summed_names(by: Sequence[str]) -> list[str]:
    """The columns of sums, and those of summary rows that they are made of."""
    return [*by, "time", *_DTYPES]


def names_with_histogram(by: Sequence[str]) -> list[str]:
    """The columns of summary rows that the same sums are made of, where reading 80 columns costs more."""
    return [*by, "time", *_TOTALS, *EXTREMES, HISTOGRAM]


def sums_of(rows: Columns, steps: Steps) -> Columns:
    """As store.query.Store.quarters says, of these rows of one table; or of such sums.

    Quarter octaves are columns of the rows, or made of their histograms. Raises ValueError: one is none.
    """
    groups, at = grouped(rows, steps)
    found: dict[str, npt.NDArray[np.generic]] = {name: added(rows[name], at, len(groups)) for name in _TOTALS}
    if HISTOGRAM in rows:
        counts = merged_quarters(rows[HISTOGRAM].tolist(), at, len(groups))
        found |= dict(zip(QUARTERS, counts.T, strict=True))
    else:
        found |= {name: added(rows[name], at, len(groups)) for name in QUARTERS}
    return _columns(groups, steps.by, found | extremes(rows, at, len(groups)))


def sums_of_parts(parts: Iterable[Columns], steps: Steps) -> Columns:
    """The sums of rows in several parts, of which few are held at a time; the first has the types."""
    sums: list[Columns] = []
    for part in parts:
        sums.append(sums_of(part, steps))
        if sum(len(each["time"]) for each in sums) > _SUMS_AT_ONCE:
            sums = [_together(sums, steps)]
    return _together(sums, steps)


def _together(sums: Sequence[Columns], steps: Steps) -> Columns:
    return sums_of(
        {name: np.concatenate([each[name] for each in sums]) for name in summed_names(steps.by)}, steps
    )


def grouped(rows: Columns, steps: Steps) -> tuple[list[Group], npt.NDArray[np.intp]]:
    """The groups that rows are of, in order of time, then of the labels; and the number of each row's."""
    times = rows["time"].astype(np.int64)
    step_ns = steps.step_ns
    begins = np.full(len(times), steps.since_ns, np.int64) if step_ns is None else times // step_ns * step_ns
    labels = zip(*(rows[name].tolist() for name in steps.by), strict=True) if steps.by else [()] * len(times)
    keys: list[Group] = list(zip(begins.tolist(), labels, strict=True))
    groups = sorted(set(keys))
    numbers = {group: number for number, group in enumerate(groups)}
    return groups, np.array([numbers[key] for key in keys], np.intp)


def added(column: npt.NDArray[np.generic], at: npt.NDArray[np.intp], groups: int) -> npt.NDArray[np.uint64]:
    """The sum of each group."""
    sums = np.zeros(groups, np.uint64)
    np.add.at(sums, at, column.astype(np.uint64))
    return sums


def extremes(rows: Columns, at: npt.NDArray[np.intp], groups: int) -> dict[str, npt.NDArray[np.uint32]]:
    """`min_ns` and `max_ns` of each group, of rows that count hops; 0 where none does."""
    has_hops = rows["count"].astype(np.int64) > 0
    least = np.full(groups, np.iinfo(np.uint32).max, np.uint32)
    np.minimum.at(least, at[has_hops], rows["min_ns"][has_hops].astype(np.uint32))
    greatest = np.zeros(groups, np.uint32)
    np.maximum.at(greatest, at[has_hops], rows["max_ns"][has_hops].astype(np.uint32))
    is_any = np.bincount(at, has_hops, groups) > 0
    return {"min_ns": np.where(is_any, least, 0).astype(np.uint32), "max_ns": greatest}


def _columns(
    groups: Sequence[Group], by: Sequence[str], found: Mapping[str, npt.NDArray[np.generic]]
) -> Columns:
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for place, name in enumerate(by):
        columns[name] = np.empty(len(groups), object)
        columns[name][:] = [labels[place] for _, labels in groups]
    columns["time"] = np.array([time_ns for time_ns, _ in groups], np.int64)
    return columns | {name: found[name] for name in _DTYPES}
