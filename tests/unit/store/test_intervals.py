# SPDX-License-Identifier: Apache-2.0
import numpy as np

from store.intervals import Covered, begins, fewer, middles, tables_for
from store.query import Span

S = 1_000_000_000


def ns(*seconds: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([round(second * S) for second in seconds], np.int64)


def names(span_s: int) -> list[str]:
    return [table.name for table in tables_for(Span(0, span_s * S))]


def test_tables_for_is_the_coarsest_with_60_points_and_the_finer_ones() -> None:
    assert names(60) == ["hop_10s"]
    assert names(600) == ["hop_10s"]
    assert names(3599) == ["hop_10s"]
    assert names(3600) == ["hop_1m", "hop_10s"]
    assert names(36_000) == ["hop_10m", "hop_1m", "hop_10s"]


def test_begins_is_an_interval_before_or_the_start_of_the_agent() -> None:
    assert begins(ns(60, 120, 180), 60, ns(90)).tolist() == ns(0, 90, 120).tolist()
    assert begins(ns(60), 60, ns()).tolist() == ns(0).tolist()
    assert begins(ns(60), 60, ns(61)).tolist() == ns(0).tolist()


def test_middles_of_a_cut_interval_is_in_what_is_left() -> None:
    assert middles(ns(60), 10, ns(56)).tolist() == ns(58).tolist()


def test_covered_joins_intervals_that_overlap() -> None:
    covered = Covered()
    covered.add(ns(0, 120, 60), ns(60, 180, 120))
    covered.add(ns(300, 10), ns(360, 20))
    assert covered.has(ns(0, 55, 179, 181, 299, 300, 361)).tolist() == [
        True,
        True,
        True,
        False,
        False,
        True,
        False,
    ]


def test_covered_of_nothing_has_nothing() -> None:
    covered = Covered()
    covered.add(ns(), ns())
    assert covered.has(ns(1)).tolist() == [False]


def test_covered_short_interval_inside_a_long_one_does_not_end_it() -> None:
    covered = Covered()
    covered.add(ns(0, 10), ns(100, 20))
    assert covered.has(ns(50)).tolist() == [True]


def test_gaps_are_what_is_not_covered_within_the_span() -> None:
    covered = Covered()
    assert covered.gaps(Span(10 * S, 90 * S), 0) == [Span(10 * S, 90 * S)]
    covered.add(ns(0, 30, 50), ns(20, 40, 60))
    assert covered.gaps(Span(10 * S, 90 * S), 0) == [
        Span(20 * S, 30 * S),
        Span(40 * S, 50 * S),
        Span(60 * S, 90 * S),
    ]
    assert covered.gaps(Span(10 * S, 90 * S), 15) == [Span(60 * S, 90 * S)]
    assert covered.gaps(Span(32 * S, 36 * S), 0) == []


def test_gaps_at_the_ends_of_a_span_are_looked_at_however_short() -> None:
    covered = Covered()
    assert covered.gaps(Span(10 * S, 12 * S), 15) == [Span(10 * S, 12 * S)]
    covered.add(ns(11, 30), ns(20, 40))
    assert covered.gaps(Span(10 * S, 41 * S), 15) == [Span(10 * S, 11 * S), Span(40 * S, 41 * S)]


def test_fewer_spans_are_joined_where_they_are_closest() -> None:
    spans = [Span(1, 2), Span(50, 51), Span(53, 60), Span(100, 101)]
    assert fewer(spans, 4) == spans
    assert fewer(spans, 3) == [Span(1, 2), Span(50, 60), Span(100, 101)]
    assert fewer(spans, 1) == [Span(1, 101)]
    assert fewer([], 3) == []
