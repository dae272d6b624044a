# SPDX-License-Identifier: Apache-2.0
"""The table of `overhop hops`: rows in, a renderable out. Pure; fits 60 columns and a pipe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from overhop.text import listed, microseconds, printable, shortened

WIDE_COLUMNS = 100
"""From this width on, source and destination have a column each and the quality is shown."""


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

    @property
    def hops_per_s(self) -> float:
        """Rate over the interval; 0 if the interval is empty."""
        hops = sum(row.count for row in self.rows) + self.not_shown
        return hops / self.interval_s if self.interval_s > 0 else 0.0


def render(view: HopsView, width: int, most_rows: int | None = None) -> RenderableType:
    """The view as at most `width` columns; `most_rows` is what the terminal has room for."""
    rows = sorted(view.rows, key=lambda row: (-row.count, row.kind, row.source, row.destination))
    shown = rows if most_rows is None else rows[:most_rows]
    parts: list[RenderableType] = [_plain(headline(view), width)]
    if not rows:
        parts.append(_plain("no hop in this interval", width))
    else:
        parts.append(_wide(shown) if width >= WIDE_COLUMNS else _narrow(shown, width))
    if len(shown) < len(rows):
        parts.append(_plain(f"and {len(rows) - len(shown)} more series", width))
    if view.lost:
        counted = listed([f"{name} {count:,}" for name, count in view.lost.items()], most=4)
        parts.append(Text(printable(f"lost since start: {counted}"), style="yellow"))
    return Group(*parts)


def headline(view: HopsView) -> str:
    """Who says it, and how much."""
    return (
        f"agent {view.pid} · {view.nic} and {view.vports} vports · {view.hops_per_s:,.0f} hops/s"
        f" · last {view.interval_s:.0f} s"
    )


def _narrow(rows: Sequence[HopRow], width: int) -> Table:
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
        table.add_row(_cell(row.kind), Text(_path(row, room), no_wrap=True), *line)
    return table


def _path(row: HopRow, width: int) -> str:
    source, destination = printable(row.source), printable(row.destination)
    room = max(width - 3, 2)
    if len(source) + len(destination) > room:
        half = room // 2
        source_room = max(half, room - len(destination))
        source = shortened(source, source_room)
        destination = shortened(destination, room - len(source))
    return f"{source} → {destination}"


def _wide(rows: Sequence[HopRow]) -> Table:
    table = _table()
    for head, justify in _WIDE_HEADERS:
        table.add_column(head, justify=justify)
    for row in rows:
        table.add_row(
            _cell(row.kind),
            _cell(shortened(printable(row.source), 40)),
            _cell(shortened(printable(row.destination), 40)),
            f"{row.count:,}",
            microseconds(row.p50_us),
            microseconds(row.p99_us),
            microseconds(row.max_us),
            _cell(listed([f"{name} {count:,}" for name, count in row.quality.items()], most=3)),
        )
    return table


_WIDE_HEADERS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("kind", "left"),
    ("from", "left"),
    ("to", "left"),
    ("hops", "right"),
    ("p50 µs", "right"),
    ("p99 µs", "right"),
    ("max µs", "right"),
    ("quality", "left"),
)


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def _cell(text: str) -> Text:
    """As it is: no markup is read from names."""
    return Text(printable(text), no_wrap=True, overflow="ellipsis")


def _plain(text: str, width: int) -> Text:
    return Text(shortened(printable(text), width) if len(text) > width else printable(text))
