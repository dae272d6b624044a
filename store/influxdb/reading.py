# SPDX-License-Identifier: Apache-2.0
"""A store in InfluxDB 1 or 2 as it is read: store.query.Store by InfluxQL (docs/store.md, "Servers")."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

import numpy as np

from store.combined import Wanted, combined
from store.conditions import of_hops, only, within
from store.influxdb.asking import Asking, NodesAsked
from store.influxdb.http import Connection
from store.influxdb.influxql import equals
from store.influxdb.influxql import where as condition_of
from store.influxdb.lines import part_of
from store.influxdb.tags import tag_text
from store.influxdb.target import Flavour
from store.intervals import tables_for
from store.quarters import Steps, names_with_histogram, sums_of_parts
from store.query import POINTS, Columns, Span, StoreError, TraceId, Where
from store.reading import in_order, joined_rows
from store.schema import EVENT, HOP_SAMPLE, Table
from store.schema import table as table_of

_TOP_MOST: Final = 100_000
"""InfluxDB takes memory for as many rows as top() is asked for, before it has any."""


class InfluxStore:
    """Reads by `connection`, which is the store's from now on; for one thread.

    Raises StoreError, when it is first asked: the server is not there, or holds a newer schema.
    """

    def __init__(self, connection: Connection) -> None:
        if connection.target.flavour is Flavour.VICTORIAMETRICS:
            raise StoreError(
                f"store {connection.target}: it is only written: read it in Grafana or by MetricsQL"
            )
        self.problems: list[str] = []
        """What could not be read: none, a server answers whole or not at all."""
        self._connection = connection
        self._asking = Asking(connection)

    def summaries(
        self,
        span: Span,
        where: Where,
        table: str | None = None,
        columns: Sequence[str] | None = None,
        points: int = POINTS,
    ) -> Columns:
        """Summary rows in order of time; `columns`: only these. Without `table` as store.query.Store says."""
        tables = [_named(table)] if table else tables_for(span, points)
        chosen = _names(columns, tables[0])
        wanted = Wanted(tables[0], [*dict.fromkeys([*chosen, "time"])], of_hops(where))
        if table:
            rows = self._asking.rows(replace(wanted, conditions=[*wanted.conditions, *within(span)]))
        else:
            nodes = [where.node] if where.node is not None else self._nodes(span, tables)
            parts = combined(NodesAsked(self._asking, nodes), wanted, span, tables)
            rows = joined_rows(wanted, [*parts])
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
        chosen = _names(columns, HOP_SAMPLE)
        read = [*dict.fromkeys([*chosen, "latency_ns", "time"])]
        wanted = Wanted(HOP_SAMPLE, read, [*within(span), *of_hops(where)])
        rows = joined_rows(wanted, [])
        if limit > 0:
            slow = only("latency_ns", ">=", self._least_of_slowest(wanted, min_latency_ns, limit))
            rows = self._asking.rows(replace(wanted, conditions=[*wanted.conditions, slow]))
        order = np.lexsort((rows["time"], -rows["latency_ns"].astype(np.int64)))[:limit]
        return {name: rows[name][order] for name in chosen}

    def quarters(
        self,
        span: Span,
        where: Where,
        by: Sequence[str] = (),
        step_s: int | None = None,
        table: str | None = None,
    ) -> Columns:
        """Sums over the rows of one table, as store.query.Store says.

        Made here, of histograms: a day of 10 min rows of a thousand series takes 3 s, sum() with GROUP BY
        time() takes a server 10 to 20.
        """
        which = _named(table) if table else tables_for(span)[0]
        wanted = Wanted(which, names_with_histogram(by), [*within(span), *of_hops(where)])
        steps = Steps(by, step_s, span.since_ns)
        try:
            return sums_of_parts(chain([joined_rows(wanted, [])], self._asking.parts(wanted)), steps)
        except ValueError as error:
            raise StoreError(f"store {self._connection.target}: {error}") from None

    def summary_count(self, span: Span, where: Where) -> int:
        """How many rows the coarsest table has that gives 60 points."""
        table = tables_for(span)[0]
        condition = condition_of(table, [*within(span), *of_hops(where)])
        [found] = self._asking.ask(
            table, f'SELECT count("count") FROM {self._asking.source(table)}{condition}'
        )
        return sum(int(row[1]) for block in found for row in block.values)

    def trace(self, trace: TraceId) -> Columns:
        """All samples of one trace, in order of time."""
        [part] = part_of(np.array([trace.hi], np.uint64), np.array([trace.lo], np.uint64)).tolist()
        tests = equals("part", f"{part:02x}"), equals("trace_id", f"{trace.hi:016x}{trace.lo:016x}")
        return in_order(self._asking.rows(Wanted(HOP_SAMPLE, _names(None, HOP_SAMPLE)), *tests))

    def events(self, span: Span) -> Columns:
        """Events in order of time."""
        return in_order(self._asking.rows(Wanted(EVENT, _names(None, EVENT), within(span))))

    def nodes(self) -> Mapping[str, Mapping[str, int]]:
        """For each node that wrote samples: `first_ns`, `last_ns` (their times), the last `kept_shift`."""
        source = self._asking.source(HOP_SAMPLE)
        asked = [f'SELECT {end}("kept_shift") FROM {source} GROUP BY "node"' for end in ("first", "last")]
        firsts, lasts = self._asking.ask(HOP_SAMPLE, *asked)
        first_ns = {block.tags["node"]: int(block.values[0][0]) for block in firsts}
        known: dict[str, Mapping[str, int]] = {}
        for block in lasts:
            [[last_ns, shift]] = block.values
            node = block.tags["node"]
            about = {"first_ns": first_ns.get(node, last_ns), "last_ns": last_ns, "kept_shift": shift}
            known[tag_text(node)] = about
        return known

    def close(self) -> None:
        """Let go of the sockets."""
        self._connection.close()

    def _nodes(self, span: Span, tables: Sequence[Table]) -> list[str]:
        """Nodes that may have rows of the span: a server looks at its days or weeks as a whole."""
        found: set[str] = set()
        for table in tables:
            start = f'SHOW TAG VALUES FROM {self._asking.source(table)} WITH KEY = "node"'
            [blocks] = self._asking.ask(table, start + condition_of(table, within(span)))
            found |= {tag_text(value) for block in blocks for _, value in block.values}
        return sorted(found)

    def _least_of_slowest(self, wanted: Wanted, min_latency_ns: int, limit: int) -> int:
        """The latency that the slowest `limit` samples have at least; others may have it too."""
        if limit > _TOP_MOST:
            return min_latency_ns
        conditions = [*wanted.conditions, only("latency_ns", ">=", min_latency_ns)]
        condition = condition_of(HOP_SAMPLE, conditions)
        asked = f'SELECT top("latency_ns", {limit}) FROM {self._asking.source(HOP_SAMPLE)}{condition}'
        [found] = self._asking.ask(HOP_SAMPLE, asked)
        latencies = [int(row[1]) for block in found for row in block.values]
        return min(latencies) if len(latencies) >= limit else min_latency_ns


def _names(columns: Sequence[str] | None, table: Table) -> Sequence[str]:
    return [each.name for each in table.columns] if columns is None else columns


def _named(name: str) -> Table:
    try:
        return table_of(name)
    except KeyError as error:
        raise StoreError(f"{name}: no table of the store") from error
