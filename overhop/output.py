# SPDX-License-Identifier: Apache-2.0
"""Where results go: one console for standard output, JSON as one object a line."""

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from overhop.text import printable

if TYPE_CHECKING:  # 40 ms that JSON does without
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

PIPE_COLUMNS = 120
"""Width where nobody looks at a terminal and COLUMNS says nothing."""

LEAST_COLUMNS = 20
"""In less nothing can be told; what is not known comes as 0 or 1."""


def console() -> "Console":
    """Standard output; colours and width only if it is a terminal (or COLUMNS is set)."""
    from rich.console import Console

    asked = os.environ.get("COLUMNS", "")
    width = None if sys.stdout.isatty() or (asked.isdecimal() and int(asked)) else PIPE_COLUMNS
    out = Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False, emoji=False, markup=False)
    out.width = max(out.width, LEAST_COLUMNS)
    return out


def show(renderable: "RenderableType") -> None:
    """Print for people; into a pipe without the blanks that fill a line."""
    out = console()
    if out.is_terminal:
        out.print(renderable)
        return
    with out.capture() as captured:
        out.print(renderable)
    show_lines(line.rstrip() for line in captured.get().splitlines())


def show_lines(lines: Iterable[str]) -> None:
    """Print lines as they are, none folded or cut: commands that people copy."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def show_json(value: Mapping[str, object]) -> None:
    """Print for machines: one object on one line, at once."""
    sys.stdout.write(json.dumps(value, separators=(",", ":")) + "\n")
    sys.stdout.flush()


@contextmanager
def patience(what: str, after_s: float = 1.0) -> Iterator[None]:
    """Says on standard error what is going on if that takes longer, and takes it back; only in a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    said = threading.Event()

    def say() -> None:
        said.set()
        _say(f"{what} ...")

    timer = threading.Timer(after_s, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if said.is_set():
            _say("\r\x1b[K")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def plain_table(headers: Sequence[str]) -> "Table":
    """A table without lines: what a pipe gets can be cut and sorted."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header)
    return table


def literal(text: str, style: str = "") -> "Text":
    """A cell that shows `text` as it is: no markup, no control characters."""
    from rich.text import Text

    return Text(printable(text), style=style)
