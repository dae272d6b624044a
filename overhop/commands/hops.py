# SPDX-License-Identifier: Apache-2.0
"""`overhop hops`: what the agent of this network namespace sees, live."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

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


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, so that tests need none."""

    now_s: Callable[[], float] = time.monotonic
    sleep_s: Callable[[float], None] = time.sleep


def show_views(options: HopsOptions, read: Callable[[], HopsView], clock: Clock | None = None) -> int:
    """Show views until the duration is over or Ctrl-C, which is the normal end."""
    views = paced(options, read, clock or Clock())
    try:
        if options.as_json:
            for view in views:
                output.show_json(view_as_json(view))
        else:
            _show_for_people(views, output.console())
    except KeyboardInterrupt:
        return errors.DONE
    return errors.DONE


def paced(options: HopsOptions, read: Callable[[], HopsView], clock: Clock) -> Iterator[HopsView]:
    """One view after each interval; the last at or before the duration's end."""
    started_s = clock.now_s()
    until_s = started_s + options.duration_s if options.duration_s is not None else None
    due_s = started_s
    while True:
        due_s += options.interval_s
        if until_s is not None:
            due_s = min(due_s, until_s)
        clock.sleep_s(max(0.0, due_s - clock.now_s()))
        yield read()
        if options.once or (until_s is not None and due_s >= until_s):
            return


def view_as_json(view: HopsView) -> dict[str, object]:
    """The view as `overhop hops --json` prints it; the shape is documented in docs/cli.md."""
    return asdict(view) | {"hops_per_s": round(view.hops_per_s, 3)}


def _show_for_people(views: Iterator[HopsView], console: Console) -> None:
    if not console.is_terminal:
        for view in views:
            console.print(render(view, console.width))
            console.file.flush()
        return
    with Live(console=console, auto_refresh=False, screen=False) as live:
        for view in views:
            room = max(1, console.height - _FRAME_LINES)
            live.update(render(view, console.width, room), refresh=True)
