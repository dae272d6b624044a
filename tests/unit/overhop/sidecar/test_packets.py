# SPDX-License-Identifier: Apache-2.0
"""From frames to segments: literal packets, and every envelope of the model's corpus, whole and cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.spec import ProgramSpec
from overhop.sidecar.packets import Segment, Tunnels, Why, segment_of
from overhop.sidecar.pcap import Frame
from tests.oracle.envelopes import Flow
from tests.oracle.generate import ADDRESSES, corpus
from tests.oracle.packet import MAPPED, Request, parse
from tests.oracle.packet import Tunnels as ModelTunnels
from tests.unit.handmade import DST4, DST6, ETHER4, ETHER6, GET, MACS, SRC4, SRC6, TCP, ipv4, ipv6

TUNNELS = Tunnels()
OF_V4 = Segment(SRC4, DST4, 40000, 8080, 3, 4, False, GET, len(GET))
OF_V6 = OF_V4._replace(src=SRC6, dst=DST6)
COOKED = bytes(14)
COOKED2 = bytes(18)


def of(data: bytes, link: int = 1, length: int | None = None) -> Segment | Why:
    return segment_of(Frame(link, data, len(data) if length is None else length), TUNNELS)


@pytest.mark.parametrize(
    ("link", "data", "expected"),
    [
        (1, ETHER4 + ipv4(TCP + GET), OF_V4),
        (1, ETHER6 + ipv6(TCP + GET), OF_V6),
        (1, MACS + b"\x81\0\0\5\x08\0" + ipv4(TCP + GET), OF_V4),
        (113, COOKED + b"\x08\0" + ipv4(TCP + GET), OF_V4),
        (113, COOKED + b"\x81\0\0\5\x08\0" + ipv4(TCP + GET), OF_V4),
        (276, b"\x86\xdd" + COOKED2 + ipv6(TCP + GET), OF_V6),
        (101, ipv4(TCP + GET), OF_V4),
        (101, ipv6(TCP + GET), OF_V6),
        (12, ipv4(TCP + GET), OF_V4),
        (228, ipv4(TCP + GET), OF_V4),
        (229, ipv6(TCP + GET), OF_V6),
        (0, b"\2\0\0\0" + ipv4(TCP + GET), OF_V4),
        (108, b"\0\0\0\x0a" + ipv6(TCP + GET), OF_V6),
        (147, ETHER4 + ipv4(TCP + GET), Why.LINK_TYPE),
        (1, MACS + b"\x08\x06" + bytes(40), Why.NOT_IP),
        (1, bytes(10), Why.NOT_IP),
        (101, b"\0" * 40, Why.NOT_IP),
        (1, ETHER4 + b"\x45" + bytes(10), Why.MALFORMED),
    ],
)
def test_segment_of_each_link_type_is_found(link: int, data: bytes, expected: Segment | Why) -> None:
    assert of(data, link) == expected


def test_segment_of_padding_behind_the_packet_is_no_payload() -> None:
    assert of(ETHER4 + ipv4(TCP + GET) + bytes(9)) == OF_V4


def test_segment_of_a_packet_too_long_for_its_length_field_reaches_to_the_end() -> None:
    assert of(ETHER4 + ipv4(TCP + GET, total=0)) == OF_V4


def test_segment_of_a_cut_payload_knows_how_much_there_was() -> None:
    packet = ETHER4 + ipv4(TCP + GET)
    assert of(packet[:-3], length=len(packet)) == OF_V4._replace(data=GET[:-3])


@pytest.mark.parametrize("captured", [13, 20, 33, 34, 53])
def test_segment_of_cut_headers_is_cut(captured: int) -> None:
    packet = ETHER4 + ipv4(TCP + GET)
    assert of(packet[:captured], length=len(packet)) == Why.CUT


def test_segment_of_other_ports_than_the_plans_is_not_looked_into() -> None:
    frame = _tunnelled("vxlan 4790 v4 in 4")
    assert segment_of(frame, TUNNELS) == Why.NOT_TCP
    assert isinstance(segment_of(frame, Tunnels(vxlan=(4789, 4790))), Segment)


def _tunnelled(name: str) -> Frame:
    (envelope,) = (each for each in corpus().everything if each.name == name)
    packet = bytes(envelope.fill(Flow(ADDRESSES[0], ADDRESSES[1], 1, 2, 3, 4), GET))
    return Frame(1, packet, len(packet))


def test_segment_of_every_envelope_agrees_with_the_model_at_every_cut() -> None:
    """VLAN, VXLAN, Geneve, IPIP, GRE, extension headers, legal and not; also what the model counts."""
    tunnels = ModelTunnels.of(ProgramSpec())
    flow = Flow(ADDRESSES[0], ADDRESSES[1], 40000, 80, 1, 2)
    found = 0
    for envelope in corpus().everything:
        packet = bytes(envelope.fill(flow, GET))
        for end in (*range(0, len(packet), 3), len(packet)):
            expected = parse(packet[:end], True, tunnels)
            got = of(packet[:end])
            if isinstance(expected, Request):
                found += 1
                assert isinstance(got, Segment), envelope.name
                assert _as_model(got) == expected[:2] + expected[3:8], (envelope.name, end)
            elif isinstance(expected, str):
                assert got == Why(expected), (envelope.name, end)
            else:
                assert not isinstance(got, Segment) or not got.data.startswith(b"GET "), (envelope.name, end)
            _check_cut(packet, end)
    assert found > 200


def _as_model(segment: Segment) -> tuple[object, ...]:
    src, dst = (MAPPED + each if len(each) == 4 else each for each in segment[:2])
    return (src, dst, *segment[2:6], segment.data)


def _check_cut(packet: bytes, end: int) -> None:
    """A capture's cut gives what the whole packet gives, with less data, or says that it was cut."""
    whole, cut = of(packet), of(packet[:end], length=len(packet))
    if isinstance(cut, Segment):
        assert isinstance(whole, Segment)
        assert cut == whole._replace(data=whole.data[: len(cut.data)])
    else:
        assert cut in (whole, Why.CUT)


@settings(max_examples=2000, deadline=None)
@given(
    st.sampled_from([0, 1, 12, 101, 108, 113, 147, 228, 229, 276]),
    st.binary(max_size=120),
    st.integers(0, 1 << 32),
)
def test_segment_of_any_bytes_is_an_answer(link: int, data: bytes, more: int) -> None:
    assert isinstance(of(data, link, len(data) + more), Segment | Why)


@settings(max_examples=2000, deadline=None)
@given(st.integers(0, 1 << 30), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6))
def test_segment_of_damaged_packets_is_an_answer(chosen: int, changes: list[tuple[int, int]]) -> None:
    everything = corpus().everything
    flow = Flow(ADDRESSES[0], ADDRESSES[1], 40000, 80, 1, 2)
    packet = everything[chosen % len(everything)].fill(flow, GET)
    for at, value in changes:
        packet[at % len(packet)] = value
    assert isinstance(of(bytes(packet)), Segment | Why)
