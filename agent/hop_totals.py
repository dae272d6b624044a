# SPDX-License-Identifier: Apache-2.0
"""Totals of hops since the agent's start, for Prometheus (docs/metrics.md).

Counts of their own, not those of the store's histograms: a bucket of Prometheus includes its upper border,
one of store/histogram.py does not, and few borders are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.names import COLUMNS, Codes, Names, Row
from agent.records import Records
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

_BORDERS = np.array(BORDERS_NS, np.uint32)
_KIND, _ENCAP, _CONTEXT = (COLUMNS.index(name) for name in ("kind", "encap", "context"))
_SOURCE = COLUMNS.index("src_ns"), COLUMNS.index("src_workload")
_DESTINATION = COLUMNS.index("dst_ns"), COLUMNS.index("dst_workload")

Counts = npt.NDArray[np.int64]


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
        self._pairs: set[tuple[str, str]] = set()
        self._places: dict[tuple[str, str, str], int] = {}
        self._groups: dict[tuple[str, str, str], int] = {}
        self._counts = np.zeros((0, BUCKETS), np.int64)
        self._sum_ns = np.zeros(0, np.int64)
        self._hops = np.zeros(0, np.int64)
        self._again = np.zeros(0, np.int64)
        self._names: Names | None = None
        self._place_of = np.zeros(0, np.intp)
        self._group_of = np.zeros(0, np.intp)

    def add(self, records: Records, codes: Codes, names: Names) -> None:
        """Count records that `names` calls by `codes`."""
        self._learn(names)
        groups = self._group_of[codes]
        self._hops += np.bincount(groups, minlength=len(self._hops))
        latencies = np.ascontiguousarray(records["latency_ns"])
        again = (records["quality"] & Quality.RETRANSMIT) != 0
        if again.any():
            self._again += np.bincount(groups[again], minlength=len(self._again))
            codes, latencies = codes[~again], latencies[~again]
        places = self._place_of[codes]
        at = places * BUCKETS
        at += np.searchsorted(_BORDERS, latencies, side="left")
        # A count of the array's own type: with any other one ufunc.at is 30 times slower.
        np.add.at(self._counts.reshape(-1), at, np.int64(1))
        np.add.at(self._sum_ns, places, latencies.astype(np.int64))

    def facts(self) -> HopFacts:
        """Totals of this moment, nobody else's to change."""
        by_group = list(self._groups.items())
        return HopFacts(
            tuple(self._places),
            self._counts.copy(),
            self._sum_ns.copy(),
            {labels: int(self._hops[group]) for labels, group in by_group},
            {labels: int(self._again[group]) for labels, group in by_group},
        )

    def _learn(self, names: Names) -> None:
        """Places for names that came since the last time."""
        if names is not self._names:
            self._names = names
            self._place_of = self._group_of = np.zeros(0, np.intp)
        new = names.rows[len(self._place_of) :]
        if not new:
            return
        self._place_of = np.append(self._place_of, [self._place(row) for row in new])
        groups = [self._group_number(row) for row in new]
        self._group_of = np.append(self._group_of, groups)
        self._counts = _grown(self._counts, len(self._places))
        self._sum_ns = _grown(self._sum_ns, len(self._places))
        self._hops = _grown(self._hops, len(self._groups))
        self._again = _grown(self._again, len(self._groups))

    def _place(self, row: Row) -> int:
        pair = _workload(row, _SOURCE), _workload(row, _DESTINATION)
        if pair not in self._pairs:
            if len(self._pairs) < MAX_PAIRS:
                self._pairs.add(pair)
            else:
                pair = OTHER, OTHER
        return self._places.setdefault((row[_KIND], *pair), len(self._places))

    def _group_number(self, row: Row) -> int:
        labels = row[_KIND], row[_ENCAP], row[_CONTEXT]
        return self._groups.setdefault(labels, len(self._groups))


def _workload(row: Row, end: tuple[int, int]) -> str:
    namespace, workload = (row[at] for at in end)
    return f"{namespace}/{workload}" if namespace else workload


def _grown(counts: Counts, length: int) -> Counts:
    missing = np.zeros((length - len(counts), *counts.shape[1:]), np.int64)
    return np.concatenate([counts, missing]) if len(missing) else counts
