# SPDX-License-Identifier: Apache-2.0
"""Rows as line protocol (docs/store.md, "Rows in InfluxDB"): whole columns become texts, then rows.

Ids become hexadecimal and addresses text: people read them in Grafana, and an id does not fit into int64.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from store.batch import Labels, Numbers
from store.influxdb.tags import field_value, tag_value
from store.influxdb.target import Flavour, Target, measurement
from store.quarters import QUARTERS
from store.schema import EVENT, HOP_SAMPLE, SERIES, TEXT, Table

Rows = Mapping[str, Numbers | Labels]
"""Columns of one table by name: numbers, labels, or object arrays of str; all of equal length."""

HISTOGRAM: Final = "hist"
PART_BITS: Final = 6
IDS: Final = {"trace_id": ("trace_hi", "trace_lo"), "span_id": ("span",)}
"""Fields of hexadecimal digits, 16 of each column."""
ADDRESSES: Final = {
    "src": ("src_hi", "src_lo"),
    "dst": ("dst_hi", "dst_lo"),
    "dst_before": ("dst_before_hi", "dst_before_lo"),
}
_WHERE: Final = ("cluster", "node")
_SERIES: Final = (*_WHERE, *SERIES)
_ALWAYS: Final = frozenset(
    {"count", "retransmitted", "latency_ns", "kept_shift", "trace_id", "state"}
    | {"kind", "src_ns", "src_workload", "dst_ns", "dst_workload"}
)
"""Fields of every row: a row is only found by a field that it has, even by `= ''`."""
_GREATEST: Final = np.uint64(np.iinfo(np.int64).max)
_Texts = Sequence[str]


def tags_of(table: Table) -> tuple[str, ...]:
    """The columns that are tags; of samples `part` comes besides."""
    if table is HOP_SAMPLE:
        return _WHERE
    return (*_WHERE, "what") if table is EVENT else _SERIES


def part_of(trace_hi: npt.NDArray[np.uint64], trace_lo: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The tag `part` of traces as numbers: upper bits of their hash (docs/datapath.md, "Filter")."""
    with np.errstate(over="ignore"):
        mixed = (trace_lo ^ trace_hi * np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xC2B2AE3D27D4EB4F)
    return mixed >> np.uint64(64 - PART_BITS)


def lines_of(target: Target, table: Table, rows: Rows) -> list[bytes]:
    """One line per row, in their order, without line feeds. Rows have every column of the table."""
    times = np.asarray(rows["time"]).tolist()
    if not times:
        return []
    heads = map("".join, zip(*_heads(target, table, rows), strict=True))
    fields = _summary_fields(target, table, rows) if table.interval_s else _fields(table, rows)
    return [f"{head} {said} {time}".encode() for head, said, time in zip(heads, fields, times, strict=True)]


def _heads(target: Target, table: Table, rows: Rows) -> Iterator[_Texts]:
    """Measurement and tags of each row, in pieces."""
    yield [measurement(target, table)] * len(rows["time"])
    for name in tags_of(table):
        yield _mapped(rows[name], _tag(name))
    if table is HOP_SAMPLE:
        parts = part_of(_words(rows, "trace_hi"), _words(rows, "trace_lo"))
        known = [f",part={number:02x}" for number in range(1 << PART_BITS)]
        yield [known[number] for number in parts.tolist()]


def _tag(name: str) -> Callable[[str], str]:
    """An empty text is no tag: InfluxDB has none that are empty."""
    return lambda text: f",{name}={tag_value(text)}" if text else ""


def _mapped(column: Numbers | Labels, change: Callable[[str], str]) -> _Texts:
    """The texts of a column, changed; each distinct one once."""
    if isinstance(column, Labels):
        known = [change(value) for value in column.values]
        return [known[code] for code in column.codes.tolist()]
    texts: list[str] = column.tolist()
    changed = {text: change(text) for text in set(texts)}
    return [changed[text] for text in texts]


def _fields(table: Table, rows: Rows) -> Iterator[str]:
    """Of samples and events. What is empty in all of the rows is left out."""
    template: list[str] = []
    values: list[Sequence[int | str]] = []
    for name, texts in _texts(table, rows):
        if name in _ALWAYS or any(texts):
            template.append(f'{name}="%s"')
            values.append(texts)
    for name in _numbers(table):
        column = np.asarray(rows[name])
        if name in _ALWAYS or column.any():
            template.append(f"{name}=%di")
            values.append(_int64(column))
    line = ",".join(template)
    return (line % row for row in zip(*values, strict=True))


def _texts(table: Table, rows: Rows) -> Iterator[tuple[str, _Texts]]:
    for column in table.columns:
        if column.dtype == TEXT and column.name not in tags_of(table):
            yield column.name, _mapped(rows[column.name], field_value)
    if table is HOP_SAMPLE:
        for name, (first, *more) in IDS.items():
            words = [np.asarray(rows[each]).tolist() for each in (first, *more)]
            digits = "%016x" * len(words)
            yield name, [digits % row for row in zip(*words, strict=True)]
        for name, (high, low) in ADDRESSES.items():
            yield name, _addresses(np.asarray(rows[high]).tolist(), np.asarray(rows[low]).tolist())


def _addresses(high: list[int], low: list[int]) -> _Texts:
    pairs = list(zip(high, low, strict=True))
    known = {pair: _address(*pair) for pair in set(pairs)}
    return [known[pair] for pair in pairs]


def _address(high: int, low: int) -> str:
    packed = IPv6Address(high << 64 | low)
    return str(packed.ipv4_mapped or packed) if high or low else ""


def _numbers(table: Table) -> Sequence[str]:
    """Columns that are integer fields under their own names."""
    changed = {name for columns in (*IDS.values(), *ADDRESSES.values()) for name in columns}
    left_out = changed | {"time", *QUARTERS}
    return [each.name for each in table.columns if each.dtype != TEXT and each.name not in left_out]


def _summary_fields(target: Target, table: Table, rows: Rows) -> Iterator[str]:
    names = _numbers(table)
    line = ",".join(f"{name}=%di" for name in names)
    numbers = zip(*(_int64(np.asarray(rows[name])) for name in names), strict=True)
    hists: _Texts = [""] * len(rows["time"])
    if target.flavour is not Flavour.VICTORIAMETRICS:
        hists = _mapped(rows[HISTOGRAM], lambda text: f',{HISTOGRAM}="{field_value(text)}"' if text else "")
    for row, quarters, hist in zip(numbers, _quarters(rows), hists, strict=True):
        yield f"{line % row}{quarters}{hist}"


def _quarters(rows: Rows) -> Iterator[str]:
    """The quarter octaves that hold something, of each row."""
    counts = np.stack([np.asarray(rows[name]) for name in QUARTERS], axis=1)
    at, quarters = np.nonzero(counts)
    pairs = zip(quarters.tolist(), counts[at, quarters].tolist(), strict=True)
    texts = [",q%02d=%di" % pair for pair in pairs]  # noqa: UP031  faster than a format string
    bounds = np.searchsorted(at, np.arange(len(counts) + 1)).tolist()
    return ("".join(texts[first:last]) for first, last in pairwise(bounds))


def _words(rows: Rows, name: str) -> npt.NDArray[np.uint64]:
    return np.asarray(rows[name]).astype(np.uint64, copy=False)


def _int64(column: Numbers) -> list[int]:
    """A number beyond int64 becomes its greatest: InfluxQL has no unsigned ones."""
    if column.dtype.kind == "u" and column.itemsize == 8:
        column = np.minimum(column.astype(np.uint64, copy=False), _GREATEST)
    found: list[int] = column.tolist()
    return found
