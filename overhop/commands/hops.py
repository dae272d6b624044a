# SPDX-License-Identifier: Apache-2.0
"""`overhop hops`: what the agent of this network namespace sees, live, or what a store has."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from overhop import errors, output
from overhop.hops_view import HopRow, HopsView, Sort, arranged, render
from overhop.signals import FirstOf

if TYPE_CHECKING:
    from rich.console import Console

    from overhop.stored import Place
    from store.query import Span

DEFAULT_SINCE = "1h"
MOST_SAMPLES = 10_000
NOBODY = "''"
"""A namespace or workload that is empty: of who is no pod."""
_SHOWN_SERIES = 50
"""For people, unless --limit says so."""
_FRAME_LINES = 6
"""Headline, trouble of the store, header, count of hidden series, lost hops, cursor."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which hops; None: any. A namespace and a workload are those of one end of the hop, either one."""

    namespace: str | None = None
    workload: str | None = None
    node: str | None = None
    kind: str | None = None
    min_latency_us: float | None = None

    def fits(self, row: HopRow) -> bool:
        """Whether a row of the live view is wanted; its node and latency are looked at elsewhere."""
        ends = (
            (row.source_namespace, row.source_workload),
            (row.destination_namespace, row.destination_workload),
        )
        return self.kind in (None, row.kind) and any(
            self.namespace in (None, ns) and self.workload in (None, load) for ns, load in ends
        )

    def texts(self) -> tuple[str, ...]:
        """As people read it."""
        given = (
            ("namespace", self.namespace),
            ("workload", self.workload),
            ("node", self.node),
            ("kind", self.kind),
        )
        return tuple(f"{name} {value or NOBODY}" for name, value in given if value is not None)


@dataclass(frozen=True, slots=True)
class HopsOptions:
    """Options of the command."""

    once: bool
    duration_s: float | None
    interval_s: float | None
    as_json: bool
    only: Filter = Filter()
    sort: Sort = "count"
    limit: int | None = None
    since: str | None = None
    until: str | None = None
    store: "Callable[[], Place] | None" = None
    """Where the store is; None: nothing asked for one."""

    def pace(self) -> tuple[float, int | None]:
        """Seconds of an interval, and how many of them: the duration is divided evenly. None: without end."""
        interval_s = 2.0 if self.interval_s is None else self.interval_s
        if self.once:
            return min(interval_s, self.duration_s or interval_s), 1
        if self.duration_s is None:
            return interval_s, None
        count = max(1, math.ceil(self.duration_s / interval_s - 1e-9))
        return self.duration_s / count, count


def do_hops(options: HopsOptions) -> int:
    """Live until the duration is over or Ctrl-C; or the stored hops. Raises CommandError, StoreError."""
    if options.store is not None:
        return _show_stored(options, options.store())
    from overhop.running import views, watch_path

    interval_s, count = options.pace()
    with closing(views(watch_path(), interval_s, options.only.min_latency_us)) as found:
        wanted = (chosen(view, options) for view in islice(found, count))
        return show_views(wanted, as_json=options.as_json)


def chosen(view: HopsView, options: HopsOptions) -> HopsView:
    """The view with the rows that were asked for, in the order that was asked for.

    Raises UsageError if another node was asked for.
    """
    if options.only.node not in (None, view.node):
        hint = "the live view has no other: ask the store, with --since"
        raise errors.UsageError(f"--node {options.only.node}: this is node {view.node}, and {hint}")
    rows = [row for row in view.rows if options.only.fits(row)]
    shown = arranged(rows, options.sort, options.limit)
    cut = sum(row.count for row in rows) - sum(row.count for row in shown)
    return replace(view, rows=tuple(shown), not_shown=view.not_shown + cut)


def show_views(views: Iterator[HopsView], *, as_json: bool) -> int:
    """Each view as it comes; Ctrl-C is the normal end."""
    try:
        if as_json:
            for view in views:
                output.show_json(view_as_json(view))
        else:
            _show_for_people(views, output.console())
    except KeyboardInterrupt:
        return errors.DONE
    return errors.DONE


def view_as_json(view: HopsView) -> dict[str, object]:
    """The view as `overhop hops --json` prints it (docs/cli.md)."""
    rows = [asdict(row) | {"node": view.node} for row in view.rows]
    return asdict(view) | {"rows": rows, "hops_per_s": round(view.hops_per_s, 3)}


def _show_for_people(views: Iterator[HopsView], console: "Console") -> None:
    if not console.is_terminal:
        for view in views:
            output.show(render(view, console.width))
        return
    from rich.live import Live

    ending = FirstOf((signal.SIGTERM, signal.SIGHUP))
    with ending, Live(console=console, auto_refresh=False) as live:  # it hides the cursor until it is left
        for view in views:
            room = max(1, console.height - _FRAME_LINES)
            live.update(render(view, console.width, room), refresh=True)


def _show_stored(options: HopsOptions, place: "Place") -> int:
    from insight.series import slow_series, stored_series
    from overhop import series_view
    from overhop.stored import opened
    from store.query import Where

    if options.once or options.duration_s is not None or options.interval_s is not None:
        raise errors.UsageError("--once, --duration and --interval are for the live view, not for a store")
    now_ns = time.time_ns()
    ahead = _ahead(place, now_ns)
    span, only = _span(options, now_ns, max([now_ns, *ahead.values()])), options.only
    where = Where(only.namespace, only.workload, only.node, only.kind)
    with output.patience("asking the store"), opened(place) as store:
        if only.min_latency_us is None:
            found = stored_series(store, span, where)
        else:
            found = slow_series(store, span, where, round(only.min_latency_us * 1000), MOST_SAMPLES)
    view = series_view.stored_view(
        str(place),
        span,
        found,
        sort=options.sort,
        limit=options.limit or (None if options.as_json else _SHOWN_SERIES),
        min_latency_us=only.min_latency_us,
        only=only.texts(),
        ahead_s={node: (last_ns - now_ns) / 1e9 for node, last_ns in ahead.items()},
    )
    if options.as_json:
        output.show_json(series_view.as_json(view))
    else:
        output.show(series_view.render(view, output.console().width))
    return errors.DONE


def _ahead(place: "Place", now_ns: int) -> Mapping[str, int]:
    """Nodes whose row times are ahead of the clock; servers do not say."""
    if not isinstance(place.at, Path):
        return {}
    from store.node_file import nodes_ahead

    return nodes_ahead(place.at, now_ns)


def _span(options: HopsOptions, now_ns: int, last_ns: int) -> "Span":
    """What was asked for, at most up to now, or to the last row if that is ahead of the clock."""
    from insight.times import parse_time
    from store.query import Span

    try:
        since_ns = parse_time(options.since or DEFAULT_SINCE, now_ns)
        until_ns = last_ns + 1
        if options.until:
            until_ns = min(until_ns, parse_time(options.until, now_ns))
    except ValueError as error:
        raise errors.UsageError(str(error)) from None
    if since_ns >= until_ns:
        until = f"--until {options.until}" if options.until and until_ns <= last_ns else "now"
        raise errors.UsageError(f"--since {options.since or DEFAULT_SINCE} is not before {until}")
    return Span(since_ns, until_ns)
