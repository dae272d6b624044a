# SPDX-License-Identifier: Apache-2.0
"""One trace's hops in the order in which they happened, over several nodes whose clocks may disagree.

What is certain comes first: on one node the order of its own clock; between nodes that a request leaves (tx)
before it passes a router (forward) and arrives (rx), the n-th transmission before the n-th arrival. Where
neither decides, real time does.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agent.clock import ClockOffset
from agent.summary import address_text
from bpf.record import ContextKind, Encap, Kind, Quality

Records = npt.NDArray[np.void]
"""An array of bpf.record.RECORD."""

_STAGES = (Kind.TX, Kind.FORWARD, Kind.RX)
"""The kinds that one request passes from node to node, in this order."""


@dataclass(frozen=True, slots=True)
class NodeRecords:
    """Raw records of one node, with its clock; nodes of equal `boot_id` share CLOCK_MONOTONIC."""

    node: str
    boot_id: str
    clock: ClockOffset
    records: Records


@dataclass(frozen=True, slots=True)
class Wire:
    """From the previous node's NIC to this one's. Unless `sure`, the clocks may differ by more than this."""

    time_ns: int
    error_ns: int
    sure: bool


@dataclass(frozen=True, slots=True)
class TraceHop:
    """One hop of a trace. Times in ns: `start_ns` and `end_ns` since 1970, at the first and second point.

    `source` and `destination` are address:port at the second point, `destination_before_nat` at the first.
    """

    node: str
    kind: str
    start_ns: int
    end_ns: int
    latency_ns: int
    source: str
    destination: str
    destination_before_nat: str
    span_id: str
    context: str
    context_offset_bytes: int
    """Where in the request the context begins."""
    encap: str
    seq: int
    ack: int
    first_ifindex: int
    second_ifindex: int
    payload_bytes: int
    quality: tuple[str, ...]
    wire: Wire | None = None
    """Only of an rx or forward whose predecessor on another node is known."""


@dataclass(slots=True)
class _Event:
    """A hop on its way into the order; `before` are the indices of what must come first."""

    hop: TraceHop
    origin: NodeRecords
    mono_ns: int
    before: set[int]


def trace_hops(nodes: Sequence[NodeRecords], trace_id: str) -> list[TraceHop]:
    """The hops of one trace (32 hex digits) in causal order. Raises ValueError if that is no trace id."""
    wanted = np.void(_trace_id(trace_id))
    events = [
        _event(node, record)
        for node in nodes
        for record in node.records[node.records["trace_id"] == wanted]
        if int(record["encap_context"]) >> 4 != ContextKind.NONE
    ]
    _order_within_nodes(events)
    for earlier, later in _transmissions(events):
        events[later].before.add(earlier)
        events[later].hop = replace(events[later].hop, wire=_wire(events[earlier], events[later]))
    return [events[at].hop for at in _sorted(events)]


def kinds_by_trace(nodes: Sequence[NodeRecords]) -> dict[str, list[tuple[str, str]]]:
    """For each trace id the (node, kind) of each of its hops, sorted by name, not by time."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for node in nodes:
        having = node.records[node.records["encap_context"] >> 4 != ContextKind.NONE]
        kinds = (having["kind_message"] & 0x0F).tolist()
        ids = np.ascontiguousarray(having["trace_id"]).tobytes()
        for at, kind in enumerate(kinds):
            found[ids[16 * at : 16 * at + 16].hex()].append((node.node, Kind(kind).label))
    return {trace: sorted(hops) for trace, hops in found.items()}


def _trace_id(text: str) -> bytes:
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        packed = b""
    if len(packed) != 16 or len(text) != 32:
        raise ValueError(f"{text!r} is no trace id: 32 hex digits")
    return packed


def _event(node: NodeRecords, record: np.void) -> _Event:
    second_ns, latency_ns = int(record["second_ns"]), int(record["latency_ns"])
    flags = [flag.name.lower() for flag in Quality if int(record["quality"]) & flag and flag.name]
    hop = TraceHop(
        node=node.node,
        kind=Kind(int(record["kind_message"]) & 0x0F).label,
        start_ns=second_ns - latency_ns + node.clock.offset_ns,
        end_ns=second_ns + node.clock.offset_ns,
        latency_ns=latency_ns,
        source=_endpoint(record["src"], record["sport"]),
        destination=_endpoint(record["dst"], record["dport"]),
        destination_before_nat=_endpoint(record["dst_before_nat"], record["dport_before_nat"]),
        span_id=record["span_id"].tobytes().hex(),
        context=ContextKind(int(record["encap_context"]) >> 4).label,
        context_offset_bytes=int(record["context_offset"]),
        encap=Encap(int(record["encap_context"]) & 0x0F).label,
        seq=int(record["seq"]),
        ack=int(record["ack"]),
        first_ifindex=int(record["first_ifindex"]),
        second_ifindex=int(record["second_ifindex"]),
        payload_bytes=int(record["payload_len"]),
        quality=tuple(flags),
    )
    return _Event(hop, node, second_ns - latency_ns, set())


def _endpoint(packed: np.void, port: np.uint16) -> str:
    address = address_text(packed.tobytes())
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _order_within_nodes(events: list[_Event]) -> None:
    """On one node each hop comes after those that began before it."""
    by_node: dict[str, list[int]] = defaultdict(list)
    for at, event in enumerate(events):
        by_node[event.hop.node].append(at)
    for members in by_node.values():
        members.sort(key=lambda at: events[at].mono_ns)
        for earlier, later in pairwise(members):
            events[later].before.add(earlier)


def _transmissions(events: Sequence[_Event]) -> Iterator[tuple[int, int]]:
    """(earlier, later) between nodes: the n-th sight of a request at one stage and at the next stage."""
    passages: dict[tuple[str, int, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at in sorted(range(len(events)), key=lambda at: events[at].hop.start_ns):
        hop = events[at].hop
        passages[hop.span_id, hop.seq, hop.ack][hop.kind].append(at)
    for passage in passages.values():
        stages = [passage[kind.label] for kind in _STAGES if passage[kind.label]]
        for earlier_stage, later_stage in pairwise(stages):
            for earlier, later in zip(earlier_stage, later_stage, strict=False):
                if events[earlier].hop.node != events[later].hop.node:
                    yield earlier, later


def _wire(earlier: _Event, later: _Event) -> Wire:
    """Time from the second point of `earlier` to the first of `later`, and the error of the clocks."""
    if earlier.origin.boot_id == later.origin.boot_id:
        left_ns = earlier.mono_ns + earlier.hop.latency_ns
        return Wire(later.mono_ns - left_ns, error_ns=0, sure=True)
    clocks = (earlier.origin.clock, later.origin.clock)
    error_ns = sum(clock.bound_ns + clock.maxerror_ns for clock in clocks)
    time_ns = later.hop.start_ns - earlier.hop.end_ns
    return Wire(time_ns, error_ns, sure=time_ns >= error_ns)


def _sorted(events: Sequence[_Event]) -> Iterator[int]:
    """Indices so that each comes after its `before`; of those that may come next the earliest.

    Contradictions (a packet duplicated on the wire) are solved by time.
    """
    waiting = set(range(len(events)))
    while waiting:
        free = [at for at in waiting if not events[at].before & waiting]
        chosen = min(free or waiting, key=lambda at: (events[at].hop.start_ns, at))
        waiting.remove(chosen)
        yield chosen
