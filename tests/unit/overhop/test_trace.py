# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address

import numpy as np
import pytest

from agent.clock import ClockOffset
from bpf.record import RECORD, Kind, Quality
from overhop.trace import NodeRecords, Wire, kinds_by_trace, trace_hops

TRACE = "0af7651916cd43dd8448eb211c80319c"


def clock(offset_ns: int, maxerror_ns: int = 0) -> ClockOffset:
    return ClockOffset(offset_ns, 10, maxerror_ns, 0, 0)


def hop(
    kind: Kind,
    start_ns: int,
    *,
    latency_ns: int = 50,
    seq: int = 1,
    span: int = 1,
    trace: str = TRACE,
    quality: int = 0,
    context: int = 1,
) -> np.ndarray:
    row = np.zeros(1, RECORD)
    row["trace_id"] = np.void(bytes.fromhex(trace))
    row["span_id"] = np.void(span.to_bytes(8, "big"))
    row["second_ns"] = start_ns + latency_ns
    row["latency_ns"] = latency_ns
    row["seq"] = seq
    row["kind_message"] = kind
    row["encap_context"] = context << 4 | 1
    row["quality"] = quality
    for name, address in (("src", "10.0.0.1"), ("dst", "10.0.1.1"), ("dst_before_nat", "10.96.0.9")):
        row[name] = np.void(bytes(10) + b"\xff\xff" + IPv4Address(address).packed)
    row["sport"], row["dport"], row["dport_before_nat"] = 40000, 8080, 80
    return row


def node(name: str, offset: ClockOffset, *hops: np.ndarray, boot_id: str = "") -> NodeRecords:
    return NodeRecords(name, boot_id or name, offset, np.concatenate([np.empty(0, RECORD), *hops]))


def order(nodes: list[NodeRecords]) -> list[tuple[str, str, int]]:
    return [(one.node, one.kind, one.seq) for one in trace_hops(nodes, TRACE)]


def test_trace_hops_of_two_agreeing_clocks_are_in_order_of_time() -> None:
    a = node("a", clock(0), hop(Kind.TX, 1000))
    b = node("b", clock(0), hop(Kind.RX, 1300))
    assert order([b, a]) == [("a", "tx", 1), ("b", "rx", 1)]


def test_trace_hops_with_a_clock_that_is_behind_keep_cause_before_effect() -> None:
    a = node("a", clock(0), hop(Kind.TX, 1_000_000))
    b = node("b", clock(-900_000), hop(Kind.RX, 1_000_300), hop(Kind.TX, 1_000_900, seq=7, span=2))
    a2 = node("a", clock(0), hop(Kind.TX, 1_000_000), hop(Kind.RX, 1_001_200, seq=7, span=2))
    assert order([a, b]) == [("a", "tx", 1), ("b", "rx", 1), ("b", "tx", 7)]
    assert order([b, a2]) == [("a", "tx", 1), ("b", "rx", 1), ("b", "tx", 7), ("a", "rx", 7)]


def test_trace_hops_through_a_router_pass_it_between_the_nodes() -> None:
    nodes = [
        node("a", clock(0), hop(Kind.TX, 5000)),
        node("r", clock(-4000), hop(Kind.FORWARD, 5200)),
        node("b", clock(-4500), hop(Kind.RX, 5400)),
    ]
    assert order(nodes) == [("a", "tx", 1), ("r", "forward", 1), ("b", "rx", 1)]


def test_trace_hops_of_a_retransmission_pair_nth_with_nth() -> None:
    a = node("a", clock(0), hop(Kind.TX, 1000), hop(Kind.TX, 201_000, quality=Quality.RETRANSMIT))
    b = node("b", clock(-500_000), hop(Kind.RX, 1300), hop(Kind.RX, 201_300, quality=Quality.RETRANSMIT))
    found = trace_hops([a, b], TRACE)
    assert [(one.node, one.kind, one.quality) for one in found] == [
        ("a", "tx", ()),
        ("b", "rx", ()),
        ("a", "tx", ("retransmit",)),
        ("b", "rx", ("retransmit",)),
    ]


