# SPDX-License-Identifier: Apache-2.0
import numpy as np

from store.intervals import Covered, begins, middles, spans_of, tables_for
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


def test_spans_of_cuts_where_times_are_furthest_apart() -> None:
    times = ns(100, 1, 2, 50)
    assert spans_of(times, 20, 64) == [
        Span(1 * S, 2 * S + 1),
        Span(50 * S, 50 * S + 1),
        Span(100 * S, 100 * S + 1),
    ]
    assert spans_of(times, 20, 2) == [Span(1 * S, 50 * S + 1), Span(100 * S, 100 * S + 1)]
    assert spans_of(times, 200, 64) == [Span(1 * S, 100 * S + 1)]
    assert spans_of(ns(), 20, 64) == []
