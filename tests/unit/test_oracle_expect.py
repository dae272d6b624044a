# SPDX-License-Identifier: Apache-2.0
"""The model's slots, filter and record, with literal expectations from docs/datapath.md §3 and §5."""

import numpy as np
import pytest

from bpf.record import RECORD, Point, Quality
from bpf.spec import ProgramSpec
from tests.oracle.context import Context
from tests.oracle.expect import Model, Step, VportFilter, Vports, is_kept
from tests.oracle.slots import hash_source, place
from tests.unit.handmade import ETHER4, TCP, UDP_VXLAN, VXLAN, ipv4

HEADERS = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\n" + HEADERS
INNER = ETHER4 + ipv4(TCP + REQUEST)
OUTER = ETHER4 + ipv4(UDP_VXLAN + VXLAN + INNER, 17)
NIC_IN, VPORT_IN, NIC_OUT, VPORT_OUT = Point


def after(*steps: Step, spec: ProgramSpec | None = None, vports: Vports | None = None) -> Model:
    model = Model(spec or ProgramSpec(), vports or Vports(), has_socket=False)
    for step in steps:
        model.run(step)
    return model


def record(model: Model) -> np.void:
    row: np.void = np.frombuffer(model.records[-1], RECORD)[0]
    return row


def test_place_of_a_key_is_golden_ratio_hash() -> None:
    # 1 * 0x9E3779B97F4A7C15: top 12 bits 0x9E3 are the set, bit 63 is cleared in the word.
    assert place(0, 1, 4096) == (0x9E3, 0x1E3779B97F4A7C15)


def test_place_of_key_zero_is_remapped() -> None:
    assert place(0, 0, 4096) == (0, 2)


def test_hash_source_of_ipv4_and_ipv6() -> None:
    # (1 * 0x9E3779B1) >> 16; for IPv6 the xor of ff000000 and ff000001 is the same 1.
    assert hash_source(bytes(10) + b"\xff\xff\0\0\0\1", False) == 0x9E37
    assert hash_source(b"\xff\0\0\0" + bytes(8) + b"\xff\0\0\1", True) == 0x9E37


def test_model_rx_record_has_the_tunnel_of_the_nic_and_the_context() -> None:
    row = record(after(Step(NIC_IN, OUTER, 7), Step(VPORT_OUT, INNER, 9, 1448, 3)))
    assert (row["kind_message"], row["encap_context"], row["vni"]) == (1, 0x11, 0x123456)
    assert row["trace_id"].tobytes().hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert row["span_id"].tobytes().hex() == "00f067aa0ba902b7"
    assert (row["first_ifindex"], row["second_ifindex"], row["segments"]) == (7, 9, 3)
    assert (row["seq"], row["ack"], row["payload_len"]) == (3, 4, 88)
    assert (row["sport"], row["dport"], row["dport_before_nat"]) == (40000, 8080, 8080)
    assert row["dst"].tobytes().hex() == "00000000000000000000ffff0a020002"
    assert (row["context_offset"], row["trace_flags"], row["quality"]) == (16, 1, 0)


@pytest.mark.parametrize(
    ("first", "second", "kind", "encap", "vni"),
    [
        (Step(VPORT_IN, INNER), Step(NIC_OUT, OUTER), 2, 1, 0x123456),
        (Step(VPORT_IN, INNER), Step(VPORT_OUT, INNER), 3, 0, 0),
        (Step(NIC_IN, INNER), Step(NIC_OUT, OUTER), 4, 1, 0x123456),
        (Step(NIC_IN, OUTER), Step(NIC_OUT, INNER), 4, 1, 0x123456),
        (Step(NIC_IN, INNER), Step(NIC_OUT, INNER), 4, 0, 0),
    ],
)
def test_model_kind_and_tunnel_of_each_pair(
    first: Step, second: Step, kind: int, encap: int, vni: int
) -> None:
    row = record(after(first, second))
    assert (row["kind_message"], row["encap_context"] & 15, row["vni"]) == (kind, encap, vni)


def test_model_nat_sets_its_quality_bits() -> None:
    moved = INNER.replace(b"\x1f\x90", b"\x00\x50")
    row = record(after(Step(VPORT_IN, moved), Step(VPORT_OUT, INNER)))
    assert (row["quality"], row["dport_before_nat"]) == (Quality.DNAT, 80)
    masked = INNER.replace(b"\x9c\x40", b"\x9c\x41")
    assert record(after(Step(VPORT_IN, masked), Step(VPORT_OUT, INNER)))["quality"] == Quality.SNAT


def test_model_retransmission_refreshes_a_waiting_stamp() -> None:
    model = after(Step(NIC_IN, OUTER), Step(NIC_IN, OUTER), Step(VPORT_OUT, INNER))
    assert dict(model.counters) == {"first": 2, "refreshed": 1, "second": 1, "taken": 1, "records": 1}
    assert record(model)["quality"] == Quality.RETRANSMIT


def test_model_retransmission_of_a_taken_stamp_is_a_new_one() -> None:
    model = after(*[Step(NIC_IN, OUTER), Step(VPORT_OUT, INNER)] * 2)
    assert dict(model.counters) == {"first": 2, "second": 2, "taken": 2, "records": 2}
    assert record(model)["quality"] == Quality.RETRANSMIT


def test_model_same_key_from_elsewhere_overwrites() -> None:
    model = after(Step(NIC_IN, OUTER, 1), Step(NIC_IN, OUTER, 2), Step(VPORT_OUT, INNER))
    assert model.counters["overwritten"] == 1
    assert record(model)["quality"] == 0


