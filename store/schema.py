# SPDX-License-Identifier: Apache-2.0
"""The tables of the store and their columns (docs/store.md). The one place where a column is named.

A column is an array of numbers of a numpy type, or text (`str`): labels that repeat, kept as a dictionary.
Trace ids and addresses are 16 bytes: two columns `_hi`, `_lo` of big-endian halves (IPv4 mapped into IPv6).
"""

from dataclasses import dataclass

SCHEMA_VERSION = 1
TEXT = "str"
QUARTER_OCTAVES = 80
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `dtype` is a numpy type (`u4`, ...) or TEXT."""

    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its name in files and queries, its columns in order, and how long rows are kept."""

    name: str
    columns: tuple[Column, ...]
    retention_s: int
    interval_s: int = 0
    """Of a table of summaries: the time that a row sums up."""

    def dtype_of(self, column: str) -> str:
        """The type of a column. Raises KeyError."""
        return {each.name: each.dtype for each in self.columns}[column]


def _columns(*names: str, dtype: str) -> tuple[Column, ...]:
    return tuple(Column(name, dtype) for name in names)


_WHERE = (Column("time", "i8"), *_columns("cluster", "node", dtype=TEXT))
"""`time`: when the row was written, ns since 1970, strictly increasing per node: the key, with `node`."""

SERIES = (
    "kind",
    "message",
    "src_ns",
    "src_workload",
    "dst_ns",
    "dst_workload",
    "service",
    "encap",
    "context",
)
"""What tells one series from another, besides cluster and node."""

_SUMMARY = (
    *_WHERE,
    *_columns(*SERIES, dtype=TEXT),
    *_columns("count", "retransmitted", "sum_ns", dtype="u8"),
    *_columns("min_ns", "max_ns", "p50_ns", "p90_ns", "p95_ns", "p99_ns", "p999_ns", dtype="u4"),
    *_columns(*(f"q{number:02}" for number in range(QUARTER_OCTAVES)), dtype="u4"),
    Column("hist", TEXT),
)

HOP_10S = Table("hop_10s", _SUMMARY, 7 * DAY_S, 10)
HOP_1M = Table("hop_1m", _SUMMARY, 30 * DAY_S, 60)
HOP_10M = Table("hop_10m", _SUMMARY, 400 * DAY_S, 600)

HOP_SAMPLE = Table(
    "hop_sample",
    (
        *_WHERE,
        *_columns("kind", "message", dtype=TEXT),
        *_columns("src_ns", "src_pod", "src_workload", "dst_ns", "dst_pod", "dst_workload", dtype=TEXT),
        *_columns("service", "encap", "context", dtype=TEXT),
        Column("at_ns", "i8"),  # second point, ns since 1970
        Column("mono_ns", "u8"),  # second point, CLOCK_MONOTONIC of `boot_id`
        Column("boot_id", TEXT),
        *_columns("clock_bound_ns", "clock_maxerror_ns", dtype="u8"),
        *_columns("trace_hi", "trace_lo", "span", dtype="u8"),
        *_columns("src_hi", "src_lo", "dst_hi", "dst_lo", "dst_before_hi", "dst_before_lo", dtype="u8"),
        *_columns("sport", "dport", "sport_before", "dport_before", dtype="u2"),
        *_columns("latency_ns", "seq", "ack", "vni", "first_ifindex", "second_ifindex", dtype="u4"),
        *_columns("payload_bytes", "first_wait_ns", dtype="u4"),
        *_columns("context_offset", "segments", dtype="u2"),
        *_columns("trace_flags", "quality", dtype="u1"),
        Column("tail", "u1"),  # 1: kept because it is among the slowest of its series
        Column("kept_shift", "u1"),  # one in 2^n traces was kept on this node at that time
    ),
    3 * DAY_S,
)

EVENT = Table(
    "event",
    (*_WHERE, *_columns("what", "state", "detail", dtype=TEXT), Column("since", "i8")),
    400 * DAY_S,
)

TABLES = (HOP_10S, HOP_1M, HOP_10M, HOP_SAMPLE, EVENT)
SUMMARIES = (HOP_10S, HOP_1M, HOP_10M)


def table(name: str) -> Table:
    """The table of that name. Raises KeyError."""
    return {each.name: each for each in TABLES}[name]
