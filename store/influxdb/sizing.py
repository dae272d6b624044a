# SPDX-License-Identifier: Apache-2.0
"""How many series, rows and bytes a cluster makes, and what more of it would add (docs/sizing.md). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from store.influxdb.lines import PART_BITS
from store.schema import EVENT, HOP_SAMPLE, SUMMARIES, Table

DAY_S: Final = 86_400
MAX_SERIES: Final = 500
"""Of one node and interval; what is beyond goes into at most OTHERS series (agent.hops.aggregate)."""
OTHERS: Final = 8
KEPT_PER_S: Final = 1_000
"""Hops that one node keeps in full (agent.hops.sampling), and TAILS of each series and 10 s besides."""
TAILS: Final = 3
TAILS_S: Final = 10
STATES: Final = 10
"""What an agent says of itself every REPEAT_S (docs/events.md), one series each."""
HAPPENINGS: Final = 4
"""Series of what happens and is over."""
REPEAT_S: Final = 600
BYTES_PER_ROW: Final[Mapping[str, float]] = {
    "hop_10s": 100.0,
    "hop_1m": 100.0,
    "hop_10m": 100.0,
    "hop_sample": 100.0,
    "event": 20.0,
}
"""In InfluxDB 2.7 once it is compacted, as measured in docs/sizing.md."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Who calls whom, and where they run; averages. Hosts and what is outside count as workloads."""

    nodes: int
    workloads: int
    calls: float
    """Other workloads that one calls."""
    spread: float
    """Nodes on which a workload has pods."""
    variants: float = 1.0
    """Series of one pair, kind and node: contexts (hops with and without one), services."""
    hops_per_s: float = 1_000.0
    """Of one node."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one bucket when its retention is full."""

    series: int
    rows_per_s: float
    rows: float
    size_bytes: float


@dataclass(frozen=True, slots=True)
class Used:
    """What is in one bucket now."""

    series: int | None
    """None: nobody counts them (embedded store)."""
    nodes: int
    rows_hour: int
    rows_day: int
    rows: int | None
    """All that are there; None: to count them takes the server too long."""
    size_bytes: int | None
    """None: the server does not say (yet)."""

    @property
    def bytes_per_row(self) -> float | None:
        """On disk, as far as it was compressed."""
        return self.size_bytes / self.rows if self.size_bytes and self.rows else None


@dataclass(frozen=True, slots=True)
class Growth:
    """What comes on top; None: not known."""

    series: int | None
    rows_per_day: float
    size_bytes: float | None


@dataclass(frozen=True, slots=True)
class Projection:
    """What a bucket holds when its retention is full, and what would be added to that."""

    rows_per_day: float
    rows: float
    size_bytes: float | None
    node: Growth
    """By one more node like these."""
    pairs: Growth
    """By twice as many pairs of workloads at the same traffic."""


def series_of(table: Table, cluster: Cluster) -> int:
    """Series of a table in a cluster, while nodes and workloads keep their names."""
    if table is HOP_SAMPLE:
        return cluster.nodes << PART_BITS
    if table is EVENT:
        return cluster.nodes * (STATES + HAPPENINGS)
    return round(cluster.nodes * _series_of_node(cluster))


def estimate(table: Table, cluster: Cluster, kept_s: int | None = None) -> Estimate:
    """Of one table; `kept_s`: if it is not as long as the table says."""
    per_s = cluster.nodes * _rows_per_s(table, cluster)
    rows = per_s * (table.retention_s if kept_s is None else kept_s)
    return Estimate(series_of(table, cluster), per_s, rows, rows * BYTES_PER_ROW[table.name])


def rows_per_interval(series: float) -> float:
    """Rows that one node writes in an interval in which so many series had hops."""
    return series if series <= MAX_SERIES else MAX_SERIES + OTHERS


def project(table: Table, used: Used, kept_s: int) -> Projection:
    """From what is there: the last day, or 24 times the last hour if that is more."""
    per_day = max(float(used.rows_day), used.rows_hour * 24.0)
    each = used.bytes_per_row
    days = kept_s / DAY_S
    size = None if each is None else per_day * days * each
    nodes = max(used.nodes, 1)
    more_pairs_per_day = _of_more_pairs(table, per_day / nodes) * nodes
    return Projection(
        rows_per_day=per_day,
        rows=per_day * days,
        size_bytes=size,
        node=Growth(
            None if used.series is None else round(used.series / nodes),
            per_day / nodes,
            None if size is None else size / nodes,
        ),
        pairs=Growth(
            used.series if table in SUMMARIES or used.series is None else 0,
            more_pairs_per_day,
            None if each is None else more_pairs_per_day * days * each,
        ),
    )


def together(growths: Sequence[Growth]) -> Growth:
    """Of all buckets; not known if it is not known of one."""
    series = [each.series for each in growths if each.series is not None]
    sizes = [each.size_bytes for each in growths if each.size_bytes is not None]
    return Growth(
        sum(series) if len(series) == len(growths) else None,
        sum(each.rows_per_day for each in growths),
        sum(sizes) if len(sizes) == len(growths) else None,
    )


def _of_more_pairs(table: Table, per_day: float) -> float:
    """Rows a day that one node adds for twice the pairs: bounded, and of summaries only."""
    if not table.interval_s:
        return 0.0
    intervals = DAY_S / table.interval_s
    return max(0.0, rows_per_interval(2 * per_day / intervals) - per_day / intervals) * intervals


def _series_of_node(cluster: Cluster) -> float:
    """Summaries: tx where the caller is, rx where the callee is, local where both are."""
    pairs = cluster.workloads * cluster.calls
    remote = 2 * cluster.spread if cluster.nodes > 1 else 0.0
    local = cluster.spread**2 / cluster.nodes
    return pairs * cluster.variants * (remote + local) / cluster.nodes


def _rows_per_s(table: Table, cluster: Cluster) -> float:
    """Of one node."""
    summarized = rows_per_interval(_series_of_node(cluster))
    if table is HOP_SAMPLE:
        if cluster.hops_per_s <= KEPT_PER_S:
            return cluster.hops_per_s
        return min(cluster.hops_per_s, KEPT_PER_S + summarized * TAILS / TAILS_S)
    if table is EVENT:
        return STATES / REPEAT_S
    return summarized / table.interval_s
