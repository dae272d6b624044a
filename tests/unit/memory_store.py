# SPDX-License-Identifier: Apache-2.0
"""The twin of a store, in memory: rows written by hand, asked as store.query says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from store.quarters import Steps, summed_names, sums_of
from store.query import POINTS, Columns, Span, TraceId, Where
from store.schema import EVENT, HOP_1M, HOP_SAMPLE, TEXT, Table, table

Row = Mapping[str, int | str]
S = 1_000_000_000
AT_NS = 1_700_000_000 * S
"""2023-11-14 22:13:20 UTC"""


def row_of(table_: Table, /, **values: int | str) -> Row:
    """A row; columns that are not given are 0 or empty."""
    unknown = values.keys() - {column.name for column in table_.columns}
    assert not unknown, unknown
    return {column.name: "" if column.dtype == TEXT else 0 for column in table_.columns} | values


def address(text: str) -> tuple[int, int]:
    """Halves of an IPv4 address mapped into IPv6."""
    one, two, three, four = (int(part) for part in text.split("."))
    return 0, 0xFFFF_0000_0000 | one << 24 | two << 16 | three << 8 | four


def sample(**values: int | str) -> Row:
    """A sample of trace 0af7651916cd43dd8448eb211c80319c on n1: rx of 50 us from 10.0.0.9 to 10.244.1.3."""
    given: dict[str, int | str] = {
        "time": AT_NS,
        "node": "n1",
        "kind": "rx",
        "message": "request",
        "context": "w3c",
        "encap": "none",
        "at_ns": AT_NS,
        "mono_ns": 5 * S,
        "boot_id": "boot",
        "trace_hi": 0x0AF7651916CD43DD,
        "trace_lo": 0x8448EB211C80319C,
        "span": 0xAB,
        "sport": 40000,
        "dport": 9080,
        "sport_before": 40000,
        "dport_before": 9080,
        "latency_ns": 50_000,
        "seq": 1,
        "payload_bytes": 500,
        "context_offset": 396,
        "segments": 1,
    }
    for name, text in (("src", "10.0.0.9"), ("dst", "10.244.1.3"), ("dst_before", "10.244.1.3")):
        given[f"{name}_hi"], given[f"{name}_lo"] = address(text)
    return row_of(HOP_SAMPLE, **(given | values))


def summary(table_: Table = HOP_1M, /, **values: int | str) -> Row:
    """A summary row of one hop of 10 us on n1, shop/front to shop/cart."""
    given: dict[str, int | str] = {
        "time": AT_NS,
        "node": "n1",
        "kind": "rx",
        "message": "request",
        "context": "w3c",
        "src_ns": "shop",
        "src_workload": "front",
        "dst_ns": "shop",
        "dst_workload": "cart",
        "count": 1,
        "sum_ns": 10_000,
        "min_ns": 10_000,
        "max_ns": 10_000,
    }
    return row_of(table_, **(given | values))


@dataclass
class MemoryStore:
    """store.query.Store over rows by table name."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    rows_for_each: int = 1
    """How many summaries it says there are, for each that is there."""

    @classmethod
    def of(cls, *samples: Row) -> "MemoryStore":
        return cls({"hop_sample": list(samples)})

    def summaries(
        self,
        span: Span,
        where: Where,
        table: str | None = None,
        columns: Sequence[str] | None = None,
        points: int = POINTS,  # noqa: ARG002  # as the protocol has it
    ) -> Columns:
        """Without `table`: of HOP_1M, whatever `points`."""
        name = table or HOP_1M.name
        return _columns(name, [row for row in self._of(name, span) if _fits(row, where)], columns)

    def samples(
        self,
        span: Span,
        where: Where,
        min_latency_ns: int = 0,
        limit: int = 10_000,
        columns: Sequence[str] | None = None,
    ) -> Columns:
        found = [row for row in self._of("hop_sample", span) if _fits(row, where)]
        slow = [row for row in found if int(row["latency_ns"]) >= min_latency_ns]
        slowest = sorted(slow, key=lambda row: -int(row["latency_ns"]))[:limit]
        return _columns("hop_sample", slowest, columns)

    def quarters(
        self,
        span: Span,
        where: Where,
        by: Sequence[str] = (),
        step_s: int | None = None,
        table: str | None = None,
    ) -> Columns:
        rows = self.summaries(span, where, table, summed_names(by))
        return sums_of(rows, Steps(by, step_s, span.since_ns))

    def summary_count(self, span: Span, where: Where) -> int:
        return len(self.summaries(span, where)["time"]) * self.rows_for_each

    def trace(self, trace: TraceId) -> Columns:
        rows = self.rows.get("hop_sample", [])
        wanted = [row for row in rows if (row["trace_hi"], row["trace_lo"]) == (trace.hi, trace.lo)]
        return _columns("hop_sample", sorted(wanted, key=lambda row: row["time"]))

    def events(self, span: Span) -> Columns:
        return _columns(EVENT.name, self._of(EVENT.name, span))

    def nodes(self) -> Mapping[str, Mapping[str, int]]:
        known: dict[str, Mapping[str, int]] = {}
        for row in sorted(self.rows.get("hop_sample", []), key=lambda row: row["time"]):
            first = known.get(str(row["node"]), {"first_ns": int(row["time"])})["first_ns"]
            known[str(row["node"])] = {
                "first_ns": first,
                "last_ns": int(row["time"]),
                "kept_shift": int(row["kept_shift"]),
            }
        return known

    def close(self) -> None:
        """Nothing is open."""

    def _of(self, name: str, span: Span) -> list[Row]:
        rows = [row for row in self.rows.get(name, []) if span.since_ns <= int(row["time"]) < span.until_ns]
        return sorted(rows, key=lambda row: row["time"])


def _columns(name: str, rows: Sequence[Row], only: Sequence[str] | None = None) -> Columns:
    return {
        column.name: np.array(
            [row[column.name] for row in rows], object if column.dtype == TEXT else column.dtype
        )
        for column in table(name).columns
        if only is None or column.name in only
    }


def _fits(row: Row, where: Where) -> bool:
    ends = [(row["src_ns"], row["src_workload"]), (row["dst_ns"], row["dst_workload"])]
    return (
        where.node in (None, row["node"])
        and where.kind in (None, row["kind"])
        and any(where.namespace in (None, ns) and where.workload in (None, wl) for ns, wl in ends)
    )
