# SPDX-License-Identifier: Apache-2.0
"""`overhop trace`: one trace out of the store, as a waterfall over its nodes."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from overhop import errors, output
from overhop.text import listed, printable, shortened

if TYPE_CHECKING:
    from insight.stored_trace import Trace
    from overhop.stored import Place
    from store.query import Store, TraceId

POLL_S = 0.2
SETTLE_S = 1.5
"""Agents store samples every second: so long after the last new hop nothing more is waited for."""


class TraceNotFoundError(errors.CommandError):
    """The store has no hop of that trace."""


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Options of the command."""

    trace_id: str
    store: "Callable[[], Place]"
    wait_s: float
    as_json: bool


def do_trace(options: TraceOptions) -> int:
    """Show the trace. Raises UsageError, StoreError, TraceNotFoundError."""
    from insight.identifiers import parse_trace_id
    from overhop.stored import opened

    try:
        wanted = parse_trace_id(options.trace_id)
    except ValueError as error:
        raise errors.UsageError(str(error)) from None
    place = options.store()
    with output.patience("asking the store"), opened(place) as store:
        trace = settled(store, wanted, options.wait_s)
        if not trace.hops:
            raise TraceNotFoundError(not_found(trace, store, str(place)))
    if options.as_json:
        output.show_json(as_json(trace))
    else:
        from overhop.trace_view import render

        output.show(render(trace, output.console().width))
    return errors.DONE


def settled(store: "Store", wanted: "TraceId", wait_s: float) -> "Trace":
    """The trace, once it has hops and no more come; after `wait_s` seconds as it is then."""
    from insight.stored_trace import read_trace

    now_s = time.monotonic()
    deadline_s, found_at_s, hops = now_s + wait_s, now_s, 0
    while now_s < deadline_s and not (hops and now_s - found_at_s >= SETTLE_S):
        count = len(store.trace(wanted)["time"])
        now_s = time.monotonic()
        if count > hops:
            hops, found_at_s = count, now_s
        time.sleep(max(0.0, min(POLL_S, deadline_s - now_s)))
    return read_trace(store, wanted)


def as_json(trace: "Trace") -> dict[str, object]:
    """Everything as plain data (docs/cli.md)."""
    return asdict(trace)


def not_found(trace: "Trace", store: "Store", path: str) -> str:
    """One line: what was searched, and whether the trace could be there."""
    from insight.stored_trace import NodeState
    from insight.times import time_text
    from overhop.trace_view import kept_share

    known = store.nodes()
    where = f"trace {trace.trace_id}: not found in the store {path}"
    if not known:
        return f"{where}: it has no samples yet: does an agent write there?"
    first_ns = min(node["first_ns"] for node in known.values())
    last_ns = max(node["last_ns"] for node in known.values())
    shares = {share.node: kept_share(share.kept_shift) for share in trace.nodes}
    nodes = [f"{shortened(printable(node), 40) or '-'} ({shares[node]})" for node in sorted(known)]
    may_have_been = any(share.state is NodeState.NOT_SAMPLED for share in trace.nodes)
    sampling = ", where it may have been left out by sampling" if may_have_been else ""
    return f"{where}: searched {listed(nodes)}, {time_text(first_ns)} to {time_text(last_ns)}{sampling}"
