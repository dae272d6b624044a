# SPDX-License-Identifier: Apache-2.0
"""The table of `overhop hops`: rows in, a renderable out. Pure; fits 60 columns and a pipe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from overhop.text import columns_of, listed, microseconds, printable, shortened

if TYPE_CHECKING:  # 40 ms that JSON does without
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

WIDE_COLUMNS = 100
"""From this width on, source and destination have a column each, and further columns what room there is."""
_NAME_COLUMNS = 40
_LEAST_NAMES = 36
"""Columns that source and destination together get before anything optional is shown."""


SORTS: dict[str, str] = {"count": "count", "p99": "p99_us", "max": "max_us"}
"""How rows can be sorted, and by what of a row."""
Sort = Literal["count", "p99", "max"]


@dataclass(frozen=True, slots=True)
class HopRow:
    """One series over the shown interval."""

    kind: str
    source: str
    destination: str
    count: int
    p50_us: float | None
    p99_us: float | None
    max_us: float | None
    quality: dict[str, int] = field(default_factory=dict)
    """How many of them have each mark (retransmit, dnat, no_context, ...)."""
    node: str = ""
    service: str = ""
    per_s: float | None = None
    """Rate; None where the whole view has one interval."""
    kept: str = ""
    """Which share of the traces was kept, where rows are of samples."""
    source_namespace: str = ""
    source_workload: str = ""
    destination_namespace: str = ""
    destination_workload: str = ""


@dataclass(frozen=True, slots=True)
class HopsView:
    """What a running agent says of the last interval."""

    pid: int
    nic: str
    vports: int
    interval_s: float
    rows: tuple[HopRow, ...] = ()
    not_shown: int = 0
    """Hops of the interval that are in no row."""
    lost: dict[str, int] = field(default_factory=dict)
    """Counters that stand for lost hops, since the agent's start; only those that are not 0."""
    node: str = ""
    store_problem: str = ""
    """Why the agent cannot keep what it measures; empty: it can, or shall not."""

    @property
    def hops_per_s(self) -> float:
        """Rate over the interval; 0 if the interval is empty."""
        hops = sum(row.count for row in self.rows) + self.not_shown
        return hops / self.interval_s if self.interval_s > 0 else 0.0


def render(view: HopsView, width: int, most_rows: int | None = None) -> "RenderableType":
    """The view in at most `width` columns; `most_rows` is what the terminal has room for."""
    rows = view.rows
    shown = rows if most_rows is None else rows[:most_rows]
    parts: list[RenderableType] = [plain(headline(view), width)]
    if view.store_problem:
        parts.append(plain(f"store: {view.store_problem}", width, "yellow"))
    parts.append(table_of(shown, width) if rows else plain("no hop in this interval", width))
    if len(shown) < len(rows):
        parts.append(plain(f"and {len(rows) - len(shown)} more series", width))
    if view.lost:
        counted = listed([f"{name} {count:,}" for name, count in view.lost.items()], most=4)
        parts.append(plain(f"lost since start: {counted}", width, "yellow"))
    from rich.console import Group

    return Group(*parts)


def arranged(rows: Sequence[HopRow], sort: Sort, limit: int | None) -> list[HopRow]:
    """The first `limit` rows by what is asked for; what is equal by count, then by name."""

    def key(row: HopRow) -> tuple[float, int, str, str, str, str]:
        value = getattr(row, SORTS[sort])
        return (-(value or 0.0), -row.count, row.node, row.kind, row.source, row.destination)

    return sorted(rows, key=key)[:limit]


def headline(view: HopsView) -> str:
    """Who says it, and how much."""
    where = f" on {view.node}" if view.node else ""
    return (
        f"agent {view.pid}{where} · {view.nic} and {view.vports} vports · {view.hops_per_s:,.0f} hops/s"
        f" · last {view.interval_s:.2g} s"
    )


def table_of(rows: Sequence[HopRow], width: int) -> "Table":
    """The rows in their order, in at most `width` columns."""
    return _wide(rows, width) if width >= WIDE_COLUMNS else _narrow(rows, width)


def plain(text: str, width: int, style: str = "") -> "Text":
    """One line as it is: no markup, no control characters, no more than `width` columns."""
    from rich.text import Text

    return Text(shortened(printable(text), width), style=style)


