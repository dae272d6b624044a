# SPDX-License-Identifier: Apache-2.0
"""Which files of a node and table become which Parquet file, which are too old: pure (docs/store.md)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from store.layout import Entry, parquet_name
from store.schema import DAY_S, HOP_SAMPLE, Table

HOUR_S: Final = 3600
SAMPLES_IN_GROUP: Final = 16_384
"""Rows of a row group: a merge holds about 1 kB for each (docs/decisions/0011-duckdb-alone.md)."""
SUMMARIES_IN_GROUP: Final = 4_096
"""They have twice as many columns, and histograms as text."""
_S_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """When segments become Parquet before their hour is over: whichever of the three comes first."""

    age_s: float = 300
    """Since the first row of the oldest of them."""
    size_bytes: int = 8 << 20
    segments: int = 16
    at_once: int = 16
    """At most so many segments in one step, so that the writer's end never waits long."""
    groups: int = 32
    """Row groups of a file that several become: what is known of each lies in memory until the end."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file that readers read. `first_ns`, `last_ns`: times of its rows (of a segment the first only)."""

    entry: Entry
    first_ns: int
    last_ns: int
    size_bytes: int
    is_ready: bool = True
    """False: its appender still writes it, or it cannot be read now; nothing may be merged across it."""
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Merge:
    """These files, consecutive ones, become one."""

    inputs: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """Of the file that they become."""
        return parquet_name(self.inputs[0].first, self.inputs[-1].last)


def group_rows(table: Table) -> int:
    """Rows in a row group of the table's files."""
    return SAMPLES_IN_GROUP if table is HOP_SAMPLE else SUMMARIES_IN_GROUP


def periods_s(table: Table) -> tuple[int, ...]:
    """What one file may span, the longest first: what is kept long shall not be in thousands of files."""
    if table.retention_s <= 3 * DAY_S:
        return (HOUR_S,)
    if table.retention_s <= 30 * DAY_S:
        return (DAY_S, HOUR_S)
    return (10 * DAY_S, DAY_S, HOUR_S)


def plan(inputs: Sequence[Input], table: Table, now_ns: int, rules: Rules) -> list[Merge]:
    """What to do now with the files of one node and table, given in order; empty: nothing."""
    most_rows = rules.groups * group_rows(table)
    newest_ns = max((each.last_ns for each in inputs), default=0)
    for period_s in periods_s(table):
        over_ns = max(now_ns, newest_ns) // (period_s * _S_NS) * (period_s * _S_NS)
        over = [group for group in _whole(inputs, period_s) if group[-1].last_ns < over_ns]
        old = [part for group in over for part in _portions(group, most_rows) if _is_worth(part)]
        if old:
            return [_step(part, rules) for part in old]
    runs = [
        part
        for group in _groups(inputs, HOUR_S)
        for run in _segments(group)
        for part in _portions(run, most_rows)
    ]
    return [_merge(run[: rules.at_once]) for run in runs if _is_due(run, now_ns, rules)]


def is_expired(last_ns: int, table: Table, now_ns: int) -> bool:
    """Whether a file whose last row has this time is to go."""
    return last_ns < now_ns - table.retention_s * _S_NS


def _groups(inputs: Iterable[Input], period_s: int) -> list[list[Input]]:
    """Runs of ready files that begin and end in the same period."""

    def period(each: Input) -> tuple[bool, int, int]:
        length_ns = period_s * _S_NS
        return each.is_ready, each.first_ns // length_ns, each.last_ns // length_ns

    runs = ((key, list(group)) for key, group in groupby(inputs, period))
    return [group for (is_ready, first, last), group in runs if is_ready and first == last]


def _whole(inputs: Sequence[Input], period_s: int) -> list[list[Input]]:
    """Without those whose period has an open segment: it would all be merged again when that ends."""
    length_ns = period_s * _S_NS
    open_periods = {each.first_ns // length_ns for each in inputs if not each.is_ready}
    groups = _groups(inputs, period_s)
    return [group for group in groups if group[0].first_ns // length_ns not in open_periods]


def _portions(group: Iterable[Input], most_rows: int) -> Iterator[list[Input]]:
    """Each as long as one file may be; the same ones again once they are files."""
    portion: list[Input] = []
    for each in group:
        if portion and sum(one.rows for one in portion) + each.rows > most_rows:
            yield portion
            portion = []
        portion.append(each)
    if portion:
        yield portion


def _segments(group: Iterable[Input]) -> list[list[Input]]:
    runs = groupby(group, lambda each: each.entry.is_parquet)
    return [list(run) for is_parquet, run in runs if not is_parquet]


def _is_worth(group: Sequence[Input]) -> bool:
    return len(group) > 1 or not group[0].entry.is_parquet


def _is_due(run: Sequence[Input], now_ns: int, rules: Rules) -> bool:
    return (
        len(run) >= rules.segments
        or sum(each.size_bytes for each in run) >= rules.size_bytes
        or now_ns - run[0].first_ns >= rules.age_s * _S_NS
    )


def _step(group: Sequence[Input], rules: Rules) -> Merge:
    """All of it, or where it has very many segments, some of them first."""
    many = [run for run in _segments(group) if len(run) > rules.at_once]
    return _merge(many[0][: rules.at_once] if many else group)


def _merge(inputs: Sequence[Input]) -> Merge:
    return Merge(tuple(each.entry for each in inputs))