def test_model_second_without_first_is_unmatched() -> None:
    model = after(Step(VPORT_OUT, INNER))
    assert dict(model.counters) == {"second": 1, "unmatched": 1}


def test_model_second_of_a_taken_stamp_is_counted_apart() -> None:
    model = after(Step(NIC_IN, OUTER), Step(VPORT_OUT, INNER), Step(VPORT_OUT, INNER))
    assert model.counters["unmatched_taken"] == 1


def test_model_third_stamp_of_a_set_overwrites_the_oldest() -> None:
    keys = [number.to_bytes(4, "big") for number in range(40)]
    packets = [INNER.replace(b"\0\0\0\3\0\0\0\4", b"\0\0\0\3" + key) for key in keys]
    spec = ProgramSpec(sets=2)
    mine = [packet for packet, key in zip(packets, keys, strict=True) if not place(3, key[3], 2)[0]][:3]
    model = after(*(Step(VPORT_IN, packet) for packet in mine), spec=spec)
    assert dict(model.counters) == {"first": 3, "overwritten": 1}
    for packet in mine:
        model.run(Step(VPORT_OUT, packet))
    assert (model.counters["taken"], model.counters["unmatched"]) == (2, 1)


def test_model_owner_check_refuses_the_wrong_vport_only() -> None:
    dst = bytes(10) + b"\xff\xff" + bytes.fromhex("0a020002")
    known = Vports(owners=frozenset({(5, bytes(16)), (6, bytes(16)), (6, dst)}))
    steps = [Step(NIC_IN, OUTER), Step(VPORT_OUT, INNER, 5), Step(VPORT_OUT, INNER, 6)]
    model = after(*steps, vports=known)
    assert (model.counters["not_for_this_vport"], model.counters["records"]) == (1, 1)
    assert after(Step(NIC_IN, OUTER), Step(VPORT_OUT, INNER, 7), vports=known).counters["records"] == 1


@pytest.mark.parametrize(
    ("first", "second", "counter"),
    [
        (VportFilter(3, 0, 0), VportFilter(3, 0, 0), "records"),
        (VportFilter(1, 0, 0), VportFilter(2, 0, 0), "records"),
        (VportFilter(2, 0, 0), VportFilter(3, 0, 0), "filtered"),
        (VportFilter(3, 0, 0), VportFilter(1, 0, 0), "filtered"),
        (VportFilter(3, 0, 1), VportFilter(3, 0, 1), "records"),
        (VportFilter(3, 15, 0), VportFilter(3, 0, 0), "sampled_out"),
    ],
)
def test_model_filter_of_both_vports_decides(first: VportFilter, second: VportFilter, counter: str) -> None:
    vports = Vports(filters={1: first, 2: second})
    steps = Step(VPORT_IN, INNER, 1), Step(VPORT_OUT, INNER, 2)
    model = after(*steps, spec=ProgramSpec(filter=True), vports=vports)
    assert dict(model.counters) == {"first": 1, "second": 1, "taken": 1, counter: 1}


def test_model_vport_without_entry_is_filtered() -> None:
    model = after(Step(NIC_IN, OUTER), Step(VPORT_OUT, INNER), spec=ProgramSpec(filter=True))
    assert model.counters["filtered"] == 1


def test_model_without_context_passes_shift_and_fails_require_sampled() -> None:
    bare = ETHER4 + ipv4(TCP + b"GET / HTTP/1.1\r\n\r\n")
    for wanted, counter in ((VportFilter(3, 15, 0), "records"), (VportFilter(3, 0, 1), "sampled_out")):
        vports = Vports(filters={1: wanted})
        steps = Step(VPORT_IN, bare), Step(VPORT_OUT, bare)
        model = after(*steps, spec=ProgramSpec(filter=True), vports=vports)
        assert model.counters[counter] == 1


def test_is_kept_follows_the_top_bits_of_the_hash() -> None:
    # trace id 1: the hash is 0xC2B2AE3D27D4EB4F, top bit 1. Trace id 2: 0x85655C7A4FA9D69E, top bit 1.
    # Trace id 3: 0x48180AB7777EC1ED = 0100..., kept by one bit, not by two.
    def context(number: int) -> Context:
        return Context(1, number.to_bytes(16, "big"), b"", 0, 0, 0)

    assert [is_kept(context(number), 1) for number in (1, 2, 3)] == [False, False, True]
    assert not is_kept(context(3), 2)
    assert is_kept(context(1), 0)


def test_model_tls_and_h2_count_per_vport_with_an_entry() -> None:
    tls = ETHER4 + ipv4(TCP + b"\x16\x03\x01\0")
    model = after(Step(VPORT_IN, tls, 5), Step(VPORT_OUT, tls, 6), vports=Vports(seen=frozenset({6})))
    assert (model.counters["looks_tls"], dict(model.seen)) == (2, {(6, "looks_tls"): 1})


def test_model_expired_stamp_is_not_paired() -> None:
    late = Step(VPORT_OUT, INNER, age_ns=2_000_000_001)
    model = after(Step(NIC_IN, OUTER), late, Step(VPORT_OUT, INNER))
    assert dict(model.counters) == {
        "first": 1,
        "second": 2,
        "expired": 1,
        "unmatched": 1,
        "unmatched_taken": 1,
    }


def test_model_both_ways_locked_is_slot_busy() -> None:
    index = place(3, 4, 4096)[0]
    model = after(Step(NIC_IN, OUTER, locked=(2 * index, 2 * index + 1)), Step(VPORT_OUT, INNER))
    assert dict(model.counters) == {"first": 1, "slot_busy": 1, "second": 1, "unmatched": 1}
