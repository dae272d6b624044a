# SPDX-License-Identifier: Apache-2.0
"""What `overhop hops` shows of a store, for people and as plain data. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from insight.histograms import FINE_ERROR
from insight.series import Found, Series
from insight.times import time_text
from insight.trace import End
from overhop.hops_view import HopRow, Sort, arranged, plain, table_of
from overhop.text import counted, listed
from store.query import Span

if TYPE_CHECKING:
    from rich.console import RenderableType

_ROW = tuple(each.name for each in fields(HopRow))
_of_row = attrgetter(*_ROW)
"""Without the copies of copies that dataclasses.asdict makes: 50 ms for a thousand rows."""


@dataclass(frozen=True, slots=True)
class StoredView:
    """Rows of a store, sorted and cut, and what they stand for."""

    store: str
    span: Span
    rows: tuple[HopRow, ...]
    hops: int
    """Of all series, also those without a row."""
    series: int
    min_latency_us: float | None = None
    """Rows are of samples of at least this latency."""
    is_cut: bool = False
    """There were more samples."""
    only: tuple[str, ...] = field(default=())
    """What was filtered by, as people read it."""
    ahead_s: Mapping[str, float] = field(default_factory=dict)
    """Nodes whose row times are ahead of the clock, and by how much."""


def stored_view(
    store: str,
    span: Span,
    found: Found,
    *,
    sort: Sort,
    limit: int | None,
    min_latency_us: float | None = None,
    only: tuple[str, ...] = (),
    ahead_s: Mapping[str, float] | None = None,
) -> StoredView:
    """The view of what was found."""
    of_samples = min_latency_us is not None
    rows = arranged([row_of(series, of_samples=of_samples) for series in found.series], sort, limit)
    hops = sum(series.count + series.retransmitted for series in found.series)
    view = StoredView(store, span, tuple(rows), hops, len(found.series))
    return replace(view, min_latency_us=min_latency_us, is_cut=found.is_cut, only=only, ahead_s=ahead_s or {})


def row_of(series: Series, *, of_samples: bool) -> HopRow:
    """A series as a row; of samples it says which share was kept, and no rate."""
    hops = series.count + series.retransmitted
    marks = {
        "retransmit": series.retransmitted,
        "no_context": series.without_context,
        "tail": series.tail,
    }
    shift = series.kept_shift
    return HopRow(
        kind=series.kind,
        source=end_text(series.source),
        destination=end_text(series.destination),
        count=hops,
        p50_us=_us(series.p50_ns),
        p99_us=_us(series.p99_ns),
        max_us=_us(series.max_ns),
        quality={name: count for name, count in marks.items() if count},
        node=series.node,
        service=series.service,
        per_s=None if of_samples or series.per_s is None else round(series.per_s, 3),
        kept="" if not of_samples else f"1/{1 << shift}" if shift else "all",
        source_namespace=series.source.namespace,
        source_workload=series.source.workload,
        destination_namespace=series.destination.namespace,
        destination_workload=series.destination.workload,
    )


def end_text(end: End) -> str:
    """`shop/cart`, or the bucket."""
    return f"{end.namespace}/{end.workload}" if end.namespace else end.workload or "-"


def as_json(view: StoredView) -> dict[str, object]:
    """Everything as plain data (docs/cli.md)."""
    return {
        "store": view.store,
        "since": time_text(view.span.since_ns),
        "until": time_text(view.span.until_ns),
        "hops": view.hops,
        "series": view.series,
        "rows": [dict(zip(_ROW, _of_row(row), strict=True)) for row in view.rows],
        "min_latency_us": view.min_latency_us,
        "samples_cut": view.is_cut,
        "ahead_s": dict(view.ahead_s),
        "quantile_error": FINE_ERROR if view.min_latency_us is None else 0.0,
    }


def render(view: StoredView, width: int) -> "RenderableType":
    """The view in at most `width` columns."""
    parts: list[RenderableType] = [plain(line, width) for line in headlines(view)]
    if view.ahead_s:
        ahead = listed([f"{node} by {by_s:,.0f} s" for node, by_s in view.ahead_s.items()], most=3)
        parts.append(plain(f"row times ahead of the clock: {ahead}", width, "yellow"))
    if view.rows:
        parts.append(table_of(view.rows, width))
    if len(view.rows) < view.series:
        parts.append(plain(f"and {view.series - len(view.rows):,} more series", width))
    if view.is_cut:
        parts.append(plain("there are more samples: these are the slowest", width, "yellow"))
    from rich.console import Group

    return Group(*parts)


def headlines(view: StoredView) -> list[str]:
    """What was asked, and what the numbers are."""
    asked = " · ".join(view.only)
    lines = [f"{time_text(view.span.since_ns)} to {time_text(view.span.until_ns)}{asked and f' · {asked}'}"]
    least = "" if view.min_latency_us is None else f" of {view.min_latency_us:,.10g} µs or more"
    if not view.series:
        what = f"sample{least}" if least else "hop"
        return [*lines, f"no {what} in that time in the store {view.store}"]
    if not least:
        return [
            *lines,
            f"{counted(view.hops, 'hop')} in {view.series:,} series · quantiles ±1 %",
        ]
    return [*lines, f"{counted(view.hops, 'sample')}{least} · kept: share of traces"]


def _us(value_ns: float | None) -> float | None:
    return None if value_ns is None else round(value_ns / 1000, 3)
