# SPDX-License-Identifier: Apache-2.0
"""The result of `overhop sidecar verify` as SVG: share found over window, and where contexts are. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from math import log2

from overhop.sidecar.report import Report
from overhop.sidecar.view import BINS, binned, headlines, percent_text, smallest_line
from overhop.text import printable, shortened

WIDTH, HEIGHT = 860, 560
_LEFT, _RIGHT = 70, 24
_LEAST_BYTES, _MOST_BYTES = 16, 16384
_TICKS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_MOST_COLUMNS = 100
_INK, _PALE, _GRID, _LINE, _BAR, _MARK = "#1f2933", "#616e7c", "#e4e7eb", "#0b6e99", "#8fc1d9", "#c2410c"


@dataclass(frozen=True, slots=True)
class _Panel:
    """A chart: where it is, from top to bottom, in pixels."""

    top: float
    bottom: float

    def y(self, share: float) -> float:
        """The height of a share of 1."""
        return self.bottom - share * (self.bottom - self.top)


_FOUND = _Panel(104, 330)
_PLACES = _Panel(384, 510)


def svg(report: Report) -> str:
    """The picture, complete with what it says."""
    body = "\n".join([*_titles(report), *_found_chart(report), *_places_chart(report)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="{_INK}" role="img">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def x_of(size_bytes: float) -> float:
    """Where so many bytes are: each doubling takes as much room as the other."""
    held = min(max(size_bytes, _LEAST_BYTES), _MOST_BYTES)
    share = log2(held / _LEAST_BYTES) / log2(_MOST_BYTES / _LEAST_BYTES)
    return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)


def _titles(report: Report) -> Iterator[str]:
    first, *more = (shortened(printable(line), _MOST_COLUMNS) for line in headlines(report))
    yield f"<title>{escape(first)}</title>"
    yield _text(_LEFT, 28, first, 'font-size="16" font-weight="600"')
    if report.with_context:
        more.append(smallest_line(report))
    for at, line in enumerate(more):
        yield _text(_LEFT, 48 + 18 * at, line, f'fill="{_PALE}"')


def _found_chart(report: Report) -> Iterator[str]:
    """The share found over the window, in steps, with the window asked for."""
    panel = _FOUND
    yield _text(_LEFT, panel.top - 10, "share of contexts found within the window", 'font-weight="600"')
    for percent in (0, 25, 50, 75, 100):
        y = panel.y(percent / 100)
        yield _line(_LEFT, y, WIDTH - _RIGHT, y, _GRID)
        yield _text(_LEFT - 8, y + 4, f"{percent} %", f'text-anchor="end" fill="{_PALE}"')
    yield from _axis(panel)
    if report.with_context:
        yield f'<path d="{_steps(report)}" fill="none" stroke="{_LINE}" stroke-width="2.5"/>'
    yield from _mark(report, panel)


def _mark(report: Report, panel: _Panel) -> Iterator[str]:
    """The window that was asked for."""
    x = x_of(report.asked.window)
    yield _line(x, panel.top, x, panel.bottom, _MARK, 'stroke-dasharray="4 3" stroke-width="1.5"')
    share = "no context" if report.share is None else percent_text(report.share)
    is_left = x > WIDTH / 2
    anchor = 'text-anchor="end"' if is_left else 'text-anchor="start"'
    yield _text(
        x + (-6 if is_left else 6),
        panel.y(0.06),
        f"window {report.asked.window}: {share}",
        f'{anchor} fill="{_MARK}" font-weight="600"',
    )
    if report.share is not None:
        yield f'<circle cx="{x}" cy="{panel.y(report.share):.1f}" r="4.5" fill="{_MARK}"/>'


def _steps(report: Report) -> str:
    """The distribution function as a path."""
    path, reached = [f"M{x_of(_LEAST_BYTES)} {_FOUND.y(0):.1f}"], 0
    for window, count in report.needed:
        reached += count
        path.append(f"H{x_of(window)}V{_FOUND.y(reached / report.with_context):.1f}")
    return "".join([*path, f"H{x_of(_MOST_BYTES)}"])


def _places_chart(report: Report) -> Iterator[str]:
    """A bar for each bin of offsets."""
    panel = _PLACES
    yield _text(_LEFT, panel.top - 10, "where contexts begin: requests by offset", 'font-weight="600"')
    yield from _axis(panel)
    yield _text(
        WIDTH - _RIGHT, panel.bottom + 34, "bytes of the TCP payload", f'text-anchor="end" fill="{_PALE}"'
    )
    bins = binned(report.offsets)
    most = max((count for _, count in bins), default=1)
    for begin, count in bins:
        at = BINS.index(begin)
        left = x_of(begin)
        right = x_of(BINS[at + 1] if at + 1 < len(BINS) else _MOST_BYTES)
        top = panel.y(count / most * 0.86)
        yield (
            f'<rect x="{left + 1}" y="{top:.1f}" width="{max(right - left - 2, 1):.1f}" '
            f'height="{panel.bottom - top:.1f}" fill="{_BAR}"/>'
        )
        if count:
            middle = (left + right) / 2
            yield _text(middle, top - 5, f"{count:,}", f'text-anchor="middle" fill="{_PALE}" font-size="11"')


def _axis(panel: _Panel) -> Iterator[str]:
    yield _line(_LEFT, panel.bottom, WIDTH - _RIGHT, panel.bottom, _PALE)
    for tick in _TICKS:
        x = x_of(tick)
        yield _line(x, panel.bottom, x, panel.bottom + 5, _PALE)
        label = f"≤{tick}" if tick == _LEAST_BYTES else str(tick)
        yield _text(x, panel.bottom + 18, label, f'text-anchor="middle" fill="{_PALE}"')


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1}" y1="{y1:.1f}" x2="{x2}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(printable(text))}</text>'
