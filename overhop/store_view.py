# SPDX-License-Identifier: Apache-2.0
"""What `overhop store` shows, for people and as plain data. Pure."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from overhop.output import literal, plain_table
from overhop.text import counted
from store.influxdb.sizing import Growth, together

if TYPE_CHECKING:
    from store.importing import Imported
    from store.influxdb.admin import Done
    from store.influxdb.checks import Check
    from store.influxdb.usage import BucketUsage

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
_NOW = ("bucket", "nodes", "series", "rows", "last hour", "last day", "size", "B/row")
_FULL = ("when full", "kept", "rows", "size", "+1 node", "2x pairs")
_DAY_S = 86_400


def made_lines(done: "Sequence[Done]") -> list[str]:
    """What was done with each bucket."""
    lines = []
    for each in done:
        was = "" if each.was_s is None else f" (was {_days(each.was_s)})"
        lines.append(f"{each.bucket}: {each.what}, kept {_days(each.retention_s)}{was}")
    return lines


def checks_view(store: str, checks: "Sequence[Check]") -> RenderableType:
    """One check a row, what to do below what was seen."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        seen = literal(check.seen)
        if check.advice:
            seen.append("\n→ ").append_text(literal(check.advice))
        table.add_row(Text(check.state, _STYLES[check.state]), literal(check.name), seen)
    return Group(literal(f"store {store}", "bold"), table)


def usage_view(store: str, used: "Sequence[BucketUsage]") -> RenderableType:
    """What is there, then what there will be."""
    now, full = plain_table(_NOW), plain_table(_FULL)
    for column in (*now.columns[1:], *full.columns[1:]):
        column.justify = "right"
    for each in used:
        there, there_will = each.used, each.projection
        now.add_row(
            literal(each.bucket),
            f"{there.nodes:,}",
            _count(there.series),
            _count(there.rows),
            _count(there.rows_hour),
            _count(there.rows_day),
            _size(there.size_bytes),
            "?" if there.bytes_per_row is None else f"{there.bytes_per_row:,.0f}",
        )
        full.add_row(
            literal(each.bucket),
            f"{each.kept_s // _DAY_S} d",
            _count(there_will.rows),
            _size(there_will.size_bytes),
            _growth(there_will.node),
            _growth(there_will.pairs),
        )
    full.add_row("together", "", *_sums(used))
    return Group(literal(f"store {store}", "bold"), now, Text(), full, Text(_MEANING, "dim"))


_MEANING = (
    "when full: at the rate of the last day, or of the last hour if that is more; series / size that one "
    "more such node, or twice as many pairs of workloads, would add (docs/sizing.md)"
)


def usage_json(each: "BucketUsage") -> dict[str, object]:
    """One bucket."""
    there = asdict(each.used) | {"bytes_per_row": each.used.bytes_per_row}
    return (
        {"table": each.table.name, "bucket": each.bucket, "kept_s": each.kept_s}
        | there
        | {"full": asdict(each.projection)}
    )


def imported_lines(done: "Imported") -> list[str]:
    """What became of the rows of each table."""
    lines = ["it went on where an earlier import ended"] if done.is_continued else []
    for table, rows in done.read.items():
        others = {"older than they are kept": done.too_old[table], "refused": done.rejected[table]}
        more = "".join(f", {count:,} {what}" for what, count in others.items() if count)
        lines.append(f"{table}: {rows:,} rows read, {done.written[table]:,} written{more}")
    lines += [f"not read: {problem}" for problem in done.problems]
    return lines or ["nothing to import"]


def _sums(used: "Sequence[BucketUsage]") -> list[str]:
    found = [each.projection for each in used]
    there = together([Growth(None, 0.0, each.size_bytes) for each in found])
    grown = [together([each.node for each in found]), together([each.pairs for each in found])]
    return [_count(sum(each.rows for each in found)), _size(there.size_bytes), *map(_growth, grown)]


def _growth(growth: Growth) -> str:
    size = _size(growth.size_bytes)
    return size if growth.series is None else f"{growth.series:,} / {size}"


def _count(number: float | None) -> str:
    """Whole up to a million."""
    if number is None:
        return "?"
    for unit, each in (("G", 1e9), ("M", 1e6)):
        if number >= each:
            return f"{number / each:,.1f} {unit}"
    return f"{number:,.0f}"


def _size(size_bytes: float | None) -> str:
    if size_bytes is None:
        return "?"
    for unit, each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= each:
            return f"{size_bytes / each:,.1f} {unit}"
    return f"{size_bytes:,.0f} B"


def _days(seconds: int) -> str:
    return counted(round(seconds / _DAY_S), "day") if seconds else "for ever"
