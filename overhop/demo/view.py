# SPDX-License-Identifier: Apache-2.0
"""The outcome of the demo for people. Pure; fits 60 columns and a pipe."""

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from overhop.demo.accounting import legend_of, lines_of, recorded_line
from overhop.demo.found import Found
from overhop.demo.outcome import NodePlace, Outcome, Stage
from overhop.demo.report import contexts, routes, window_line
from overhop.demo.serving import Invitation
from overhop.demo.sights import Sight
from overhop.hops_view import table_of
from overhop.series_view import row_of
from overhop.sidecar.filters import Mode
from overhop.text import microseconds, printable
from overhop.trace_view import waterfall

WIDE_COLUMNS = 90
"""From this width on, nodes stand side by side and hops show addresses beside names."""
WAYS = {"tx": "pod → NIC", "rx": "NIC → pod", "local": "pod → pod", "forward": "NIC → NIC"}
NOT_SHOWN = (
    "answers and the servers' own time; the way inside a pod, before its interface and behind it; TLS and"
    " HTTP/2, which carry no readable context. The latencies are those of this machine and its veth pairs,"
    " whose NICs are software too."
)
_WRITTEN: dict[Mode, str] = {
    "off": "The client writes it near the beginning, sidecars behind all other headers",
    "lua": "The client writes it near the beginning, sidecars move it behind host (Lua filter)",
    "native": "The client writes it near the beginning, sidecars move it behind host (native module)",
}


def render(outcome: Outcome, width: int, *, is_up: bool = False) -> RenderableType:
    """The outcome in at most `width` columns; `is_up`: the lab is still there."""
    requests = sum(load.sent.requests for load in outcome.found)
    found = sum(load.found for load in outcome.found)
    return Group(
        Text(f"the lab, in network namespaces ({'up' if is_up else 'gone again'})", style="bold"),
        *(_text(line, width) for line in picture(outcome.stage, width)),
        _title(f"requests: {found:,} of {requests:,} found with every hop"),
        _indented(_route_table(outcome.found, width)),
        _text(context_line(outcome.found), width),
        *(_text(line, width) for line in took_lines(outcome.found)),
        *_sights(outcome, width),
        _title("hops of both nodes"),
        _indented(_hop_table(outcome, width)),
        *_series(outcome, width),
        _title("accounting: a counter for whatever is lost"),
        _indented(_account_table(outcome)),
        _text(recorded_line(outcome), width),
        _text(legend_of(outcome), width),
        *_trace(outcome, width),
        _title("time of each step"),
        _text(" · ".join(f"{step} {took_s:.1f} s" for step, took_s in outcome.steps_s.items()), width),
        _title("not shown"),
        _text(NOT_SHOWN, width),
    )


def invitation_lines(invited: Invitation, outcome: Outcome) -> list[str]:
    """What can be tried; each command on one line, however long, so that it can be copied."""
    asked = " ".join(filter(None, (f"--store {shlex.quote(invited.store)}", invited.options)))
    hops, trace = (f"{invited.entrance}overhop {command}" for command in ("hops", "trace"))
    commands = {
        "every hop of the last minute": f"{hops} {asked} --since 1m",
        "the trace above": f"{trace} {outcome.trace_id} {asked}" if outcome.trace_id else "",
        "a request by hand, from outside": invited.outside,
        "or from a pod": invited.inside,
        "where its time went": f"{trace} {invited.trace_id} {asked} --wait 5",
    }
    pairs = ((f"  {what}:", f"    {command}") for what, command in commands.items() if command)
    return [
        "",
        "the lab stays up until Ctrl-C, under a low load, traced and stored; as root, in another terminal",
        *(line for pair in pairs for line in pair),
        "  (in a checkout `overhop` is `./dev run`)",
    ]


def picture(stage: Stage, width: int) -> list[str]:
    """Nodes, pods and what joins them."""
    boxes = [_box(node) for node in stage.nodes]
    if width < WIDE_COLUMNS:
        lines = [line for box in boxes for line in box]
        lines.append(f"the nodes' eth0 are joined by {stage.joined_by}")
    else:
        room = max(len(line) for box in boxes for line in box) + 12
        lines = ["".join(line.ljust(room) for line in row) for row in zip_longest(*boxes, fillvalue="")]
        lines.append(f"eth0 {f' {stage.joined_by} ':═^{room - 5 + 6}} eth0")
    return [
        *lines,
        *(f"{service.name} {service.line}" for service in stage.services),
        f"external {stage.external}, outside the cluster",
    ]


def context_line(found: Sequence[Found]) -> str:
    """How many requests of each kind of context were found."""
    shown = [f"{name} {each['found']:,} of {each['requests']:,}" for name, each in contexts(found).items()]
    return f"contexts: {', '.join(shown)}"


def took_lines(found: Sequence[Found]) -> list[str]:
    """How long a request took for its client; nothing if there were several kinds of them."""
    if len(found) != 1 or (took := found[0].sent.took) is None:
        return []
    answered = f"{found[0].sent.requests:,} answered in {took.elapsed_s:.1f} s"
    quantiles = f"p50 {microseconds(took.p50_us)}, p99 {microseconds(took.p99_us)}"
    late = f"; {took.sent_late:,} were sent more than 1 ms late" if took.sent_late else ""
    return [
        f"{answered}; for the client a request took {quantiles}, max {microseconds(took.max_us)} µs{late}"
    ]


