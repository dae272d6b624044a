# SPDX-License-Identifier: Apache-2.0
"""Totals of hops since the agent's start, for Prometheus (docs/metrics.md).

Counts of their own, not those of the store's histograms: a bucket of Prometheus includes its upper border,
one of store/histogram.py does not, and few borders are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.hops.records import Records
from agent.naming.marks import REMOTE, is_mark
from agent.naming.names import COLUMNS, Codes, Names, Row
from bpf.record import Quality

BORDERS_NS = (
    *(1_000, 2_000, 5_000),
    *(10_000, 15_000, 20_000, 30_000, 50_000, 75_000),
    *(100_000, 150_000, 200_000, 500_000),
    *(1_000_000, 2_000_000, 5_000_000),
    *(10_000_000, 20_000_000, 50_000_000, 100_000_000),
)
"""A latency equal to a border is in the bucket below it; one more bucket has what is above the last."""
BUCKETS = len(BORDERS_NS) + 1
MAX_PAIRS = 200
OTHER = "other"

_KIND, _ENCAP, _CONTEXT = (COLUMNS.index(name) for name in ("kind", "encap", "context"))
_SOURCE = COLUMNS.index("src_ns"), COLUMNS.index("src_workload")
_DESTINATION = COLUMNS.index("dst_ns"), COLUMNS.index("dst_workload")

_RETRANSMIT = np.uint8(Quality.RETRANSMIT)
_ONE = np.int64(1)
"""Of the array's own type: with any other one ufunc.at is 30 times slower."""

Counts = npt.NDArray[np.int64]


def _bucket_of_us() -> npt.NDArray[np.uint8]:
    """The bucket of a latency in microseconds, rounded up: exact, because every border is a whole number."""
    borders_us = np.array(BORDERS_NS) // 1000
    return np.searchsorted(borders_us, np.arange(borders_us[-1] + 2), side="left").astype(np.uint8)


@dataclass(frozen=True, slots=True)
class HopFacts:
    """All hops since the start. Sum of `hops` = sum of `buckets` + sum of `retransmitted`."""

    series: tuple[tuple[str, str, str], ...] = ()
    """Kind, source, destination: workloads as `namespace/name`, buckets of docs/store.md, or `other`."""
    buckets: Counts = field(default_factory=lambda: np.zeros((0, BUCKETS), np.int64))
    """Hops that were not retransmitted: a row per series, BUCKETS of them in it, not cumulative."""
    sum_ns: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    """Sum of the latencies of each series."""
    hops: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """By kind, encapsulation and context."""
    retransmitted: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """How many of `hops` were."""


class HopTotals:
    """Adds up named records. One thread. Nothing is forgotten: totals only rise."""

    def __init__(self) -> None:
        self._bucket_of_us = _bucket_of_us()
        self._pairs: set[tuple[str, str]] = set()
        self._places: dict[tuple[str, str, str, str, str], int] = {}
        """By kind, source, destination, encapsulation, context."""
        self._counts = np.zeros((0, BUCKETS), np.int64)
        self._sum_ns = np.zeros(0, np.int64)
        self._again = np.zeros(0, np.int64)
        self._names: Names | None = None
        self._place_of = np.zeros(0, np.int64)
        """Of each code."""

    def add(self, records: Records, codes: Codes, names: Names) -> None:
        """Count records that `names` calls by `codes`."""
        if names is not self._names:
            self._names, self._place_of = names, self._place_of[:0]
        self._learn(names)
        places = self._place_of.take(codes)
        latencies_ns = np.ascontiguousarray(records["latency_ns"])
        again = (records["quality"] & _RETRANSMIT) != 0
        if again.any():
            self._again += np.bincount(places[again], minlength=len(self._again))
            places, latencies_ns = places[~again], latencies_ns[~again]
        at = places * BUCKETS
        at += self._bucket_of_us.take((latencies_ns + np.uint32(999)) // np.uint32(1000), mode="clip")
        np.add.at(self._counts.reshape(-1), at, _ONE)
        np.add.at(self._sum_ns, places, latencies_ns.astype(np.int64))

    def facts(self) -> HopFacts:
        """Totals of this moment, nobody else's to change."""
        series: dict[tuple[str, str, str], int] = {}
        hops: dict[tuple[str, str, str], int] = {}
        retransmitted: dict[tuple[str, str, str], int] = {}
        first = self._counts.sum(axis=1)
        for (kind, source, destination, encap, context), place in self._places.items():
            series.setdefault((kind, source, destination), len(series))
            group, again = (kind, encap, context), int(self._again[place])
            hops[group] = hops.get(group, 0) + int(first[place]) + again
            retransmitted[group] = retransmitted.get(group, 0) + again
        buckets, sum_ns = np.zeros((len(series), BUCKETS), np.int64), np.zeros(len(series), np.int64)
        at = [series[labels[:3]] for labels in self._places]
        if at:
            np.add.at(buckets, at, self._counts)
            np.add.at(sum_ns, at, self._sum_ns)
        return HopFacts(tuple(series), buckets, sum_ns, hops, retransmitted)

    def _learn(self, names: Names) -> None:
        """Places for names that came since the last time."""
        new = names.rows[len(self._place_of) :]
        if not new:
            return
        self._place_of = np.append(self._place_of, [self._place(row) for row in new])
        self._counts = _grown(self._counts, len(self._places))
        self._sum_ns = _grown(self._sum_ns, len(self._places))
        self._again = _grown(self._again, len(self._places))

    def _place(self, row: Row) -> int:
        pair = _workload(row, _SOURCE), _workload(row, _DESTINATION)
        if pair not in self._pairs:
            if len(self._pairs) < MAX_PAIRS:
                self._pairs.add(pair)
            else:
                pair = OTHER, OTHER
        labels = (row[_KIND], *pair, row[_ENCAP], row[_CONTEXT])
        return self._places.setdefault(labels, len(self._places))


def _workload(row: Row, end: tuple[int, int]) -> str:
    namespace, workload = (row[at] for at in end)
    if is_mark(workload):
        workload = REMOTE
    return f"{namespace}/{workload}" if namespace else workload


def _grown(counts: Counts, length: int) -> Counts:
    missing = np.zeros((length - len(counts), *counts.shape[1:]), np.int64)
    return np.concatenate([counts, missing]) if len(missing) else counts
