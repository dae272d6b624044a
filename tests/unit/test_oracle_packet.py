# SPDX-License-Identifier: Apache-2.0
"""The model's parser on packets written by hand from the RFCs."""

import pytest

from bpf.record import Encap
from bpf.spec import ProgramSpec
from tests.oracle.packet import Request, Tunnels, parse
from tests.unit.handmade import (
    DST4,
    DST6,
    ETHER4,
    ETHER6,
    GET,
    MACS,
    SRC4,
    SRC6,
    TCP,
    UDP_GENEVE,
    UDP_VXLAN,
    VXLAN,
    ipv4,
    ipv6,
)

ALL = Tunnels.of(ProgramSpec())


def request(outcome: Request | str | None) -> Request:
    assert isinstance(outcome, Request)
    return outcome


def test_parse_ipv4_request_gives_every_field() -> None:
    mapped = bytes(10) + b"\xff\xff"
    assert parse(ETHER4 + ipv4(TCP + GET), False, ALL) == Request(
        mapped + SRC4, mapped + DST4, False, 40000, 8080, 3, 4, GET, 0, 0
    )


def test_parse_ipv6_request_gives_its_addresses() -> None:
    outcome = request(parse(ETHER6 + ipv6(TCP + GET), False, ALL))
    assert (outcome.src, outcome.dst, outcome.is_ipv6, outcome.payload) == (SRC6, DST6, True, GET)


def test_parse_padding_behind_the_packet_is_no_payload() -> None:
    assert request(parse(ETHER4 + ipv4(TCP + GET) + bytes(9), False, ALL)).payload == GET
    assert request(parse(ETHER6 + ipv6(TCP + GET) + bytes(9), False, ALL)).payload == GET


def test_parse_length_behind_the_end_is_bounded_by_the_packet() -> None:
    assert request(parse(ETHER4 + ipv4(TCP + GET, total=1500), False, ALL)).payload == GET


@pytest.mark.parametrize(("tags", "is_found"), [(0, True), (1, True), (2, True), (3, False)])
def test_parse_tags_at_most_two(tags: int, is_found: bool) -> None:
    packet = MACS + b"\x81\0\0\5" * tags + b"\x08\0" + ipv4(TCP + GET)
    assert isinstance(parse(packet, False, ALL), Request) == is_found


@pytest.mark.parametrize(
    ("packet", "counter"),
    [
        (b"", None),
        (ETHER4[:13], None),
        (MACS + b"\x81\0\0", None),
        (MACS + b"\x08\x06" + bytes(28), None),
        (ETHER4, "malformed"),
        (ETHER4 + ipv4(TCP + GET)[:19], "malformed"),
        (ETHER4 + b"\x55" + ipv4(TCP + GET)[1:], "malformed"),
        (ETHER4 + b"\x44" + ipv4(TCP + GET)[1:], "malformed"),
        (ETHER4 + ipv4(TCP + GET, total=0), "malformed"),
        (ETHER4 + ipv4(TCP + GET, total=19), "malformed"),
        (ETHER4 + ipv4(TCP + GET, total=39), "malformed"),
        (ETHER4 + ipv4(TCP[:12] + b"\x40" + TCP[13:] + GET), "malformed"),
        (ETHER4 + ipv4(TCP[:12] + b"\xf0" + TCP[13:] + GET), "malformed"),
        (ETHER4 + ipv4(TCP + GET, flags="2000"), "fragment"),
        (ETHER4 + ipv4(TCP + GET, flags="0001"), "fragment"),
        (ETHER4 + ipv4(TCP + GET, protocol=17), None),
        (ETHER4 + ipv4(TCP), None),
        (ETHER6 + ipv6(TCP + GET)[:39], "malformed"),
        (ETHER6 + b"\x40" + ipv6(TCP + GET)[1:], "malformed"),
        (ETHER6 + ipv6(TCP + GET, length=0), "malformed"),
        (ETHER6 + ipv6(b"\x06" + bytes(7) + TCP + GET, 44), "fragment"),
        (ETHER6 + ipv6(bytes(4), 60), "malformed"),
        (ETHER6 + ipv6(TCP + GET, 59), None),
    ],
)
def test_parse_what_is_left_alone_bumps_its_counter(packet: bytes, counter: str | None) -> None:
    assert parse(packet, False, ALL) == counter


def test_parse_dont_fragment_is_no_fragment() -> None:
    assert isinstance(parse(ETHER4 + ipv4(TCP + GET, flags="4000"), False, ALL), Request)


def test_parse_zero_length_of_a_gso_packet_means_all_there_is() -> None:
    assert request(parse(ETHER4 + ipv4(TCP + GET, total=0), False, ALL, gso_size=1448)).payload == GET
    assert request(parse(ETHER6 + ipv6(TCP + GET, length=0), False, ALL, gso_size=1448)).payload == GET


@pytest.mark.parametrize(("headers", "outcome"), [(4, None), (5, "ext_headers"), (6, "ext_headers")])
def test_parse_four_extension_headers_are_walked(headers: int, outcome: str | None) -> None:
    chain = (b"\x3c" + bytes(7)) * (headers - 1) + b"\x06" + bytes(7)
    found = parse(ETHER6 + ipv6(chain + TCP + GET, 60), False, ALL)
    assert found == outcome if outcome else isinstance(found, Request)


def test_parse_authentication_header_counts_four_byte_units() -> None:
    header = b"\x06\x04" + bytes(22)
    assert isinstance(parse(ETHER6 + ipv6(header + TCP + GET, 51), False, ALL), Request)


