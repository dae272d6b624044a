# SPDX-License-Identifier: Apache-2.0
"""Traces of raw records, as the recordings of the agents of several nodes have them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.clock import ClockOffset
from bpf.record import ContextKind, Encap, Kind, Quality, address_text
from insight.trace import Sighting, TraceHop, Wire, in_causal_order

__all__ = ["NodeRecords", "Records", "TraceHop", "Wire", "kinds_by_trace", "trace_hops"]

Records = npt.NDArray[np.void]
"""An array of bpf.record.RECORD."""


@dataclass(frozen=True, slots=True)
class NodeRecords:
    """Raw records of one node, with its clock; nodes of equal `boot_id` share CLOCK_MONOTONIC."""

    node: str
    boot_id: str
    clock: ClockOffset
    records: Records


def trace_hops(nodes: Sequence[NodeRecords], trace_id: str) -> list[TraceHop]:
    """The hops of one trace (32 hex digits) in causal order. Raises ValueError if that is no trace id."""
    wanted = np.void(_trace_id(trace_id))
    return in_causal_order(
        [
            _sighting(node, record)
            for node in nodes
            for record in node.records[node.records["trace_id"] == wanted]
            if int(record["encap_context"]) >> 4 != ContextKind.NONE
        ]
    )


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


def _sighting(node: NodeRecords, record: np.void) -> Sighting:
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
        source_port_before_nat=int(record["sport_before_nat"]),
        vni=int(record["vni"]),
        segments=int(record["segments"]),
    )
    error_ns = node.clock.bound_ns + node.clock.maxerror_ns
    return Sighting(hop, second_ns - latency_ns, node.boot_id, error_ns)


def _endpoint(packed: np.void, port: np.uint16) -> str:
    address = address_text(packed.tobytes())
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