def _narrow(rows: Sequence[HopRow], width: int) -> "Table":
    numbers = [(f"{row.count:,}", microseconds(row.p50_us), microseconds(row.p99_us)) for row in rows]
    headers = ("hops", "p50 µs", "p99 µs")
    widths = [max(len(head), *(len(line[at]) for line in numbers)) for at, head in enumerate(headers)]
    kind_width = max(len("kind"), *(len(row.kind) for row in rows))
    room = width - kind_width - sum(widths) - (len(widths) + 1)
    table = _table()
    table.add_column("kind")
    table.add_column("from → to")
    for head in headers:
        table.add_column(head, justify="right")
    for row, line in zip(rows, numbers, strict=True):
        table.add_row(_cell(row.kind), _cell(_path(row, room)), *line)
    return table


def _path(row: HopRow, width: int) -> str:
    source, destination = printable(row.source), printable(row.destination)
    room = max(width - 3, 2)
    if columns_of(source) + columns_of(destination) > room:
        half = room // 2
        source_room = max(half, room - columns_of(destination))
        source = shortened(source, source_room)
        destination = shortened(destination, room - columns_of(source))
    return f"{source} → {destination}"


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of the wide table. `order`: who gets room first among those that may be left out."""

    head: str
    cells: tuple[str, ...]
    justify: Literal["left", "right"] = "right"
    order: int = 0

    @property
    def width(self) -> int:
        return max(columns_of(self.head), *(columns_of(cell) for cell in self.cells))

    @property
    def is_optional(self) -> bool:
        return self.order > 0

    @property
    def is_empty(self) -> bool:
        return not any(self.cells)


def _wide(rows: Sequence[HopRow], width: int) -> "Table":
    before, after = _columns(rows)
    source = tuple(printable(row.source) for row in rows)
    destination = tuple(printable(row.destination) for row in rows)
    longest = [max(map(columns_of, cells)) for cells in (source, destination)]
    least = min(sum(longest), _LEAST_NAMES) + 2
    chosen = _chosen([*before, *after], width - least)
    room = width - sum(column.width + 1 for column in chosen) - 2
    widths = _shared(room, longest)
    names = [
        _Column(head, tuple(shortened(cell, most) for cell in cells), "left")
        for head, cells, most in zip(("from", "to"), (source, destination), widths, strict=True)
    ]
    columns = [*(c for c in before if c in chosen), *names, *(c for c in after if c in chosen)]
    table = _table()
    for column in columns:
        table.add_column(column.head, justify=column.justify)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(_cell, cells))
    return table


def _columns(rows: Sequence[HopRow]) -> tuple[list[_Column], list[_Column]]:
    """Columns before and behind the names."""
    before = [
        _Column("kind", tuple(printable(row.kind) for row in rows), "left"),
        _Column("node", tuple(shortened(printable(row.node), 20) for row in rows), "left", 1),
    ]
    after = [
        _Column("service", tuple(shortened(printable(row.service), 30) for row in rows), "left", 4),
        _Column("hops", tuple(f"{row.count:,}" for row in rows)),
        _Column("/s", tuple(microseconds(row.per_s) for row in rows), "right", 2),
        _Column("p50 µs", tuple(microseconds(row.p50_us) for row in rows)),
        _Column("p99 µs", tuple(microseconds(row.p99_us) for row in rows)),
        _Column("max µs", tuple(microseconds(row.max_us) for row in rows)),
        _Column("kept", tuple(row.kept for row in rows), "right", 2),
        _Column("quality", tuple(shortened(quality_text(row), 40) for row in rows), "left", 3),
    ]
    return before, after


def quality_text(row: HopRow) -> str:
    """`dnat 40, no_context 2`"""
    return printable(listed([f"{name} {count:,}" for name, count in row.quality.items()], most=3))


def _chosen(columns: Sequence[_Column], room: int) -> list[_Column]:
    """What must be shown, and of the rest what is not empty and has room."""
    chosen = [column for column in columns if not column.is_optional]
    room -= sum(column.width + 1 for column in chosen)
    for column in sorted((c for c in columns if c.is_optional), key=lambda column: column.order):
        if not column.is_empty and column.width + 1 <= room:
            chosen.append(column)
            room -= column.width + 1
    return chosen


def _shared(room: int, longest: Sequence[int]) -> tuple[int, int]:
    """Columns of the two names: what they need, else half each and what the other leaves."""
    first, second = (min(each, _NAME_COLUMNS) for each in longest)
    if first + second <= room:
        return first, second
    half = room // 2
    if first <= half:
        return first, room - first
    return (room - second, second) if second <= half else (half, room - half)


def _table() -> "Table":
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def _cell(text: str) -> "Text":
    """As it is: no markup is read from names."""
    from rich.text import Text

    return Text(printable(text), no_wrap=True, overflow="ellipsis")
