# SPDX-License-Identifier: Apache-2.0
"""Hops of a stretch of time by series: from summaries, or, above a latency, from samples.

Quantiles of a series come from its merged histograms, never from quantiles.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bpf.record import Quality
from insight.histograms import group_quantiles
from insight.trace import End
from store.quarters import added, extremes
from store.query import Columns, Span, Store, Where

_KEYS = ("node", "kind", "src_ns", "src_workload", "dst_ns", "dst_workload", "service")
_SUMMARY_COLUMNS = (*_KEYS, "time", "context", "count", "retransmitted", "min_ns", "max_ns", "hist")
_SAMPLE_COLUMNS = (*_KEYS, "time", "context", "latency_ns", "quality", "kept_shift", "tail")
_SHARES = (0.5, 0.99)
_ONE_FLUSH_NS = 1_000_000_000
"""Rows of one node that are closer together end the same interval."""


@dataclass(frozen=True, slots=True)
class Series:
    """Hops of one kind between two workloads on one node. Latencies in ns; None without any."""

    node: str
    kind: str
    source: End
    destination: End
    service: str
    count: int
    """Hops in the latencies."""
    retransmitted: int
    """Hops apart from them."""
    without_context: int
    """Of both."""
    p50_ns: float | None
    p99_ns: float | None
    max_ns: int | None
    kept_shift: int = 0
    """Of samples: one in 2^n traces was kept, at least; of summaries 0: they count every hop."""
    tail: int = 0
    """Of samples: how many were kept besides, as the slowest of their series."""
    per_s: float | None = None
    """Hops a second since the node's first row, whose own hops are of before; None: it has no other row."""


@dataclass(frozen=True, slots=True)
class Found:
    """Series, most hops first."""

    series: tuple[Series, ...]
    is_cut: bool = False
    """There were more samples than were asked for: the fastest are missing."""


def stored_series(store: Store, span: Span, where: Where) -> Found:
    """All hops of the span, from summaries: coarse rows, and fine ones at its ends. Raises StoreError.

    Rows say when they were written: at the beginning up to a sixtieth of the span (or 10 s) of earlier hops
    count.
    """
    columns = store.summaries(span, where, columns=_SUMMARY_COLUMNS, points=1)
    if not len(columns["time"]):
        return Found(())
    found = sorted(_from_summaries(columns, span.until_ns), key=_most_hops_first)
    return Found(tuple(found))


def slow_series(store: Store, span: Span, where: Where, min_latency_ns: int, limit: int) -> Found:
    """Samples of at least that latency, the `limit` slowest. Raises StoreError."""
    columns = store.samples(span, where, min_latency_ns, limit, _SAMPLE_COLUMNS)
    rows = len(columns["time"])
    if not rows:
        return Found(())
    found = sorted(_from_samples(columns), key=_most_hops_first)
    return Found(tuple(found), is_cut=rows >= limit)


def _most_hops_first(series: Series) -> tuple[int, str, str, str, str]:
    ends = (series.source.workload, series.destination.workload)
    return (-series.count - series.retransmitted, series.node, series.kind, *ends)


def _from_summaries(columns: Columns, until_ns: int) -> Iterator[Series]:
    keys, groups = _grouped(columns)
    count, again = (added(columns[name], groups, len(keys)).tolist() for name in ("count", "retransmitted"))
    hops = _ints(columns, "count") + _ints(columns, "retransmitted")
    without = added(np.where(columns["context"] == "none", hops, 0), groups, len(keys)).tolist()
    rates = _rates(columns, hops, groups, len(keys), until_ns)
    least, greatest = extremes(columns, groups, len(keys)).values()
    found = group_quantiles(columns["hist"], groups, _SHARES, least, greatest)
    for at, key in enumerate(keys):
        has_any = count[at] > 0
        yield _series(
            key,
            (count[at], again[at], without[at]),
            (found[at, 0], found[at, 1], int(greatest[at])) if has_any else (None, None, None),
            per_s=rates[at],
        )


def _rates(
    columns: Columns, hops: npt.NDArray[np.int64], groups: npt.NDArray[np.intp], count: int, until_ns: int
) -> list[float | None]:
    """Hops a second of each group, by the rows after the first moment at which its node wrote any."""
    times = _ints(columns, "time")
    _, nodes = np.unique(columns["node"].astype(str), return_inverse=True)
    firsts = np.full(nodes.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(firsts, nodes, times)
    is_later = times - firsts[nodes] >= _ONE_FLUSH_NS
    later = np.bincount(groups, np.where(is_later, hops, 0), count)
    seconds = np.zeros(count)
    seconds[groups] = (until_ns - firsts[nodes]) / 1e9
    is_known = np.bincount(nodes, is_later)[nodes] > 0
    known = np.zeros(count, bool)
    known[groups] = is_known
    return [
        float(each) / max(float(took), 1.0) if knows else None
        for each, took, knows in zip(later, seconds, known, strict=True)
    ]


def _from_samples(columns: Columns) -> Iterator[Series]:
    keys, groups = _grouped(columns)
    again = _ints(columns, "quality") & Quality.RETRANSMIT.value != 0
    without = added(columns["context"] == "none", groups, len(keys)).tolist()
    tails = added(columns["tail"], groups, len(keys)).tolist()
    shifts = np.zeros(len(keys), np.int64)
    np.maximum.at(shifts, groups, _ints(columns, "kept_shift"))
    order = np.lexsort((columns["latency_ns"], groups))
    sorted_ns = _ints(columns, "latency_ns")[order]
    is_first_time = ~again[order]
    bounds = np.searchsorted(groups[order], np.arange(len(keys) + 1))
    for at, key in enumerate(keys):
        rows = slice(bounds[at], bounds[at + 1])
        latencies = sorted_ns[rows][is_first_time[rows]]
        retransmitted = bounds[at + 1] - bounds[at] - len(latencies)
        yield _series(
            key,
            (len(latencies), int(retransmitted), without[at]),
            _nearest_ranks(latencies) if len(latencies) else (None, None, None),
            (int(shifts[at]), tails[at]),
        )


def _nearest_ranks(sorted_ns: npt.NDArray[np.int64]) -> tuple[float, float, int]:
    p50, p99 = (float(sorted_ns[-(-len(sorted_ns) * percent // 100) - 1]) for percent in (50, 99))
    return p50, p99, int(sorted_ns[-1])


def _grouped(columns: Columns) -> tuple[list[tuple[str, ...]], npt.NDArray[np.intp]]:
    """The keys that occur, and for each row the number of its key."""
    numbers: dict[tuple[str, ...], int] = {}
    rows = zip(*(columns[name].tolist() for name in _KEYS), strict=True)
    groups = np.array([numbers.setdefault(key, len(numbers)) for key in rows], np.intp)
    return list(numbers), groups


def _ints(columns: Columns, name: str) -> npt.NDArray[np.int64]:
    return columns[name].astype(np.int64)


def _series(
    key: tuple[str, ...],
    counts: tuple[int, int, int],
    latencies: tuple[float | None, float | None, int | None],
    kept: tuple[int, int] = (0, 0),
    per_s: float | None = None,
) -> Series:
    node, kind, src_ns, src_workload, dst_ns, dst_workload, service = key
    source = End(namespace=src_ns, workload=src_workload)
    destination = End(namespace=dst_ns, workload=dst_workload)
    return Series(node, kind, source, destination, service, *counts, *latencies, *kept, per_s)
