# SPDX-License-Identifier: Apache-2.0
"""A trace as a waterfall over its nodes. Pure: hops in, a renderable out; fits any width and a pipe."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.text import Text

from insight.stored_trace import NodeShare, NodeState, Trace
from insight.trace import End, TraceHop, Wire
from overhop.text import columns_of, counted, listed, microseconds, padded, printable, shortened

WIDE_COLUMNS = 100
"""From this width on, the ends of a hop stand beside its bar; below, under it."""
MOST_HOPS = 200
"""What is drawn of a trace; --json has everything."""
_LEAST_BAR = 8
_MOST_BAR = 80
_ADDRESSED = frozenset({"", "unknown", "ambiguous"})
"""Workloads that say less than the address."""
_NAME_COLUMNS = 20
_STATES = {
    NodeState.TAIL_ONLY: "incomplete: of this trace only the slowest hops of their series were kept",
    NodeState.NOT_SAMPLED: "not sampled: this trace was not kept there, it may have passed",
    NodeState.NOT_SEEN: "not seen: this trace would have been kept there",
    NodeState.BEHIND: "behind: what is stored there ends at that time, more may come",
    NodeState.SILENT: "silent: nothing was stored there at that time",
}


def render(trace: Trace, width: int) -> RenderableType:
    """The trace, and the nodes whose part of it is missing, in at most `width` columns."""
    return Group(
        Text(shortened(f"trace {trace.trace_id}", width), style="bold"),
        *_folded(summary(trace.hops), width, ""),
        Text(""),
        waterfall(trace.hops, width),
        *_missing(trace.nodes, width),
    )


def summary(hops: Sequence[TraceHop]) -> str:
    """`2026-11-20 17:05:12.123456 UTC · 5 hops on n1, n2 · 2,310 µs, 61.5 µs of them in hops`"""
    began = datetime.fromtimestamp(min(hop.start_ns for hop in hops) // 1000 / 1e6, UTC)
    lasted_us = max(hop.begin_ns + hop.latency_ns for hop in hops) / 1000
    inside_us = sum(hop.latency_ns for hop in hops) / 1000
    nodes = [_name(node) for node in dict.fromkeys(hop.node for hop in hops)]
    return (
        f"{began:%Y-%m-%d %H:%M:%S.%f} UTC · {counted(len(hops), 'hop')} on "
        f"{listed(nodes)} · {microseconds(lasted_us)} µs, {microseconds(inside_us)} µs of them in hops"
    )


def waterfall(hops: Sequence[TraceHop], width: int, names: Mapping[str, str] | None = None) -> RenderableType:
    """The hops in their order, each with its place in time, its ends, translation, context and quality.

    `names`: of addresses, for hops that carry no names of their own.
    """
    shown = hops[:MOST_HOPS]
    rows = [row for hop in shown for row in _rows(hop, names or {})]
    if not rows:
        return Text("no hop")
    grid = _Grid.of(rows, width)
    lines = [grid.header(), *(line for row in rows for line in grid.lines(row))]
    if len(shown) < len(hops):
        lines.append(Text(shortened(f"and {len(hops) - len(shown):,} hops more: see --json", width)))
    return Group(*lines)


@dataclass(frozen=True, slots=True)
class _Row:
    """One bar: a hop, or (no node) the wire before it."""

    begin_us: float
    took_us: float
    took: str
    node: str
    kind: str
    source: str
    destination: str
    details: tuple[str, ...]

    @property
    def is_wire(self) -> bool:
        return self.kind == "wire"


@dataclass(frozen=True, slots=True)
class _Grid:
    """Widths in columns, and the time that the bars stand for."""

    at: int
    node: int
    kind: int
    path: int
    took: int
    bar: int
    width: int
    first_us: float
    last_us: float

    @classmethod
    def of(cls, rows: Sequence[_Row], width: int) -> "_Grid":
        at = max(len("at µs"), *(len(f"{row.begin_us:,.1f}") for row in rows))
        node = min(_NAME_COLUMNS, max(len("node"), *(columns_of(row.node) for row in rows)))
        kind = max(len("hop"), *(len(row.kind) for row in rows))
        took = max(len("µs"), *(len(row.took) for row in rows))
        longest = max(len("from → to"), *(columns_of(f"{row.source} → {row.destination}") for row in rows))
        left = width - (at + node + kind + took + 4)
        path = min(longest, left * 3 // 5) if width >= WIDE_COLUMNS else 0
        bar = min(_MOST_BAR, left - path - (1 if path else 0))
        last_us = max(row.begin_us + row.took_us for row in rows)
        first_us = min(row.begin_us for row in rows)
        return cls(at, node, kind, path, took, bar if bar >= _LEAST_BAR else 0, width, first_us, last_us)

    def header(self) -> Text:
        cells = [padded("at µs", self.at, right=True), padded("node", self.node), padded("hop", self.kind)]
        cells += [padded("from → to", self.path)] if self.path else []
        cells.append(padded("µs", self.took, right=True))
        return Text(shortened(" ".join(cells).rstrip(), self.width), style="bold")

    def lines(self, row: _Row) -> Iterator[Text]:
        head = [
            padded(f"{row.begin_us:,.1f}", self.at, right=True),
            padded(row.node, self.node),
            padded(row.kind, self.kind),
        ]
        if self.path:
            head.append(padded(_path(row, self.path), self.path))
        head.append(padded(row.took, self.took, right=True))
        line = Text(shortened(" ".join(head).rstrip(), self.width), style="dim" if row.is_wire else "")
        if self.bar:
            line.append(f" {self._bar(row)}", style="dim" if row.is_wire else "cyan")
        line.rstrip()
        yield line
        indent = " " * (self.at + 1 if self.path else 2)
        if not self.path and not row.is_wire:
            yield Text(indent + _path(row, self.width - len(indent)))
        if row.details:
            yield from _packed(row.details, self.width, indent)

    def _bar(self, row: _Row) -> str:
        """Blanks up to where it begins, then at least one sign."""
        scale = self.bar / max(self.last_us - self.first_us, 0.001)
        start = min(int((row.begin_us - self.first_us) * scale), self.bar - 1)
        end = min(max(round((row.begin_us + row.took_us - self.first_us) * scale), start + 1), self.bar)
        return " " * start + ("┄" if row.is_wire else "█") * (end - start)


def _rows(hop: TraceHop, names: Mapping[str, str]) -> Iterator[_Row]:
    begin_us = hop.begin_ns / 1000
    if hop.wire is not None:
        yield _wire_row(hop.wire, begin_us)
    yield _Row(
        begin_us,
        hop.latency_ns / 1000,
        microseconds(hop.latency_ns / 1000),
        _name(hop.node),
        hop.kind,
        _who(hop.source_end, hop.source, names),
        _who(hop.destination_end, hop.destination, names),
        tuple(printable(detail) for detail in _details(hop)),
    )


def _wire_row(wire: Wire, begin_us: float) -> _Row:
    took_us = max(wire.time_ns / 1000, 0.0) if wire.sure else 0.0
    took = microseconds(took_us) if wire.sure else "?"
    unsure = () if wire.sure else (f"clocks unsure: off by up to {_duration(wire.error_ns)}",)
    return _Row(begin_us - took_us, took_us, took, "", "wire", "NIC", "NIC", unsure)


def _details(hop: TraceHop) -> Iterator[str]:
    yield f"{hop.source} → {hop.destination}"
    if hop.destination_before_nat != hop.destination:
        service = f" (service {hop.service})" if hop.service not in _ADDRESSED else ""
        yield f"called {hop.destination_before_nat}{service}"
    port = hop.source.rpartition(":")[2]
    if "snat" in hop.quality and hop.source_port_before_nat and str(hop.source_port_before_nat) != port:
        yield f"source port {hop.source_port_before_nat} → {port}"
    if hop.encap != "none":
        yield f"{hop.encap} {hop.vni}" if hop.vni else hop.encap
    yield f"{hop.context} at byte {hop.context_offset_bytes} of {hop.payload_bytes}"
    yield from (mark for mark in hop.quality if mark != "dnat")
    if hop.segments > 1:
        yield f"merged {hop.segments}"
    if hop.tail:
        yield "tail"


def _missing(nodes: Sequence[NodeShare], width: int) -> Iterator[Text]:
    """A line for every reason, with the nodes that it holds for; nothing where every node was seen."""
    groups: dict[tuple[NodeState, str], list[str]] = {}
    for share in nodes:
        if share.state is not NodeState.SEEN:
            groups.setdefault((share.state, kept_share(share.kept_shift)), []).append(_name(share.node))
    if groups:
        yield Text("")
    for (state, kept), names in groups.items():
        on = "node" if len(names) == 1 else "nodes"
        yield from _folded(
            f"{on} {listed(names)}: {_STATES[state]}{kept and f' ({kept})'}", width, "", "yellow"
        )


def kept_share(shift: int | None) -> str:
    """`1/64`, or `all` traces kept; empty where it is not known."""
    if shift is None:
        return ""
    return f"1/{1 << shift} kept" if shift else "all kept"


def _who(end: End, endpoint: str, names: Mapping[str, str]) -> str:
    """A pod, else a workload, else the bucket, else the address."""
    address, _, port = endpoint.rpartition(":")
    if end.pod or (end.namespace and end.workload):
        name = end.pod or end.workload
        return printable(f"{end.namespace}/{name}" if end.namespace else name)
    if end.workload not in _ADDRESSED:
        return printable(end.workload)
    known = names.get(address.strip("[]"))
    return printable(f"{known}:{port}" if known else endpoint)


def _path(row: _Row, width: int) -> str:
    source, destination = row.source, row.destination
    room = max(width - 3, 2)
    if columns_of(source) + columns_of(destination) > room:
        source = shortened(source, max(room // 2, room - columns_of(destination)))
        destination = shortened(destination, room - columns_of(source))
    return shortened(f"{source} → {destination}", width)


def _name(node: str) -> str:
    return shortened(printable(node), _NAME_COLUMNS) or "-"


def _duration(value_ns: int) -> str:
    if value_ns >= 1_000_000_000:
        return f"{value_ns / 1e9:,.1f} s"
    return f"{value_ns / 1e6:,.1f} ms" if value_ns >= 1_000_000 else f"{microseconds(value_ns / 1e3)} µs"


def _packed(details: Sequence[str], width: int, indent: str) -> Iterator[Text]:
    """As many details a line as fit; none is broken."""
    line = ""
    for detail in details:
        if line and columns_of(f"{indent}{line} · {detail}") > width:
            yield Text(shortened(indent + line, width), style="dim")
            line = ""
        line = f"{line} · {detail}" if line else detail
    yield Text(shortened(indent + line, width), style="dim")


def _folded(text: str, width: int, indent: str, style: str = "") -> Iterator[Text]:
    """Lines broken between words; a word longer than a line is broken inside."""
    lines = textwrap.wrap(
        printable(text),
        max(width, 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return (Text(shortened(line, width), style=style) for line in lines)