def test_trace_hops_whose_first_packet_was_lost_still_follow_their_transmission() -> None:
    a = node("a", clock(0), hop(Kind.TX, 1000), hop(Kind.TX, 201_000))
    b = node("b", clock(0), hop(Kind.RX, 201_300))
    assert order([a, b]) == [("a", "tx", 1), ("a", "tx", 1), ("b", "rx", 1)]


def test_trace_hops_with_contradicting_order_end_by_time() -> None:
    a = node("a", clock(0), hop(Kind.RX, 100, seq=2), hop(Kind.TX, 200, seq=1))
    b = node("b", clock(0), hop(Kind.RX, 150, seq=1), hop(Kind.TX, 300, seq=2))
    assert order([a, b]) == [("a", "rx", 2), ("a", "tx", 1), ("b", "rx", 1), ("b", "tx", 2)]


def test_trace_hops_leave_other_traces_and_hops_without_context_out() -> None:
    other = "0af7651916cd43dd8448eb2100000000"
    a = node("a", clock(0), hop(Kind.TX, 1, trace=other), hop(Kind.TX, 2, context=0), hop(Kind.LOCAL, 3))
    assert order([a]) == [("a", "local", 1)]


def test_trace_hops_finds_ids_that_end_in_zero_bytes() -> None:
    zero_end = "00000000000000000100000000000000"
    found = trace_hops([node("a", clock(0), hop(Kind.TX, 1, trace=zero_end))], zero_end)
    assert len(found) == 1


def test_trace_hop_says_times_ends_and_addresses() -> None:
    (one,) = trace_hops([node("a", clock(1_000_000), hop(Kind.TX, 500, latency_ns=20, span=0xAB))], TRACE)
    assert (one.start_ns, one.end_ns, one.latency_ns) == (1_000_500, 1_000_520, 20)
    assert (one.source, one.destination) == ("10.0.0.1:40000", "10.0.1.1:8080")
    assert one.destination_before_nat == "10.96.0.9:80"
    assert (one.span_id, one.context, one.encap) == ("00000000000000ab", "w3c", "vxlan")
    assert one.wire is None


def test_wire_time_between_nodes_of_one_boot_is_sure() -> None:
    a = node("a", clock(0, maxerror_ns=10**9), hop(Kind.TX, 1000, latency_ns=50), boot_id="same")
    b = node("b", clock(77, maxerror_ns=10**9), hop(Kind.RX, 1250), boot_id="same")
    assert trace_hops([a, b], TRACE)[1].wire == Wire(time_ns=200, error_ns=0, sure=True)


def test_wire_time_below_the_clocks_error_is_unsure() -> None:
    a = node("a", clock(0, maxerror_ns=1000), hop(Kind.TX, 1000, latency_ns=50))
    b = node("b", clock(100, maxerror_ns=500), hop(Kind.RX, 1250))
    assert trace_hops([a, b], TRACE)[1].wire == Wire(time_ns=300, error_ns=1520, sure=False)


def test_wire_time_above_the_clocks_error_is_sure() -> None:
    a = node("a", clock(0, maxerror_ns=100), hop(Kind.TX, 1000, latency_ns=50))
    b = node("b", clock(0, maxerror_ns=100), hop(Kind.RX, 1550))
    assert trace_hops([a, b], TRACE)[1].wire == Wire(time_ns=500, error_ns=220, sure=True)


@pytest.mark.parametrize("text", ["", "zz", TRACE[:-2], TRACE + "00", TRACE[:-1] + " "])
def test_trace_hops_of_no_trace_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no trace id: 32 hex digits"):
        trace_hops([], text)


def test_kinds_by_trace_lists_every_hop_of_each_trace() -> None:
    other = "ffffffffffffffffffffffffffffffff"
    a = node(
        "a",
        clock(0),
        hop(Kind.TX, 1),
        hop(Kind.TX, 2),
        hop(Kind.TX, 3, trace=other),
        hop(Kind.TX, 4, context=0),
    )
    b = node("b", clock(0), hop(Kind.RX, 5))
    assert kinds_by_trace([b, a]) == {
        TRACE: [("a", "tx"), ("a", "tx"), ("b", "rx")],
        other: [("a", "tx")],
    }
