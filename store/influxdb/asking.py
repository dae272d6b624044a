# SPDX-License-Identifier: Apache-2.0
"""Rows of one server: what is wanted as statements, their answers as columns (docs/store.md, "Reading")."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from store.combined import NodeSpans, Rows, Wanted
from store.conditions import Condition, only, within
from store.influxdb.blocks import fields_of, rows_of
from store.influxdb.http import Block, Connection, Refused
from store.influxdb.influxql import names, quoted, where
from store.influxdb.lines import tags_of
from store.influxdb.statements import statements
from store.influxdb.target import measurement
from store.query import StoreError
from store.reading import joined_rows
from store.schema import EVENT, HOP_SAMPLE, SCHEMA_VERSION, Table

SCHEMA: Final = "schema"
"""Measurement in the bucket of events: the version of all of it."""
_ALWAYS: Final = {HOP_SAMPLE.name: "latency_ns", EVENT.name: "state"}
"""A field that every row has, else `count`: InfluxDB finds a row only by one that it has."""
_SLACK: Final = 10
"""Intervals that a node may be read in vain to spare a statement."""
_MISSING: Final = "database not found"


class Asking:
    """Asks by `connection`. Raises StoreError, at the first question also of a newer schema."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_checked = False

    def rows(self, wanted: Wanted, *more: str) -> Rows:
        """The wanted rows that also fulfil `more`, conditions in InfluxQL."""
        return joined_rows(wanted, [*self.parts(wanted, *more)])

    def parts(self, wanted: Wanted, *more: str) -> Iterator[Rows]:
        """As `rows`, some thousand at a time."""
        # Tags as columns: GROUP BY of a thousand series takes a server half as long again.
        chosen = [*fields_of(wanted.table, wanted.columns), _ALWAYS.get(wanted.table.name, "count")]
        tags = [tag for tag in tags_of(wanted.table) if tag in wanted.columns]
        selected = names(dict.fromkeys([*chosen, *tags]))
        condition = where(wanted.table, wanted.conditions, *more)
        statement = f"SELECT {selected} FROM {self.source(wanted.table)}{condition}"
        for _, block in self._blocks(wanted.table, [statement]):
            yield rows_of(wanted.table, wanted.columns, block)

    def ask(self, table: Table, *asked: str) -> list[list[Block]]:
        """The blocks of each statement to the bucket of a table."""
        found: list[list[Block]] = [[] for _ in asked]
        for number, block in self._blocks(table, asked):
            found[number].append(block)
        return found

    def source(self, table: Table) -> str:
        """What rows of the table are FROM."""
        return quoted(measurement(self._connection.target, table))

    def _blocks(self, table: Table, asked: Sequence[str]) -> Iterator[tuple[int, Block]]:
        if not self._is_checked:
            require_known_schema(self._connection)
            self._is_checked = True
        try:
            yield from self._connection.blocks(self._connection.target.bucket(table), asked)
        except Refused as error:
            raise advised(error) from None


class NodesAsked:
    """store.combined.NodeRows: a node is known by its name."""

    def __init__(self, asking: Asking, nodes: Sequence[str]) -> None:
        self._asking = asking
        self.nodes = nodes

    def read(self, wanted: Wanted, spans: NodeSpans) -> Iterator[tuple[str, Rows]]:
        """The rows of each node in its spans."""
        columns = [*dict.fromkeys([*wanted.columns, "node", "time"])]
        slack_ns = _SLACK * wanted.table.interval_s * 1_000_000_000
        for asked in statements(spans, slack_ns):
            conditions = [*wanted.conditions, *within(asked.span), *self._of(asked.nodes)]
            rows = self._asking.rows(replace(wanted, columns=columns, conditions=conditions))
            for node, places in asked.meant(rows["node"], rows["time"].astype(np.int64, copy=False)):
                yield node, {name: rows[name][places] for name in wanted.columns}

    def _of(self, nodes: Collection[str]) -> list[Condition]:
        """None where all of them are asked for: the server need not look at each."""
        if len(nodes) == len(self.nodes) > 1:
            return []
        return [tuple(only("node", "=", node)[0] for node in nodes)]


def schema_version(connection: Connection) -> int | None:
    """What `overhop store init` wrote; None: nobody did. Raises StoreError."""
    bucket = connection.target.bucket(EVENT)
    try:
        [found] = connection.influxql(bucket, [f'SELECT last("version") FROM {quoted(SCHEMA)}'])
    except Refused as error:
        raise advised(error) from None
    return int(found[0].values[0][1]) if found else None


def require_known_schema(connection: Connection) -> None:
    """Raises StoreError if a newer overhop made it."""
    version = schema_version(connection)
    if version is not None and version > SCHEMA_VERSION:
        raise StoreError(
            f"store {connection.target}: it has schema {version}, this overhop knows up to {SCHEMA_VERSION}: "
            "use the overhop that made it, or another prefix"
        )


def advised(error: Refused) -> StoreError:
    """InfluxDB 1 says in words what InfluxDB 2 says by status 404."""
    return StoreError(f"{error}: run overhop store init") if _MISSING in error.said else error
