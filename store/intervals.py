# SPDX-License-Identifier: Apache-2.0
"""Summaries of several tables together, each hop counted once: which rows of a finer table still count.

A row sums up an interval that ended at its time. It began one interval earlier, or when its agent started if
that was later. A finer row counts if the middle of its own interval is in no interval of a coarser row: rows
of one flush are written within milliseconds, in any order, and the middle is seconds away from either end.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from store.query import POINTS, Span
from store.schema import SUMMARIES, Table

Times = npt.NDArray[np.int64]

_S_NS: Final = 1_000_000_000


def tables_for(span: Span, points: int = POINTS) -> list[Table]:
    """The coarsest table that gives so many points over the span (else the finest), then the finer ones."""
    length_ns = span.until_ns - span.since_ns
    finest_first = sorted(SUMMARIES, key=lambda table: table.interval_s)
    fitting = [table for table in finest_first if length_ns >= points * table.interval_s * _S_NS]
    return (fitting or finest_first[:1])[::-1]


def begins(times: Times, interval_s: int, starts: Times) -> Times:
    """When the intervals that ended at `times` began; `starts`: when agents of the node started, sorted."""
    nominal = times - interval_s * _S_NS
    if not len(starts):
        return nominal
    before = np.searchsorted(starts, times, side="right")
    started = np.where(before > 0, starts[np.maximum(before - 1, 0)], np.iinfo(np.int64).min)
    return np.maximum(nominal, started)


class Covered:
    """Time that rows chosen so far sum up."""

    def __init__(self) -> None:
        self._from = np.zeros(0, np.int64)
        self._until = np.zeros(0, np.int64)

    def add(self, begins_ns: Times, ends_ns: Times) -> None:
        """These intervals too."""
        first = np.concatenate([self._from, begins_ns])
        last = np.concatenate([self._until, ends_ns])
        order = np.argsort(first, kind="stable")
        first, reach = first[order], np.maximum.accumulate(last[order])
        new = np.ones(len(first), np.bool_)
        new[1:] = first[1:] > reach[:-1]
        self._from = first[new]
        self._until = reach[np.append(np.flatnonzero(new)[1:] - 1, len(reach) - 1)] if len(reach) else reach

    def has(self, times: Times) -> npt.NDArray[np.bool_]:
        """Which of the times lie inside."""
        if not len(self._from):
            return np.zeros(len(times), np.bool_)
        at = np.searchsorted(self._from, times, side="right") - 1
        return np.asarray((at >= 0) & (times <= self._until[np.maximum(at, 0)]))

    def gaps(self, span: Span, least_s: float) -> list[Span]:
        """What of the span lies outside, in order; between two intervals nothing shorter than `least_s`.

        There no middle can be, but at an end of the span one can: an agent may have run for a second only.
        """
        borders = np.stack([self._from, self._until], axis=1).reshape(-1).clip(span.since_ns, span.until_ns)
        edges = [span.since_ns, *borders.tolist(), span.until_ns]
        pairs = zip(edges[0::2], edges[1::2], strict=True)
        found = [Span(since, until) for since, until in pairs if since < until]
        return [gap for gap in found if _is_worth_a_look(gap, span, least_s)]


def _is_worth_a_look(gap: Span, span: Span, least_s: float) -> bool:
    is_long = gap.until_ns - gap.since_ns > least_s * _S_NS
    return is_long or gap.since_ns == span.since_ns or gap.until_ns == span.until_ns


def middles(times: Times, interval_s: int, starts: Times) -> Times:
    """Of the intervals that ended at `times`."""
    first = begins(times, interval_s, starts)
    return first + (times - first) // 2


def fewer(spans: Sequence[Span], at_most: int) -> list[Span]:
    """Few spans that hold all of these, which are in order: joined where they are closest to each other."""
    apart = [later.since_ns - earlier.until_ns for earlier, later in pairwise(spans)]
    widest = sorted(range(len(apart)), key=lambda at: -apart[at])[: at_most - 1]
    borders = [0, *sorted(at + 1 for at in widest), len(spans)]
    parts = [spans[first:last] for first, last in pairwise(borders) if first < last]
    return [Span(part[0].since_ns, part[-1].until_ns) for part in parts]
