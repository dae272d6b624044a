# SPDX-License-Identifier: Apache-2.0
"""How many series, rows and bytes a cluster makes, and what more of it would add (docs/sizing.md). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from store.influxdb.lines import PART_BITS
from store.schema import EVENT, HOP_SAMPLE, Table

DAY_S: Final = 86_400
MAX_SERIES: Final = 500
"""Of one node and interval; what is beyond goes into at most OTHERS series (agent.hops.aggregate)."""
OTHERS: Final = 8
KEPT_PER_S: Final = 1_000
"""Hops that one node keeps in full (agent.hops.sampling), and TAILS of each series and 10 s besides."""
TAILS: Final = 3
TAILS_S: Final = 10
STATES: Final = 11
"""What an agent with a server says of itself every REPEAT_S (docs/events.md), one series each."""
HAPPENINGS: Final = 4
"""Series of what happens and is over."""
REPEAT_S: Final = 600
SERIES_BYTES: Final = 7_000
"""What a series of summaries takes in each shard in which it has rows: index entries of its fields."""
SAMPLE_BYTES: Final = 140
EVENT_BYTES: Final = 2
"""Of a row, once it is compacted; states that repeat take next to nothing."""
_SHARDS_S: Final = ((2 * DAY_S, 3_600), (180 * DAY_S, DAY_S))
"""How long a shard is of a retention below that; else a week (InfluxDB 1 and 2)."""


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
    """Of one node, spread over its series."""


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


def estimate(table: Table, cluster: Cluster) -> Estimate:
    """Of one table when its retention is full."""
    series = series_of(table, cluster)
    per_s = cluster.nodes * _rows_per_s(table, cluster)
    rows = per_s * table.retention_s
    hops = cluster.nodes * cluster.hops_per_s / per_s if per_s and table.interval_s else 0.0
    size = size_bytes(table, table.retention_s, series, rows, hops)
    return Estimate(series, per_s, rows, size)


def size_bytes(table: Table, kept_s: int, series: int, rows: float, hops: float) -> float:
    """Of so many rows in full shards; `hops`: of one row of summaries."""
    if table is HOP_SAMPLE:
        return rows * SAMPLE_BYTES
    if table is EVENT:
        return rows * EVENT_BYTES
    return series * SERIES_BYTES * kept_s / shard_s(kept_s) + rows * summary_bytes(hops)


def summary_bytes(hops: float) -> float:
    """Of a row of summaries: its histogram grows with the hops that it sums up (docs/sizing.md)."""
    return float(26 * max(hops, 1.0) ** 0.31)


def shard_s(kept_s: int) -> int:
    """How long a shard is."""
    return next((length_s for below_s, length_s in _SHARDS_S if kept_s < below_s), 7 * DAY_S)


def rows_per_interval(series: float) -> float:
    """Rows that one node writes in an interval in which so many series had hops."""
    return series if series <= MAX_SERIES else MAX_SERIES + OTHERS


def project(table: Table, used: Used, kept_s: int) -> Projection:
    """From what is there: the last day, or 24 times the last hour if that is more."""
    per_day = max(float(used.rows_day), used.rows_hour * 24.0)
    days, nodes = kept_s / DAY_S, max(used.nodes, 1)
    size = _full_bytes(table, used, per_day, kept_s)
    each = None if size is None or not per_day else size / (per_day * days)
    more_per_day = _of_more_pairs(table, per_day / nodes) * nodes
    series = None if used.series is None else round(used.series / nodes)
    return Projection(
        rows_per_day=per_day,
        rows=per_day * days,
        size_bytes=size,
        node=Growth(series, per_day / nodes, None if size is None else size / nodes),
        pairs=Growth(
            used.series if table.interval_s or used.series is None else 0,
            more_per_day,
            more_per_day * days * each if each is not None else None,
        ),
    )


def _full_bytes(table: Table, used: Used, per_day: float, kept_s: int) -> float | None:
    """At what a row takes now; until the first shard is full, its series' share is taken apart."""
    each = used.bytes_per_row
    if each is None or used.rows is None or used.size_bytes is None:
        return None
    rows, shards = per_day * kept_s / DAY_S, kept_s / shard_s(kept_s)
    if used.series is None or not table.interval_s or used.rows >= rows / shards:
        return rows * each
    of_series = used.series * SERIES_BYTES
    of_row = max((used.size_bytes - of_series) / used.rows, summary_bytes(1.0))
    return of_series * shards + rows * of_row


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
