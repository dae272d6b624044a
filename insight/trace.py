# SPDX-License-Identifier: Apache-2.0
"""One trace's hops in the order in which they happened, over several nodes whose clocks may disagree.

What is certain comes first: where one CLOCK_MONOTONIC stamped them, the order of that clock; between nodes
that a request leaves (tx) before it passes a router (forward) and arrives (rx), the n-th transmission before
the n-th arrival. Where neither decides, real time does. Pure; serves raw records (overhop/trace.py) and
stored samples (insight/stored_trace.py) alike.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from bpf.record import Kind

_STAGES = (Kind.TX, Kind.FORWARD, Kind.RX)
"""The kinds that one request passes from node to node, in this order."""


@dataclass(frozen=True, slots=True)
class Wire:
    """From the previous node's NIC to this one's. Unless `sure`, the clocks may differ by more than this."""

    time_ns: int
    error_ns: int
    sure: bool


@dataclass(frozen=True, slots=True)
class End:
    """Who is at one end of a hop; empty where nobody said. Without a pod `workload` may be a bucket."""

    namespace: str = ""
    pod: str = ""
    workload: str = ""


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
    begin_ns: int = 0
    """Since the first hop of the trace; clocks that contradict cause and effect are moved apart."""
    source_end: End = End()
    destination_end: End = End()
    service: str = ""
    """`namespace/name` where the destination was translated; `unknown` where that address is nobody's."""
    source_port_before_nat: int = 0
    vni: int = 0
    segments: int = 1
    """More than one: TCP segments that the kernel had merged."""
    tail: bool = False
    """Kept because it was among the slowest of its series."""
    kept_shift: int = 0
    """One in 2^n traces was kept on the node at that time."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A hop, and what places it in time."""

    hop: TraceHop
    mono_ns: int
    """First point, CLOCK_MONOTONIC of `boot_id`."""
    boot_id: str
    """Hops of equal boot share CLOCK_MONOTONIC, also on different nodes; empty: not known, the node's own."""
    clock_error_ns: int
    """How far the node's real time may be off."""

    @property
    def clock(self) -> tuple[str, str]:
        """Sightings of the same clock have the same."""
        return (self.boot_id, "") if self.boot_id else ("", self.hop.node)


@dataclass(slots=True)
class _Event:
    """A hop on its way into the order: indices of what must come first, and of the hop that sent it."""

    sighting: Sighting
    before: set[int] = field(default_factory=set)
    sent_by: int | None = None


def in_causal_order(sightings: Sequence[Sighting]) -> list[TraceHop]:
    """The hops, cause before effect, with `wire` and `begin_ns`."""
    events = [_Event(sighting) for sighting in sightings]
    _order_within_clocks(events)
    for earlier, later in _transmissions(sightings):
        events[later].before.add(earlier)
        events[later].sent_by = earlier
    return _placed(events, list(_sorted(events)))


def _order_within_clocks(events: Sequence[_Event]) -> None:
    """Of hops of one clock each comes after those that began before it."""
    by_clock: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, event in enumerate(events):
        by_clock[event.sighting.clock].append(at)
    for members in by_clock.values():
        members.sort(key=lambda at: events[at].sighting.mono_ns)
        for earlier, later in pairwise(members):
            events[later].before.add(earlier)


def _transmissions(sightings: Sequence[Sighting]) -> Iterator[tuple[int, int]]:
    """(earlier, later) between nodes: the n-th sight of a request at one stage and at the next stage."""
    passages: dict[tuple[str, int, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at in sorted(range(len(sightings)), key=lambda at: sightings[at].hop.start_ns):
        hop = sightings[at].hop
        passages[hop.span_id, hop.seq, hop.ack][hop.kind].append(at)
    for passage in passages.values():
        stages = [passage[kind.label] for kind in _STAGES if passage[kind.label]]
        for earlier_stage, later_stage in pairwise(stages):
            for earlier, later in zip(earlier_stage, later_stage, strict=False):
                if sightings[earlier].hop.node != sightings[later].hop.node:
                    yield earlier, later


def _sorted(events: Sequence[_Event]) -> Iterator[int]:
    """Indices so that each comes after its `before`; of those that may come next the earliest.

    Contradictions (a packet duplicated on the wire) are solved by time.
    """
    after: dict[int, list[int]] = defaultdict(list)
    for at, event in enumerate(events):
        for earlier in event.before:
            after[earlier].append(at)
    left = [len(event.before) for event in events]
    by_time = [(event.sighting.hop.start_ns, at) for at, event in enumerate(events)]
    free = [entry for entry in by_time if not left[entry[1]]]
    heapq.heapify(free)
    heapq.heapify(by_time)
    done: set[int] = set()
    while by_time:
        _, at = heapq.heappop(free or by_time)
        if at in done:
            continue
        done.add(at)
        yield at
        for later in after[at]:
            left[later] -= 1
            if not left[later] and later not in done:
                heapq.heappush(free, (events[later].sighting.hop.start_ns, later))


def _placed(events: Sequence[_Event], order: Sequence[int]) -> list[TraceHop]:
    """The hops in this order on one time axis: each clock's own distances, and nothing arrives unsent."""
    real_minus_mono: dict[tuple[str, str], int] = {}
    begins: dict[int, int] = {}
    hops = []
    for at in order:
        seen = events[at].sighting
        offset = real_minus_mono.setdefault(seen.clock, seen.hop.start_ns - seen.mono_ns)
        begin = seen.mono_ns + offset
        sent_by, wire = events[at].sent_by, None
        if sent_by is not None:
            wire = _wire(events[sent_by].sighting, seen)
            if sent_by in begins:
                begin = max(begin, begins[sent_by] + events[sent_by].sighting.hop.latency_ns)
                real_minus_mono[seen.clock] = begin - seen.mono_ns
        begins[at] = begin
        hops.append(replace(seen.hop, wire=wire, begin_ns=begin - begins[order[0]]))
    return hops


def _wire(earlier: Sighting, later: Sighting) -> Wire:
    """Time from the second point of `earlier` to the first of `later`, and the error of the clocks."""
    if earlier.boot_id and earlier.boot_id == later.boot_id:
        return Wire(later.mono_ns - earlier.mono_ns - earlier.hop.latency_ns, error_ns=0, sure=True)
    error_ns = earlier.clock_error_ns + later.clock_error_ns
    time_ns = later.hop.start_ns - earlier.hop.end_ns
    return Wire(time_ns, error_ns, sure=time_ns >= error_ns)