def _box(node: NodePlace) -> list[str]:
    pods = list(node.pods.items())
    longest = max((len(name) for name in node.pods), default=0)
    ends = ["├─"] * (len(pods) - 1) + ["└─"] * bool(pods)
    return [
        f"node {node.name}  {node.address}",
        *(f"{end} pod {name:{longest}}  {address}" for end, (name, address) in zip(ends, pods, strict=True)),
    ]


def _route_table(found: Sequence[Found], width: int) -> Table:
    wide = width >= WIDE_COLUMNS
    table = _table((*(("route",) if wide else ()), "from → to", "hops"), ("requests", "found"))
    for entry in routes(found):
        route = entry.route
        table.add_row(
            *((route.name,) if wide else ()),
            f"{route.source} → {route.target}",
            ", ".join(f"{node} {kind}" for node, kind in route.stops),
            f"{entry.requests:,}",
            f"{entry.found:,}",
        )
    return table


def _sights(outcome: Outcome, width: int) -> Iterator[RenderableType]:
    """Where the context was found at each stop; only of interest where sidecars move it."""
    if outcome.sidecar_offset_bytes is None:
        return
    yield _title("where the context was found, along the way of a request")
    table = _table(("node", "hop"), ("hops", "with context", "at byte"), ("encapsulated",))
    for sight in outcome.sights:
        table.add_row(
            sight.node,
            sight.kind,
            f"{sight.hops:,}",
            f"{sight.with_context:,}",
            _offsets(sight),
            ", ".join(f"{name} {count:,}" for name, count in sight.encaps.items() if name != "none") or "no",
        )
    yield _indented(table)
    yield _text(
        f"{_WRITTEN[outcome.relocation]}: on the wire between two sidecars it begins at byte "
        f"{outcome.sidecar_offset_bytes}. Searched: {outcome.window:,} bytes.",
        width,
    )
    if line := window_line(outcome):
        yield _text(f"Not found: {line}.", width)


def _offsets(sight: Sight) -> str:
    first, last = sight.first_offset_bytes, sight.last_offset_bytes
    return "" if first is None else f"{first}" if first == last else f"{first}-{last}"


def _hop_table(outcome: Outcome, width: int) -> Table:
    wide = width >= WIDE_COLUMNS
    table = _table(
        ("kind", "way") if wide else ("kind",), ("count", "p50 µs", "p99 µs", "max µs"), ("quality",)
    )
    for kind, hops in outcome.hops.items():
        table.add_row(
            *((kind, WAYS[kind]) if wide else (kind,)),
            f"{hops.count:,}",
            microseconds(hops.p50_us),
            microseconds(hops.p99_us),
            microseconds(hops.max_us),
            ", ".join(f"{name} {count:,}" for name, count in hops.quality.items()) or "all plain",
        )
    return table


def _account_table(outcome: Outcome) -> Table:
    table = _table(("node", "counters", "verdict"))
    for row in lines_of(outcome):
        table.add_row(*row)
    return table


def _series(outcome: Outcome, width: int) -> Iterator[RenderableType]:
    """As `overhop hops --since` shows them."""
    yield _title("hops by workload, as stored" + (f" in {printable(outcome.store)}" if outcome.store else ""))
    way = [(sight.node, sight.kind) for sight in outcome.sights]
    places = {stop: place for place, stop in enumerate(way)}
    ordered = sorted(
        outcome.stored.series, key=lambda series: places.get((series.node, series.kind), len(places))
    )
    yield table_of([row_of(replace(series, per_s=None), of_samples=False) for series in ordered], width)


def _trace(outcome: Outcome, width: int) -> Iterator[RenderableType]:
    if not outcome.trace:
        yield _title("no trace: no request with a context has every hop")
        return
    first = outcome.trace[0]
    yield _title("one trace: a request of median time")
    yield _text(
        f"trace id {outcome.trace_id}, context {first.context} at byte {first.context_offset_bytes} "
        f"of {first.payload_bytes}",
        width,
    )
    yield waterfall(outcome.trace, width, outcome.stage.names())
    wires = [hop.wire for hop in outcome.trace if hop.wire is not None]
    if wires and all(wire.error_ns == 0 for wire in wires):
        yield _text(
            "Both nodes share one clock here, so the time on the wire is exact. Between machines it is shown "
            "only where it is larger than the error of their clocks.",
            width,
        )


def _table(
    left: Sequence[str], right: Sequence[str] = (), more: Sequence[str] = (), last: Sequence[str] = ()
) -> Table:
    """Columns of text, of numbers, of text, of numbers; without lines, so that a pipe can cut and sort it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for headers, is_number in ((left, False), (right, True), (more, False), (last, True)):
        for header in headers:
            table.add_column(header, justify="right" if is_number else "left", no_wrap=is_number)
    return table


def _indented(table: Table) -> Padding:
    return Padding(table, (0, 0, 0, 2))


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _text(line: str, width: int) -> Text:
    """Indented, folded between words."""
    indent = "  "
    folded = textwrap.wrap(
        printable(line), width - 1, initial_indent=indent, subsequent_indent=indent, drop_whitespace=True
    )
    return Text("\n".join(folded))
