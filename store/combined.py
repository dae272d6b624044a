# SPDX-License-Identifier: Apache-2.0
"""Summaries out of several tables of any store, each hop once (store.intervals says which rows count)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from store.conditions import Condition, only
from store.intervals import Covered, Times, begins, fewer, middles
from store.query import POINTS, Span
from store.schema import EVENT, SUMMARIES, Table

Rows = dict[str, npt.NDArray[np.generic]]
NodeSpans = Mapping[str, Sequence[Span]]
"""By node: spans that do not overlap, in order."""

_MOST_SPANS: Final = 16
"""Of one node and table; further ones are read with what lies between them."""
_SHORTEST_NS: Final = min(table.interval_s for table in SUMMARIES) * 1_000_000_000
_LONGEST_NS: Final = max(table.interval_s for table in SUMMARIES) * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of a table, and which of its columns. `slowest`: at most so many, of the highest latency."""

    table: Table
    columns: Sequence[str]
    conditions: Sequence[Condition] = ()
    slowest: int | None = None


class NodeRows(Protocol):
    """A store that gives rows by node."""

    @property
    def nodes(self) -> Sequence[str]:
        """Those that may have any, by whichever name the store knows them."""
        ...

    def read(self, wanted: Wanted, spans: NodeSpans) -> Iterable[tuple[str, Rows]]:
        """The rows of each node in its spans, in any number of parts, each row once. Raises StoreError."""
        ...


@dataclass(slots=True)
class _Node:
    """What of one node's time is summed up by rows so far, and when its agents started."""

    starts: Times
    covered: Covered


def combined(source: NodeRows, wanted: Wanted, span: Span, tables: Sequence[Table]) -> Iterator[Rows]:
    """Rows of the first table, and rows of the next ones, finer, for what it leaves out.

    The coarsest is read first: what is written meanwhile is in a finer one, and nothing falls between. Rows
    that begin long before the span (store.query) wait until the end: they count where no finer ones do.
    `wanted` has the time and no span.
    """
    starts = _starts(source, span)
    least_ns = span.since_ns - max(_SHORTEST_NS, (span.until_ns - span.since_ns) // POINTS)
    nodes = {name: _Node(starts.get(name, np.zeros(0, np.int64)), Covered()) for name in source.nodes}
    early: list[list[tuple[str, Rows]]] = []
    for table in tables:
        found: list[tuple[str, Times]] = []
        early.append([])
        for name, rows in source.read(replace(wanted, table=table), _left_out(nodes, table, span)):
            node, times = nodes[name], _times(rows)
            is_new = ~node.covered.has(middles(times, table.interval_s, node.starts))
            is_early = begins(times, table.interval_s, node.starts) < least_ns
            early[-1].append((name, _only(rows, is_new & is_early)))
            found.append((name, times[is_new & ~is_early]))
            yield _only(rows, is_new & ~is_early)
        for name, times in found:
            node = nodes[name]
            node.covered.add(begins(times, table.interval_s, node.starts), times)
    for waiting in reversed(early):
        yield from _still_new(waiting, nodes, span)


def _still_new(waiting: Sequence[tuple[str, Rows]], nodes: Mapping[str, _Node], span: Span) -> Iterator[Rows]:
    """Rows of one table that began before the span, where nothing else sums up what of them lies in it."""
    for name, rows in waiting:
        yield _only(rows, ~nodes[name].covered.has((_times(rows) + span.since_ns) // 2))
    for name, rows in waiting:
        times = _times(rows)
        nodes[name].covered.add(np.full(len(times), span.since_ns), times)


def _only(rows: Rows, chosen: npt.NDArray[np.bool_]) -> Rows:
    return {column: values[chosen] for column, values in rows.items()}


def _left_out(nodes: Mapping[str, _Node], table: Table, span: Span) -> NodeSpans:
    """When rows of the table are written whose hops are in no row so far."""
    found: dict[str, Sequence[Span]] = {}
    for name, node in nodes.items():
        gaps = node.covered.gaps(span, table.interval_s // 4)
        spans = fewer(_with_ends(gaps, table.interval_s, span.until_ns), _MOST_SPANS)
        if spans:
            found[name] = spans
    return found


def _with_ends(gaps: Sequence[Span], interval_s: int, until_ns: int) -> list[Span]:
    """A row is written at the end of its interval, which may lie behind the gap; none is asked for twice."""
    found: list[Span] = []
    for gap in gaps:
        end_ns = min(gap.until_ns + interval_s * 1_000_000_000, until_ns)
        if found and gap.since_ns <= found[-1].until_ns:
            found[-1] = Span(found[-1].since_ns, end_ns)
        else:
            found.append(Span(gap.since_ns, end_ns))
    return found


def _starts(source: NodeRows, span: Span) -> dict[str, Times]:
    """When agents of each node started, as far as it matters to the span; sorted."""
    around = Span(span.since_ns - 2 * _LONGEST_NS, span.until_ns)
    wanted = Wanted(EVENT, ("since",), [only("what", "=", "agent"), only("state", "=", "started")])
    found: dict[str, list[Times]] = defaultdict(list)
    for name, rows in source.read(wanted, {name: [around] for name in source.nodes}):
        found[name].append(rows["since"].astype(np.int64))
    return {name: np.sort(np.concatenate(parts)) for name, parts in found.items()}


def _times(rows: Rows) -> Times:
    return rows["time"].astype(np.int64, copy=False)
