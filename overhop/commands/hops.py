# SPDX-License-Identifier: Apache-2.0
"""`overhop hops`: what the agent of this network namespace sees, live."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice

from rich.console import Console
from rich.live import Live

from overhop import errors, output
from overhop.hops_view import HopsView, render

_FRAME_LINES = 5
"""Headline, header, count of hidden series, lost hops, cursor."""


@dataclass(frozen=True, slots=True)
class HopsOptions:
    """Options of the command."""

    once: bool
    duration_s: float | None
    interval_s: float
    as_json: bool

    def pace(self) -> tuple[float, int | None]:
        """Seconds of an interval, and how many of them: the duration is divided evenly. None: without end."""
        if self.once:
            return min(self.interval_s, self.duration_s or self.interval_s), 1
        if self.duration_s is None:
            return self.interval_s, None
        count = max(1, math.ceil(self.duration_s / self.interval_s - 1e-9))
        return self.duration_s / count, count


def do_hops(options: HopsOptions) -> int:
    """Show views until the duration is over or Ctrl-C. Raises CommandError if no agent runs here."""
    from overhop.running import views, watch_path

    interval_s, count = options.pace()
    with closing(views(watch_path(), interval_s)) as found:
        return show_views(islice(found, count), as_json=options.as_json)


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
    return asdict(view) | {"hops_per_s": round(view.hops_per_s, 3)}


def _show_for_people(views: Iterator[HopsView], console: Console) -> None:
    if not console.is_terminal:
        for view in views:
            output.show(render(view, console.width))
        return
    with Live(console=console, auto_refresh=False) as live:
        for view in views:
            room = max(1, console.height - _FRAME_LINES)
            live.update(render(view, console.width, room), refresh=True)
