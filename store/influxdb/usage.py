# SPDX-License-Identifier: Apache-2.0
"""How much is in each bucket, and what more nodes would add (`overhop store usage`, docs/sizing.md)."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from store.errors import StoreError
from store.influxdb.admin import Bucket, buckets
from store.influxdb.asking import advised
from store.influxdb.http import Block, Connection, Refused, Unreachable
from store.influxdb.influxql import quoted
from store.influxdb.sizing import Projection, Used, project
from store.influxdb.target import Flavour, measurement
from store.schema import EVENT, HOP_SAMPLE, Table

_DISK: Final = re.compile(r'^storage_shard_disk_size\{bucket="(\w+)".*\} (\S+)$', re.MULTILINE)
_COUNTED: Final = {HOP_SAMPLE.name: "latency_ns", EVENT.name: "state"}
"""A field of every row; of summaries `count`."""


@dataclass(frozen=True, slots=True)
class BucketUsage:
    """One bucket; embedded: one table."""

    table: Table
    bucket: str
    used: Used
    kept_s: int
    """How long rows are kept; where that is for ever, as long as the table says."""

    @property
    def projection(self) -> Projection:
        """What there will be."""
        return project(self.table, self.used, self.kept_s)


def usage(connection: Connection) -> list[BucketUsage]:
    """Of each bucket. Raises StoreError."""
    if connection.target.flavour is Flavour.VICTORIAMETRICS:
        raise StoreError(f"store {connection.target}: it is written only: ask its own page, /vmui")
    known = {bucket.name: bucket for bucket in buckets(connection)}
    sizes = _sizes(connection, known.values())
    found = []
    for table in connection.target.tables:
        name = connection.target.bucket(table)
        kept_s = known[name].retention_s if name in known else 0
        try:
            used = _used(connection, table, sizes.get(name) or None)
        except Refused as error:
            raise advised(error) from None
        found.append(BucketUsage(table, name, used, kept_s or table.retention_s))
    return found


def _used(connection: Connection, table: Table, size_bytes: int | None) -> Used:
    bucket = connection.target.bucket(table)
    source = quoted(measurement(connection.target, table))
    count = f"SELECT count({quoted(_COUNTED.get(table.name, 'count'))}) FROM {source}"
    series, nodes, hour, day = connection.influxql(
        bucket,
        [
            # SHOW SERIES EXACT CARDINALITY of InfluxDB 1.6 counts a series once in each shard.
            f'SELECT count(distinct("_seriesKey")) FROM {source}',
            f'SHOW TAG VALUES FROM {source} WITH KEY = "node"',
            f"{count} WHERE time > now() - 1h",
            f"{count} WHERE time > now() - 1d",
        ],
    )
    return Used(
        series=_sum(series, 1),
        nodes=sum(len(block.values) for block in nodes),
        rows_hour=_sum(hour, 1),
        rows_day=_sum(day, 1),
        rows=_all_rows(connection, bucket, count),
        size_bytes=size_bytes,
    )


def _all_rows(connection: Connection, bucket: str, count: str) -> int | None:
    """None: the server took too long, or refuses so large a question."""
    try:
        return _sum(connection.influxql(bucket, [count])[0], 1)
    except (Refused, Unreachable):
        return None


def _sum(blocks: Sequence[Block], column: int) -> int:
    return sum(int(row[column]) for block in blocks for row in block.values)


def _sizes(connection: Connection, known: Collection[Bucket]) -> dict[str, int]:
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
    names = {bucket.id: bucket.name for bucket in known}
    for identifier, size in _DISK.findall(answer.data.decode(errors="replace")):
        if identifier in names:
            found[names[identifier]] = found.get(names[identifier], 0) + int(float(size))
    return found
