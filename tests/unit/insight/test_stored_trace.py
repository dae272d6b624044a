# SPDX-License-Identifier: Apache-2.0
from insight.stored_trace import NodeShare, NodeState, Trace, read_trace
from insight.trace import End, Wire
from store.query import TraceId
from tests.unit.memory_store import AT_NS, MemoryStore, Row, S, address, sample

WANTED = TraceId(0x0AF7651916CD43DD, 0x8448EB211C80319C)
OTHER: dict[str, int | str] = {"trace_hi": 7, "trace_lo": 7}


def read(*rows: Row) -> Trace:
    return read_trace(MemoryStore.of(*rows), WANTED)


def nat(text: str, port: int) -> dict[str, int | str]:
    hi, lo = address(text)
    return {"dst_before_hi": hi, "dst_before_lo": lo, "dport_before": port}


def test_read_trace_says_all_of_a_sample() -> None:
    (hop,) = read(
        sample(
            **nat("10.96.0.10", 80),
            src_workload="external",
            dst_ns="shop",
            dst_pod="cart-1",
            dst_workload="cart",
            service="shop/cart",
            quality=8 | 16,
            sport_before=31000,
            encap="vxlan",
            vni=7,
            segments=2,
            tail=1,
            kept_shift=3,
        )
    ).hops
    assert (hop.node, hop.kind, hop.latency_ns) == ("n1", "rx", 50_000)
    assert (hop.start_ns, hop.end_ns, hop.begin_ns) == (AT_NS - 50_000, AT_NS, 0)
    assert (hop.source, hop.destination) == ("10.0.0.9:40000", "10.244.1.3:9080")
    assert (hop.destination_before_nat, hop.source_port_before_nat) == ("10.96.0.10:80", 31000)
    assert (hop.source_end, hop.destination_end) == (End("", "", "external"), End("shop", "cart-1", "cart"))
    assert (hop.service, hop.quality, hop.span_id) == ("shop/cart", ("dnat", "snat"), "00000000000000ab")
    assert (hop.encap, hop.vni, hop.segments, hop.tail, hop.kept_shift) == ("vxlan", 7, 2, True, 3)
    assert (hop.context, hop.context_offset_bytes, hop.payload_bytes) == ("w3c", 396, 500)


def test_read_trace_of_ipv6_writes_brackets() -> None:
    (hop,) = read(sample(dst_hi=0xFD00 << 48, dst_lo=3)).hops
    assert hop.destination == "[fd00::3]:9080"


def test_read_trace_of_nodes_of_one_boot_knows_the_wire_exactly() -> None:
    found = read(
        sample(kind="rx", node="n2", at_ns=AT_NS + 70_000, mono_ns=5 * S + 75_000, latency_ns=20_000),
        sample(kind="tx", mono_ns=5 * S, clock_maxerror_ns=16 * S),
    )
    assert [(hop.node, hop.kind, hop.begin_ns) for hop in found.hops] == [
        ("n1", "tx", 0),
        ("n2", "rx", 105_000),
    ]
    assert found.hops[1].wire == Wire(55_000, 0, sure=True)


def test_read_trace_of_two_boots_below_the_error_is_unsure_and_effect_follows_cause() -> None:
    found = read(
        sample(
            kind="rx", node="n2", boot_id="two", at_ns=AT_NS - 400_000, latency_ns=20_000, clock_bound_ns=100
        ),
        sample(
            kind="local", node="n2", boot_id="two", seq=9, at_ns=AT_NS - 300_000, mono_ns=5 * S + 100_000,
            latency_ns=10_000,
        ),
        sample(kind="tx", clock_maxerror_ns=1_000_000, clock_bound_ns=50),
    )  # fmt: skip
    assert [(hop.kind, hop.begin_ns) for hop in found.hops] == [("tx", 0), ("rx", 50_000), ("local", 160_000)]
    assert found.hops[1].wire == Wire(-420_000, 1_000_150, sure=False)


def test_read_trace_of_one_node_before_and_after_a_reboot_is_in_order_of_real_time() -> None:
    found = read(
        sample(seq=2, boot_id="after", at_ns=AT_NS + S, mono_ns=S),
        sample(seq=1, boot_id="before", at_ns=AT_NS, mono_ns=9 * S),
    )
    assert [hop.seq for hop in found.hops] == [1, 2]


def test_read_trace_tells_not_sampled_from_not_seen() -> None:
    # The hash of the trace's id is 0xB62EFFD90A63CD53: no zero bit on top.
    found = read(
        sample(),
        sample(**OTHER, node="all", kept_shift=0, time=AT_NS + S),
        sample(**OTHER, node="few", kept_shift=6, time=AT_NS + S),
        sample(**OTHER, node="slow", kept_shift=0, time=AT_NS + S // 10),
        sample(**OTHER, node="gone", kept_shift=0, time=AT_NS - 3600 * S),
    )
    assert found.nodes == (
        NodeShare("n1", NodeState.SEEN, 1, 0),
        NodeShare("all", NodeState.NOT_SEEN, 0, 0),
        NodeShare("few", NodeState.NOT_SAMPLED, 0, 6),
        NodeShare("gone", NodeState.SILENT, 0, None),
        NodeShare("slow", NodeState.BEHIND, 0, 0),
    )


def test_read_trace_with_tails_only_is_incomplete() -> None:
    found = read(sample(tail=1, kept_shift=10), sample(node="n2", tail=1, kept_shift=0))
    assert [(share.node, share.state) for share in found.nodes] == [
        ("n1", NodeState.TAIL_ONLY),
        ("n2", NodeState.SEEN),
    ]


def test_read_trace_that_is_not_there_has_no_hops() -> None:
    found = read(sample(**OTHER, kept_shift=10))
    assert (found.trace_id, found.hops) == ("0af7651916cd43dd8448eb211c80319c", ())
    assert [share.state for share in found.nodes] == [NodeState.NOT_SAMPLED]
