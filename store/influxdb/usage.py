# SPDX-License-Identifier: Apache-2.0
"""How much is in each bucket, and what more nodes would add (`overhop store usage`, docs/sizing.md)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from store.errors import StoreError
from store.influxdb.admin import buckets
from store.influxdb.http import Connection
from store.influxdb.influxql import quoted
from store.influxdb.target import Flavour, measurement
from store.schema import EVENT, HOP_SAMPLE, Table

_DAY_S: Final = 86_400
_DISK: Final = re.compile(r'^storage_shard_disk_size\{bucket="(\w+)".*\} (\S+)$', re.MULTILINE)
_COUNTED: Final = {HOP_SAMPLE.name: "latency_ns", EVENT.name: "state"}
"""A field of every row; of summaries `count`."""


@dataclass(frozen=True, slots=True)
class BucketUsage:
    """One bucket. Rows of the last hour and day; `size_bytes`: None: the server does not say (yet)."""

    table: str
    bucket: str
    series: int | None
    """None: nobody counts them (embedded store)."""
    nodes: int
    rows_hour: int
    rows_day: int
    size_bytes: int | None
    rows: int
    """All that are there."""

    @property
    def bytes_per_row(self) -> float | None:
        """On disk, as far as it was compressed."""
        return self.size_bytes / self.rows if self.size_bytes and self.rows else None


@dataclass(frozen=True, slots=True)
class Projection:
    """What a bucket holds when its retention is full, at the rate of the last hour."""

    rows_per_day: float
    rows: float
    size_bytes: float | None
    per_node_rows_per_day: float
    """What one more node like these adds."""
    per_node_bytes: float | None
    per_node_series: float | None


def usage(connection: Connection) -> list[BucketUsage]:
    """Of each bucket. Raises StoreError."""
    if connection.target.flavour is Flavour.VICTORIAMETRICS:
        raise StoreError(f"store {connection.target}: it is written only: ask its own page, /vmui")
    sizes = _sizes(connection)
    return [_usage(connection, table, sizes) for table in connection.target.tables]


def projection(used: BucketUsage, retention_s: int) -> Projection:
    """From what is there."""
    per_day = used.rows_hour * 24.0
    rows = per_day * retention_s / _DAY_S
    each = used.bytes_per_row
    nodes = max(used.nodes, 1)
    size = None if each is None else rows * each
    return Projection(
        rows_per_day=per_day,
        rows=rows,
        size_bytes=size,
        per_node_rows_per_day=per_day / nodes,
        per_node_bytes=None if size is None else size / nodes,
        per_node_series=None if used.series is None else used.series / nodes,
    )


def _usage(connection: Connection, table: Table, sizes: Mapping[str, int]) -> BucketUsage:
    bucket, source = connection.target.bucket(table), quoted(measurement(connection.target, table))
    field = quoted(_COUNTED.get(table.name, "count"))
    counts = [f"SELECT count({field}) FROM {source}{when}" for when in _WHENS]
    series, nodes, hour, day, everything = connection.influxql(
        bucket,
        ["SHOW SERIES EXACT CARDINALITY", f'SHOW TAG VALUES FROM {source} WITH KEY = "node"', *counts],
    )
    total = sum(
        row[0]
        for block in series
        if block.name == measurement(connection.target, table)
        for row in block.values
    )
    present = sum(len(block.values) for block in nodes)
    rows = [sum(row[1] for block in blocks for row in block.values) for blocks in (hour, day, everything)]
    return BucketUsage(
        table.name, bucket, total, present, rows[0], rows[1], sizes.get(bucket) or None, rows[2]
    )


_WHENS: Final = (" WHERE time > now() - 1h", " WHERE time > now() - 1d", "")


def _sizes(connection: Connection) -> dict[str, int]:
    """Bytes on disk by bucket, as far as the server tells."""
    found: dict[str, int] = {}
    if connection.target.flavour is Flavour.INFLUXDB1:
        [shards] = connection.influxql("", ["SHOW STATS FOR 'shard'"])
        for block in shards:
            at = list(block.columns).index("diskBytes")
            name = block.tags["database"]
            found[name] = found.get(name, 0) + sum(int(row[at]) for row in block.values)
        return found
    answer = connection.request("GET", "/metrics")
    if answer.status != HTTPStatus.OK:
        return found
    names = {bucket.id: bucket.name for bucket in buckets(connection)}
    for identifier, size in _DISK.findall(answer.data.decode(errors="replace")):
        if identifier in names:
            found[names[identifier]] = found.get(names[identifier], 0) + int(float(size))
    return found
