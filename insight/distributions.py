# SPDX-License-Identifier: Apache-2.0
"""Latencies of many hops together: over time, as heat map, as CDF, the worst series, what changed.

Up to FINE_ROWS summary rows are merged from their 2 % histograms (`hist`), within 1 %; beyond that the store
gives sums of quarter octaves, within 9 % (docs/store.md, "Histogram" and "Reading").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from insight.histograms import COARSE_ERROR, FINE_ERROR, group_quantiles
from store.hist_text import merged, merged_quarters
from store.histogram import BORDERS_NS, QUARTER_BORDERS_NS, quarter_quantiles
from store.quarters import QUARTERS, Steps, added, extremes, grouped
from store.query import Columns, Span, Store, Where

FINE_ROWS = 200_000
"""A thousand series over a day have 144,000; a server sends that many in 3 s, and they take 100 MB here."""
WORKLOADS = ("kind", "src_ns", "src_workload", "dst_ns", "dst_workload")
"""What tells pairs of workloads apart, over all nodes."""
LEAST_HOPS = 200
"""Fewer have no p99 worth comparing."""
_S_NS = 1_000_000_000

Labels = tuple[str, ...]
"""Values of the columns that were asked by."""


@dataclass(frozen=True, slots=True)
class Point:
    """One step of time. `quantiles_ns`: of the shares that were asked for; None: no hop."""

    time_ns: int
    """When the step begins: rows written from then on, whose hops are up to one interval older."""
    hops: int
    retransmitted: int
    """Apart from `hops`, and not in the quantiles."""
    per_s: float
    quantiles_ns: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class OverTime:
    """Quantiles step by step; `error`: how far each may be off, as a share of it."""

    shares: tuple[float, ...]
    points: tuple[Point, ...]
    error: float


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Hops by time and latency: `hops[i][j]` of step i, from `borders_ns[j]` to below `borders_ns[j + 1]`."""

    times_ns: tuple[int, ...]
    borders_ns: tuple[int, ...]
    hops: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Cdf:
    """`shares[i]` of the hops took less than `below_ns[i]`; exact at these borders."""

    hops: int
    min_ns: int
    max_ns: int
    below_ns: tuple[int, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A series, and the quantile that it was ranked by."""

    labels: Labels
    hops: int
    retransmitted: int
    quantile_ns: float
    error: float


@dataclass(frozen=True, slots=True)
class Change:
    """A series in two spans; `ratio`: after / before of the quantile."""

    labels: Labels
    hops_before: int
    hops_after: int
    before_ns: float
    after_ns: float
    ratio: float
    error: float
    """Of the ratio: both quantiles may be off."""


class Order(StrEnum):
    """What series are ranked by."""

    QUANTILE = "quantile"
    HOPS = "hops"


@dataclass(frozen=True, slots=True)
class _Fine:
    """Histograms of summary rows, text i of group `at[i]`."""

    texts: npt.NDArray[np.generic]
    at: npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Groups:
    """Rows that belong together: group i is of `labels[i]` and the step that begins at `times_ns[i]`."""

    labels: list[Labels]
    times_ns: npt.NDArray[np.int64]
    hops: npt.NDArray[np.int64]
    retransmitted: npt.NDArray[np.int64]
    min_ns: npt.NDArray[np.uint32]
    max_ns: npt.NDArray[np.uint32]
    counts: _Fine | npt.NDArray[np.uint64]
    """Or quarter octaves, one row per group."""

    @property
    def error(self) -> float:
        """Of quantiles, as a share of them."""
        return FINE_ERROR if isinstance(self.counts, _Fine) else COARSE_ERROR

    def quantiles(self, shares: Sequence[float]) -> npt.NDArray[np.float64]:
        """One row per group; NaN where no hop is."""
        if isinstance(self.counts, _Fine):
            return group_quantiles(self.counts.texts, self.counts.at, shares, self.min_ns, self.max_ns)
        return quarter_quantiles(self.counts, shares, self.min_ns, self.max_ns)

    def quarters(self) -> npt.NDArray[np.uint64]:
        """One row per group, one column per quarter octave."""
        if isinstance(self.counts, _Fine):
            return merged_quarters(self.counts.texts.tolist(), self.counts.at, len(self.hops))
        return self.counts


def over_time(
    store: Store, span: Span, where: Where, step_s: int, shares: Sequence[float] = (0.5, 0.9, 0.99)
) -> OverTime:
    """All hops that fit together, in steps of `step_s` seconds since 1970. Raises StoreError.

    Steps without rows are left out.
    """
    groups = _groups(store, span, where, (), step_s)
    found = groups.quantiles(shares)
    points = [
        Point(
            int(time_ns),
            int(groups.hops[at]),
            int(groups.retransmitted[at]),
            int(groups.hops[at] + groups.retransmitted[at]) / _length_s(int(time_ns), step_s, span),
            tuple(None if math.isnan(each) else float(each) for each in found[at]),
        )
        for at, time_ns in enumerate(groups.times_ns)
    ]
    return OverTime(tuple(shares), tuple(points), groups.error)


def heat_map(store: Store, span: Span, where: Where, step_s: int) -> HeatMap:
    """All hops that fit by step, of `step_s` seconds since 1970, and quarter octave. Raises StoreError.

    Steps without rows are left out.
    """
    groups = _groups(store, span, where, (), step_s)
    return HeatMap(
        tuple(groups.times_ns.tolist()),
        tuple(QUARTER_BORDERS_NS.tolist()),
        tuple(tuple(row) for row in groups.quarters().tolist()),
    )


def cdf(store: Store, span: Span, where: Where) -> Cdf:
    """All hops that fit together. Raises StoreError."""
    groups = _groups(store, span, where, (), None)
    if not len(groups.hops) or not groups.hops[0]:
        return Cdf(0, 0, 0, (), ())
    if isinstance(groups.counts, _Fine):
        [counts], borders_ns = merged(groups.counts.texts.tolist(), groups.counts.at, 1), BORDERS_NS
    else:
        [counts], borders_ns = groups.counts, QUARTER_BORDERS_NS[1:]
    below_ns = np.append(borders_ns.astype(np.int64), int(groups.max_ns[0]) + 1)
    occupied = np.flatnonzero(counts)
    shares = counts.cumsum()[occupied] / int(groups.hops[0])
    return Cdf(
        int(groups.hops[0]),
        int(groups.min_ns[0]),
        int(groups.max_ns[0]),
        tuple(np.minimum(below_ns[occupied], below_ns[-1]).tolist()),
        tuple(shares.tolist()),
    )


def top(
    store: Store,
    span: Span,
    where: Where,
    most: int,
    share: float = 0.99,
    by: Sequence[str] = WORKLOADS,
    least_hops: int = LEAST_HOPS,
    order: Order = Order.QUANTILE,
) -> list[Ranked]:
    """The `most` series of the greatest quantile or of most hops, of those with enough hops.

    Raises StoreError.
    """
    groups = _groups(store, span, where, by, None)
    found = groups.quantiles((share,))[:, 0]
    rank = np.argsort(-(found if order is Order.QUANTILE else groups.hops), kind="stable")
    chosen = [at for at in rank.tolist() if groups.hops[at] >= max(least_hops, 1)]
    return [
        Ranked(
            groups.labels[at],
            int(groups.hops[at]),
            int(groups.retransmitted[at]),
            float(found[at]),
            groups.error,
        )
        for at in chosen[:most]
    ]


def changed(
    store: Store,
    before: Span,
    after: Span,
    where: Where,
    most: int,
    share: float = 0.99,
    by: Sequence[str] = WORKLOADS,
    least_hops: int = LEAST_HOPS,
) -> list[Change]:
    """The `most` series whose quantile changed most, either way, of those with enough hops in both spans.

    Raises StoreError.
    """
    old, new = (_ranked(store, span, where, by, share, least_hops) for span in (before, after))
    both = [(old[labels], each) for labels, each in new.items() if labels in old]
    changes = [
        Change(
            now.labels,
            then.hops,
            now.hops,
            then.quantile_ns,
            now.quantile_ns,
            now.quantile_ns / then.quantile_ns,
            (1 + then.error) * (1 + now.error) - 1,
        )
        for then, now in both
        if then.quantile_ns > 0 and now.quantile_ns > 0
    ]
    return sorted(changes, key=lambda each: (-abs(math.log(each.ratio)), each.labels))[:most]


def _ranked(
    store: Store, span: Span, where: Where, by: Sequence[str], share: float, least_hops: int
) -> dict[Labels, Ranked]:
    found = top(store, span, where, 1 << 31, share, by, least_hops)
    return {each.labels: each for each in found}


def _groups(store: Store, span: Span, where: Where, by: Sequence[str], step_s: int | None) -> _Groups:
    """From histograms where there are few rows, else from sums of quarter octaves."""
    if store.summary_count(span, where) > FINE_ROWS:
        return _coarse(store.quarters(span, where, by, step_s), by)
    needed = ("time", "count", "retransmitted", "min_ns", "max_ns", "hist")
    rows = store.summaries(span, where, columns=(*by, *needed))
    return _fine(rows, Steps(by, step_s, span.since_ns))


def _coarse(sums: Columns, by: Sequence[str]) -> _Groups:
    return _Groups(
        labels=_labels(sums, by),
        times_ns=sums["time"].astype(np.int64),
        hops=sums["count"].astype(np.int64),
        retransmitted=sums["retransmitted"].astype(np.int64),
        min_ns=sums["min_ns"].astype(np.uint32),
        max_ns=sums["max_ns"].astype(np.uint32),
        counts=np.stack([sums[name].astype(np.uint64) for name in QUARTERS], axis=1),
    )


def _fine(rows: Columns, steps: Steps) -> _Groups:
    groups, at = grouped(rows, steps)
    bounds = extremes(rows, at, len(groups))
    return _Groups(
        labels=[labels for _, labels in groups],
        times_ns=np.array([time_ns for time_ns, _ in groups], np.int64),
        hops=added(rows["count"], at, len(groups)).astype(np.int64),
        retransmitted=added(rows["retransmitted"], at, len(groups)).astype(np.int64),
        min_ns=bounds["min_ns"],
        max_ns=bounds["max_ns"],
        counts=_Fine(rows["hist"], at),
    )


def _labels(columns: Columns, by: Sequence[str]) -> list[Labels]:
    rows = len(columns["time"])
    if not by:
        return [()] * rows
    return list(zip(*(columns[name].tolist() for name in by), strict=True))


def _length_s(begin_ns: int, step_s: int, span: Span) -> float:
    """Of that part of a step which is in the span."""
    first, last = max(begin_ns, span.since_ns), min(begin_ns + step_s * _S_NS, span.until_ns)
    return max((last - first) / _S_NS, 1e-9)