def test_parse_vxlan_gives_the_inner_request_and_the_vni() -> None:
    packet = ETHER4 + ipv4(UDP_VXLAN + VXLAN + ETHER6 + ipv6(TCP + GET), 17)
    outcome = request(parse(packet, True, ALL))
    assert (outcome.encap, outcome.vni, outcome.dst) == (Encap.VXLAN, 0x123456, DST6)


def test_parse_tunnel_at_a_vport_is_left_alone() -> None:
    assert parse(ETHER4 + ipv4(UDP_VXLAN + VXLAN + ETHER4 + ipv4(TCP + GET), 17), False, ALL) is None


def test_parse_vxlan_without_its_flag_is_left_alone() -> None:
    assert parse(ETHER4 + ipv4(UDP_VXLAN + bytes(8) + ETHER4 + ipv4(TCP + GET), 17), True, ALL) is None


@pytest.mark.parametrize("cut", [8, 15])
def test_parse_vxlan_cut_in_its_headers_is_malformed(cut: int) -> None:
    packet = ETHER4 + ipv4((UDP_VXLAN + VXLAN)[:cut], 17)
    assert parse(packet, True, ALL) == "malformed"


def test_parse_inner_length_is_bounded_by_the_outer_end() -> None:
    inner = ipv4(TCP + GET + b"more", total=20 + 20 + len(GET) + 4)
    packet = ETHER4 + ipv4(inner, 4, total=20 + len(inner) - 4)
    assert request(parse(packet, True, ALL)).payload == GET


@pytest.mark.parametrize(("protocol", "inner"), [(4, ipv4(TCP + GET)), (41, ipv6(TCP + GET))])
def test_parse_ip_in_ip_of_both_families(protocol: int, inner: bytes) -> None:
    for outer in (ETHER4 + ipv4(inner, protocol), ETHER6 + ipv6(inner, protocol)):
        assert request(parse(outer, True, ALL)).encap == Encap.IPIP


@pytest.mark.parametrize(
    ("header", "inner"),
    [
        ("0000 6558 abcdef 00", ETHER4 + ipv4(TCP + GET)),
        ("0200 0800 abcdef 00" + "00" * 8, ipv4(TCP + GET)),
        ("3fc0 86dd abcdef 00" + "00" * 252, ipv6(TCP + GET)),
    ],
)
def test_parse_geneve_skips_its_options(header: str, inner: bytes) -> None:
    packet = ETHER4 + ipv4(UDP_GENEVE + bytes.fromhex(header) + inner, 17)
    outcome = request(parse(packet, True, ALL))
    assert (outcome.encap, outcome.vni, outcome.payload) == (Encap.GENEVE, 0xABCDEF, GET)


@pytest.mark.parametrize("header", ["4000 0800 000001 00", "0000 0806 000001 00"])
def test_parse_geneve_of_another_version_or_protocol_is_left_alone(header: str) -> None:
    packet = ETHER4 + ipv4(UDP_GENEVE + bytes.fromhex(header) + ipv4(TCP + GET), 17)
    assert parse(packet, True, ALL) is None


@pytest.mark.parametrize(
    ("header", "is_found"),
    [
        ("0000 0800", True),
        ("8000 0800 00000000", True),
        ("2000 0800 00000007", True),
        ("b000 0800 00000000 00000007 00000001", True),
        ("4000 0800 00000000", False),
        ("0001 0800", False),
        ("0000 88be", False),
    ],
)
def test_parse_gre_header_length_follows_its_flags(header: str, is_found: bool) -> None:
    packet = ETHER4 + ipv4(bytes.fromhex(header) + ipv4(TCP + GET), 47)
    outcome = parse(packet, True, ALL)
    assert (isinstance(outcome, Request) and outcome.encap == Encap.GRE) if is_found else outcome is None


def test_parse_second_tunnel_is_left_alone() -> None:
    assert parse(ETHER4 + ipv4(ipv4(ipv4(TCP + GET), 4), 4), True, ALL) is None


def test_parse_disabled_encapsulation_is_left_alone_even_if_cut() -> None:
    none = Tunnels.of(ProgramSpec(encapsulations=frozenset()))
    assert parse(ETHER4 + ipv4(b"", 17), True, none) is None
    assert parse(ETHER4 + ipv4(ipv4(TCP + GET), 4), True, none) is None


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
)
def test_parse_each_method_and_space_is_a_request(method: str) -> None:
    assert isinstance(parse(ETHER4 + ipv4(TCP + method.encode() + b" "), False, ALL), Request)
    assert parse(ETHER4 + ipv4(TCP + method.encode()), False, ALL) is None
    assert parse(ETHER4 + ipv4(TCP + method.lower().encode() + b" / HTTP/1.1\r\n"), False, ALL) is None


@pytest.mark.parametrize(
    ("payload", "counter"),
    [
        (b"\x16\x03\x01", "looks_tls"),
        (b"\x17\x03\x04", "looks_tls"),
        (b"\x13\x03\x01", None),
        (b"\x16\x03\x05", None),
        (b"\x16\x03", None),
        (b"PRI * HTTP/2.0\r\n", "looks_h2"),
        (b"PRI * HT", "looks_h2"),
        (b"PRI * H", None),
    ],
)
def test_parse_tls_and_h2_are_recognised_at_vports_only(payload: bytes, counter: str | None) -> None:
    assert parse(ETHER4 + ipv4(TCP + payload), False, ALL) == counter
    assert parse(ETHER4 + ipv4(TCP + payload), True, ALL) is None
