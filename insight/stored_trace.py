# SPDX-License-Identifier: Apache-2.0
"""One trace out of the store: its hops in causal order, and what each node knows or cannot know of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

import numpy as np

from bpf.record import Quality
from insight.identifiers import is_kept, trace_id_text
from insight.trace import End, Sighting, TraceHop, in_causal_order
from store.query import Columns, Span, Store, TraceId, Where

AROUND_NS = 30_000_000_000
"""How far from a trace's own hops a node is looked at for how much it kept then."""
LAG_NS = 500_000_000
"""A hop is stored with the first row that is so much later at the latest, unless its agent is very busy."""
MAX_NODES_ASKED = 32
"""Of the nodes without a hop; for further ones the share that they keep now stands for then."""


class NodeState(StrEnum):
    """What a node's silence, or its hops, mean."""

    SEEN = "seen"
    TAIL_ONLY = "tail only"
    """The node did not keep this trace; these hops are there because they were among the slowest."""
    NOT_SAMPLED = "not sampled"
    """The node did not keep this trace: it may have passed there."""
    NOT_SEEN = "not seen"
    """The node kept this trace and has no hop of it: it did not pass there, or without its context."""
    BEHIND = "behind"
    """What the node stored ends with the trace: more of it may still come."""
    SILENT = "silent"
    """The node stored nothing at that time."""


@dataclass(frozen=True, slots=True)
class NodeShare:
    """One node of the store and one trace."""

    node: str
    state: NodeState
    hops: int
    kept_shift: int | None
    """One in 2^n traces was kept then; None: not known."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace as stored; no hops: it is not there."""

    trace_id: str
    hops: tuple[TraceHop, ...]
    nodes: tuple[NodeShare, ...]


def read_trace(store: Store, trace: TraceId) -> Trace:
    """All there is of one trace. Raises StoreError."""
    hops = tuple(in_causal_order(_sightings(store.trace(trace))))
    known = store.nodes()
    return Trace(trace_id_text(trace), hops, _shares(store, known, trace, hops))


def _shares(
    store: Store, known: Mapping[str, Mapping[str, int]], trace: TraceId, hops: Sequence[TraceHop]
) -> tuple[NodeShare, ...]:
    by_node: dict[str, list[TraceHop]] = {}
    for hop in hops:
        by_node.setdefault(hop.node, []).append(hop)
    shares = [_of_hops(node, found, trace) for node, found in by_node.items()]
    complete_ns = max((hop.end_ns for hop in hops), default=-LAG_NS) + LAG_NS
    without = sorted(node for node in known if node not in by_node)
    for number, node in enumerate(without):
        shift: int | None = known[node]["kept_shift"]
        if hops and number < MAX_NODES_ASKED:
            shift = _shift_then(store, node, hops)
        shares.append(_of_silence(node, shift, trace, is_behind=known[node]["last_ns"] < complete_ns))
    return tuple(shares)


def _of_hops(node: str, hops: Sequence[TraceHop], trace: TraceId) -> NodeShare:
    shift = max(hop.kept_shift for hop in hops)
    partly = all(hop.tail for hop in hops) and not is_kept(trace, shift)
    return NodeShare(node, NodeState.TAIL_ONLY if partly else NodeState.SEEN, len(hops), shift)


def _of_silence(node: str, shift: int | None, trace: TraceId, *, is_behind: bool) -> NodeShare:
    if shift is None:
        return NodeShare(node, NodeState.SILENT, 0, None)
    if not is_kept(trace, shift):
        return NodeShare(node, NodeState.NOT_SAMPLED, 0, shift)
    return NodeShare(node, NodeState.BEHIND if is_behind else NodeState.NOT_SEEN, 0, shift)


def _shift_then(store: Store, node: str, hops: Sequence[TraceHop]) -> int | None:
    """The largest share that the node left out around the trace; None if it stored nothing then."""
    since_ns = min(hop.start_ns for hop in hops) - AROUND_NS
    until_ns = max(hop.end_ns for hop in hops) + AROUND_NS
    around = Span(since_ns, until_ns)
    shifts = store.samples(around, Where(node=node), limit=1000, columns=("kept_shift",))["kept_shift"]
    return int(shifts.max()) if len(shifts) else None


def _sightings(columns: Columns) -> list[Sighting]:
    names = list(columns)
    lists = [np.asarray(columns[name]).tolist() for name in names]
    return [_sighting(dict(zip(names, row, strict=True))) for row in zip(*lists, strict=True)]


def _sighting(row: Mapping[str, int | str]) -> Sighting:
    number = {name: value for name, value in row.items() if isinstance(value, int)}
    text = {name: value for name, value in row.items() if isinstance(value, str)}
    end_ns, latency_ns = number["at_ns"], number["latency_ns"]
    flags = (flag.name.lower() for flag in Quality if number["quality"] & flag and flag.name)
    hop = TraceHop(
        node=text["node"],
        kind=text["kind"],
        start_ns=end_ns - latency_ns,
        end_ns=end_ns,
        latency_ns=latency_ns,
        source=_endpoint(number, "src", "sport"),
        destination=_endpoint(number, "dst", "dport"),
        destination_before_nat=_endpoint(number, "dst_before", "dport_before"),
        span_id=f"{number['span']:016x}",
        context=text["context"],
        context_offset_bytes=number["context_offset"],
        encap=text["encap"],
        seq=number["seq"],
        ack=number["ack"],
        first_ifindex=number["first_ifindex"],
        second_ifindex=number["second_ifindex"],
        payload_bytes=number["payload_bytes"],
        quality=tuple(flags),
        source_end=End(text["src_ns"], text["src_pod"], text["src_workload"]),
        destination_end=End(text["dst_ns"], text["dst_pod"], text["dst_workload"]),
        service=text["service"],
        source_port_before_nat=number["sport_before"],
        vni=number["vni"],
        segments=number["segments"],
        tail=bool(number["tail"]),
        kept_shift=number["kept_shift"],
    )
    error_ns = number["clock_bound_ns"] + number["clock_maxerror_ns"]
    return Sighting(hop, number["mono_ns"] - latency_ns, text["boot_id"], error_ns)


def _endpoint(number: Mapping[str, int], address: str, port: str) -> str:
    packed = IPv6Address(number[f"{address}_hi"] << 64 | number[f"{address}_lo"])
    if packed.ipv4_mapped is not None:
        return f"{packed.ipv4_mapped}:{number[port]}"
    return f"[{packed}]:{number[port]}"
