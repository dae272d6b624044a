# SPDX-License-Identifier: Apache-2.0
"""Which of the requests that were sent have every hop of their route. Pure.

A request with a context is found by its trace id, among hops whose context is of the kind that was sent. One
without is found by its connection: the hop at the first node has the client's port and the address it called,
the other hops have the same addresses, ports, seq and ack.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import numpy.typing as npt

from bpf.record import ContextKind, Kind
from overhop.trace import NodeRecords, Records, kinds_by_trace

FOUND_BY = (
    "trace id and kind of context; a request without context by its connection: client port and called "
    "address at the first hop, the same addresses, ports, seq and ack at the others"
)
Stop = tuple[str, str]
"""(node, kind of hop)"""


@dataclass(frozen=True, slots=True)
class Route:
    """A way that requests go, and the hops that each of them must have, in order."""

    name: str
    source: str
    target: str
    """As people read it."""
    address: IPv4Address | IPv6Address
    port: int
    """What the client calls, before any NAT."""
    stops: tuple[Stop, ...]


@dataclass(frozen=True, slots=True)
class Took:
    """How long requests took for their client: to the answer, at a constant rate from when they were due."""

    p50_us: float
    p99_us: float
    max_us: float
    elapsed_s: float
    """Of all together."""
    sent_late: int = 0
    """Requests that were sent more than 1 ms after they were due."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Requests of one kind of context along one route, all answered."""

    route: Route
    context: ContextKind
    requests: int
    trace_ids: tuple[str, ...] = ()
    """32 hex digits each; none without context."""
    source_ports: tuple[int, ...] = ()
    """Of the client's connections."""
    took: Took | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """How many of the requests sent have all hops of their route."""

    sent: Sent
    found: int
    trace_ids: tuple[str, ...] = ()
    """Of the found ones that have a context."""


def find(nodes: Sequence[NodeRecords], everything: Sequence[Sent]) -> list[Found]:
    """The outcome of each load, in their order."""
    by_context = {
        kind: kinds_by_trace([_of_context(node, kind) for node in nodes])
        for kind in ContextKind
        if kind != ContextKind.NONE
    }
    without = [_of_context(node, ContextKind.NONE) for node in nodes]
    return [
        _by_connection(without, sent)
        if sent.context == ContextKind.NONE
        else _by_trace_id(by_context[sent.context], sent)
        for sent in everything
    ]


def shares(requests: int, parts: int) -> list[int]:
    """`requests` in `parts` equal parts; what is left over goes to the first ones, one each."""
    each, left = divmod(requests, parts)
    return [each + (at < left) for at in range(parts)]


def typical_trace(nodes: Sequence[NodeRecords], trace_ids: Sequence[str]) -> str:
    """The trace whose hops took, together, the median of all of them. Raises ValueError without any."""
    took_ns: dict[str, int] = defaultdict(int)
    for node in nodes:
        latencies_ns = node.records["latency_ns"].tolist()
        for trace_id, latency_ns in zip(_trace_ids(node.records), latencies_ns, strict=True):
            took_ns[trace_id] += latency_ns
    ordered = sorted(trace_ids, key=lambda trace_id: (took_ns[trace_id], trace_id))
    if not ordered:
        raise ValueError("no trace to choose from")
    return ordered[(len(ordered) - 1) // 2]


def _by_trace_id(seen: Mapping[str, list[Stop]], sent: Sent) -> Found:
    needed = Counter(sent.route.stops)
    found = tuple(trace_id for trace_id in sent.trace_ids if needed <= Counter(seen.get(trace_id, ())))
    return Found(sent, len(found), found)


def _by_connection(nodes: Sequence[NodeRecords], sent: Sent) -> Found:
    first, *others = (_at(nodes, stop) for stop in sent.route.stops)
    packets = set(_packets(first[_begins(first, sent)]))
    for records in others:
        packets &= set(_packets(records))
    return Found(sent, len(packets))


def _begins(records: Records, sent: Sent) -> npt.NDArray[np.bool_]:
    """Which first hops belong to connections of this load."""
    address = sent.route.address
    prefix = bytes(10) + b"\xff\xff" if address.version == 4 else b""
    called = np.void(prefix + address.packed)
    begins: npt.NDArray[np.bool_] = (
        np.isin(records["sport_before_nat"], sent.source_ports)
        & (records["dst_before_nat"] == called)
        & (records["dport_before_nat"] == sent.route.port)
    )
    return begins


def _at(nodes: Sequence[NodeRecords], stop: Stop) -> Records:
    name, kind = stop
    (records,) = (node.records for node in nodes if node.node == name)
    chosen: Records = records[records["kind_message"] & 0x0F == Kind[kind.upper()]]
    return chosen


def _packets(records: Records) -> Iterator[tuple[object, ...]]:
    """What names a packet on every node: addresses, ports, seq, ack."""
    addresses = ([address.tobytes() for address in records[name]] for name in ("src", "dst"))
    numbers = (records[name].tolist() for name in ("sport", "dport", "seq", "ack"))
    return zip(*addresses, *numbers, strict=True)


def _trace_ids(records: Records) -> list[str]:
    packed = np.ascontiguousarray(records["trace_id"]).tobytes()
    return [packed[16 * at : 16 * at + 16].hex() for at in range(len(records))]


def _of_context(node: NodeRecords, kind: ContextKind) -> NodeRecords:
    return replace(node, records=node.records[node.records["encap_context"] >> 4 == kind])
