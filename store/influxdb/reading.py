# SPDX-License-Identifier: Apache-2.0
"""A store in InfluxDB 1 or 2 as it is read: store.query.Store by InfluxQL (docs/store.md, "Servers")."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from store.combined import Rows, Wanted, combined
from store.conditions import Condition, of_hops, only, within
from store.influxdb.blocks import fields_of, rows_of
from store.influxdb.http import Block, Connection, Refused
from store.influxdb.influxql import equals, names, quoted
from store.influxdb.influxql import where as condition_of
from store.influxdb.lines import part_of, tags_of
from store.influxdb.tags import tag_text
from store.influxdb.target import Flavour, measurement
from store.intervals import tables_for
from store.quarters import SUMMED, Group, summed_columns
from store.query import Columns, Span, StoreError, TraceId, Where
from store.reading import in_order, joined_rows
from store.schema import EVENT, HOP_SAMPLE, SCHEMA_VERSION, SUMMARIES, Table
from store.schema import table as table_of

_ALWAYS: Final = {HOP_SAMPLE.name: "latency_ns", EVENT.name: "state"} | dict.fromkeys(
    (each.name for each in SUMMARIES), "count"
)
"""A field that every row has: InfluxDB finds a row only by one that it has."""
_NODES_AT_ONCE: Final = 50
"""More are not named: then all are asked for, and some are left out here."""
_MISSING: Final = "database not found"
SCHEMA: Final = "schema"
"""Measurement in the bucket of events: the version of all of it."""


class InfluxStore:
    """Reads by `connection`, which is the store's from now on; for one thread.

    Raises StoreError, when it is first asked: the server is not there, or holds a newer schema.
    """

    def __init__(self, connection: Connection) -> None:
        if connection.target.flavour is Flavour.VICTORIAMETRICS:
            raise StoreError(
                f"store {connection.target}: it is only written: read it in Grafana or by MetricsQL"
            )
        self.problems: Sequence[str] = ()
        """What could not be read: a server answers whole or not at all."""
        self._connection = connection
        self._is_checked = False

    def summaries(
        self,
        span: Span,
        where: Where,
        table: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> Columns:
        """Summary rows in order of time; `columns`: only these. Without `table` as store.query.Store says."""
        which = _named(table) if table else tables_for(span)[0]
        chosen = _names(columns, which)
        wanted = Wanted(which, [*dict.fromkeys([*chosen, "time"])], of_hops(where))
        if table:
            rows = self._rows(replace(wanted, conditions=[*wanted.conditions, *within(span)]))
        else:
            source = _ByNode(self, [where.node] if where.node is not None else self._nodes(tables_for(span)))
            parts = [*combined(source, wanted, span)]
            rows = joined_rows(wanted, parts)
        rows = in_order(rows)
        return {name: rows[name] for name in chosen}

    def samples(
        self,
        span: Span,
        where: Where,
        min_latency_ns: int = 0,
        limit: int = 10_000,
        columns: Sequence[str] | None = None,
    ) -> Columns:
        """Samples, the slowest first; `columns`: only these."""
        conditions = [*within(span), *of_hops(where), only("latency_ns", ">=", min_latency_ns)]
        chosen = _names(columns, HOP_SAMPLE)
        read = [*dict.fromkeys([*chosen, "latency_ns", "time"])]
        wanted = Wanted(HOP_SAMPLE, read, conditions, slowest=limit)
        least_ns = self._limit_of_slowest(wanted, limit)
        rows = self._rows(replace(wanted, conditions=[*conditions, only("latency_ns", ">=", least_ns)]))
        order = np.lexsort((rows["time"], -rows["latency_ns"].astype(np.int64)))[:limit]
        return {name: rows[name][order] for name in chosen}

    def trace(self, trace: TraceId) -> Columns:
        """All samples of one trace, in order of time."""
        [part] = part_of(np.array([trace.hi], np.uint64), np.array([trace.lo], np.uint64)).tolist()
        digits = f"{trace.hi:016x}{trace.lo:016x}"
        condition = f" WHERE {equals('part', f'{part:02x}')} AND {equals('trace_id', digits)}"
        columns = _names(None, HOP_SAMPLE)
        return in_order(rows_of(HOP_SAMPLE, columns, self._select(HOP_SAMPLE, columns, condition)))

    def events(self, span: Span) -> Columns:
        """Events in order of time."""
        return in_order(self._rows(Wanted(EVENT, _names(None, EVENT), within(span))))

    def nodes(self) -> Mapping[str, Mapping[str, int]]:
        """For each node that wrote samples: `first_ns`, `last_ns` (their times), the last `kept_shift`."""
        start = f"FROM {quoted(measurement(self._connection.target, HOP_SAMPLE))} GROUP BY {quoted('node')}"
        asked = [f"SELECT {selector}({quoted('kept_shift')}) {start}" for selector in ("first", "last")]
        first, last = self._ask(HOP_SAMPLE, asked)
        known: dict[str, dict[str, int]] = {}
        for block in first:
            known[tag_text(block.tags["node"])] = {"first_ns": block.values[0][0]}
        for block in last:
            [[last_ns, shift]] = block.values
            known.setdefault(tag_text(block.tags["node"]), {"first_ns": last_ns})
            known[tag_text(block.tags["node"])] |= {"last_ns": last_ns, "kept_shift": shift}
        return {node: about for node, about in sorted(known.items()) if "last_ns" in about}

    def quarters(
        self,
        span: Span,
        where: Where,
        by: Sequence[str] = (),
        step_s: int | None = None,
        table: str | None = None,
    ) -> Columns:
        """Sums over the rows of one table, as store.query.Store says; the server adds."""
        which = _named(table) if table else tables_for(span)[0]
        return self._sums(which, [*within(span), *of_hops(where)], by, step_s, span)

    def series_count(self, span: Span, where: Where) -> int:
        """How many series there are in the coarsest table that gives 60 points, by its index."""
        table = tables_for(span)[0]
        source = quoted(measurement(self._connection.target, table))
        condition = condition_of(table, of_hops(where))
        [found] = self._ask(table, [f"SHOW SERIES EXACT CARDINALITY FROM {source}{condition}"])
        return sum(row[0] for block in found for row in block.values)

    def close(self) -> None:
        """Let go of the sockets."""
        self._connection.close()

    def rows_of_nodes(self, wanted: Wanted, nodes: Sequence[str]) -> Rows:
        """The wanted rows, of these nodes; maybe of others too, if they are many."""
        conditions: list[Condition] = [*wanted.conditions]
        if len(nodes) <= _NODES_AT_ONCE:
            conditions.append(tuple(only("node", "=", node)[0] for node in nodes))
        return self._rows(replace(wanted, conditions=conditions))

    def _rows(self, wanted: Wanted) -> Rows:
        condition = condition_of(wanted.table, wanted.conditions)
        return rows_of(wanted.table, wanted.columns, self._select(wanted.table, wanted.columns, condition))

    def _select(self, table: Table, columns: Sequence[str], condition: str) -> list[Block]:
        fields = [*dict.fromkeys([_ALWAYS[table.name], *fields_of(table, columns)])]
        tags = [tag for tag in tags_of(table) if tag in columns]
        source = quoted(measurement(self._connection.target, table))
        group = f" GROUP BY {names(tags)}" if tags else ""
        [found] = self._ask(table, [f"SELECT {names(fields)} FROM {source}{condition}{group}"])
        return found

    def _limit_of_slowest(self, wanted: Wanted, limit: int) -> int:
        """The latency that the slowest `limit` samples have at least."""
        source = quoted(measurement(self._connection.target, wanted.table))
        condition = condition_of(wanted.table, wanted.conditions)
        [found] = self._ask(wanted.table, [f'SELECT top("latency_ns", {limit}) FROM {source}{condition}'])
        latencies = [row[1] for block in found for row in block.values]
        return min(latencies) if len(latencies) >= limit else 0

    def _nodes(self, tables: Sequence[Table]) -> list[str]:
        """Nodes that have rows in any of the tables."""
        found: set[str] = set()
        for table in tables:
            source = quoted(measurement(self._connection.target, table))
            [blocks] = self._ask(table, [f'SHOW TAG VALUES FROM {source} WITH KEY = "node"'])
            found |= {tag_text(value) for block in blocks for _, value in block.values}
        return sorted(found)

    def _sums(
        self, table: Table, conditions: Sequence[Condition], by: Sequence[str], step_s: int | None, span: Span
    ) -> Columns:
        source = quoted(measurement(self._connection.target, table))
        [keys] = self._ask(table, [f"SHOW FIELD KEYS FROM {source}"])
        known = {name for block in keys for name, *_ in block.values}
        summed = [name for name in SUMMED if name in known]
        sums = ", ".join(f"sum({quoted(name)}) AS {quoted(name)}" for name in summed)
        steps = [] if step_s is None else [f"time({step_s}s)"]
        group = ", ".join([*(quoted(name) for name in by), *steps])
        end = (f" GROUP BY {group}" if group else "") + " fill(none)"
        has_hops = [*conditions, only("count", ">=", 1)]
        extremes = 'min("min_ns") AS "min_ns", max("max_ns") AS "max_ns"'
        if not summed:
            return summed_columns({}, by)
        totals, bounds = self._ask(
            table,
            [
                f"SELECT {sums} FROM {source}{condition_of(table, conditions)}{end}",
                f"SELECT {extremes} FROM {source}{condition_of(table, has_hops)}{end}",
            ],
        )
        groups: dict[Group, dict[str, int]] = {}
        for block in [*totals, *bounds]:
            key = tuple(tag_text(block.tags.get(name, "")) for name in by)
            for row in block.values:
                values = dict(zip(block.columns, row, strict=True))
                time_ns = span.since_ns if step_s is None else values["time"]
                groups.setdefault((time_ns, key), {}).update(
                    {name: value for name, value in values.items() if name != "time" and value is not None}
                )
        return summed_columns(groups, by)

    def _ask(self, table: Table, statements: Sequence[str]) -> list[list[Block]]:
        """Raises StoreError. A bucket that is not there yet has no rows."""
        self._require_known_schema()
        try:
            return self._connection.influxql(self._connection.target.bucket(table), statements)
        except Refused as error:
            if _MISSING in error.said:
                raise StoreError(f"{error}: run overhop store init") from None
            raise

    def _require_known_schema(self) -> None:
        if self._is_checked:
            return
        version = schema_version(self._connection)
        if version is not None and version > SCHEMA_VERSION:
            raise StoreError(
                f"store {self._connection.target}: it has schema {version}, this overhop knows up to "
                f"{SCHEMA_VERSION}: use the overhop that wrote it"
            )
        self._is_checked = True


def schema_version(connection: Connection) -> int | None:
    """What `overhop store init` wrote; None: nobody did. Raises StoreError."""
    bucket = connection.target.bucket(EVENT)
    try:
        [found] = connection.influxql(bucket, [f'SELECT last("version") FROM {quoted(SCHEMA)}'])
    except Refused as error:
        if _MISSING in error.said:
            raise StoreError(f"{error}: run overhop store init") from None
        raise
    return int(found[0].values[0][1]) if found else None


class _ByNode:
    """NodeRows: one statement for all nodes, split here."""

    def __init__(self, store: InfluxStore, nodes: Sequence[str]) -> None:
        self._store = store
        self.nodes = nodes

    def read(self, wanted: Wanted, nodes: Sequence[str]) -> Iterator[tuple[str, Rows]]:
        """The rows of these nodes; those without any are left out."""
        if not nodes:
            return
        columns = [*dict.fromkeys([*wanted.columns, "node"])]
        rows = self._store.rows_of_nodes(replace(wanted, columns=columns), nodes)
        asked = set(nodes)
        present, at = np.unique(rows["node"].astype(str), return_inverse=True)
        for number, node in enumerate(present.tolist()):
            if node in asked:
                chosen = np.flatnonzero(at == number)
                yield node, {name: rows[name][chosen] for name in wanted.columns}


def _names(columns: Sequence[str] | None, table: Table) -> Sequence[str]:
    return [each.name for each in table.columns] if columns is None else columns


def _named(name: str) -> Table:
    try:
        return table_of(name)
    except KeyError as error:
        raise StoreError(f"{name}: no table of the store") from error
