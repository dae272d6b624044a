# SPDX-License-Identifier: Apache-2.0
import struct

from agent.network.links import default_route_name, parse_links

ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth1\t00000000\t010AA8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
NO_DEFAULT = ROUTE.splitlines()[0] + "\neth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
ZERO = "0" * 32
GATEWAY = "fe80" + "0" * 27 + "1"
IPV6_ROUTE = f"""{ZERO} 00 {ZERO} 00 {GATEWAY} 00000400 00000001 00000000 00000003     ens4
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo
"""


def message(kind: int, family: int, attributes: bytes) -> bytes:
    """An rtnetlink message of interface 7: Ethernet, up."""
    body = struct.pack("=BxHiII", family, 1, 7, 1, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


VETH = (
    attribute(3, b"veth12\0")
    + attribute(4, struct.pack("=I", 1450))
    + attribute(5, struct.pack("=I", 2))
    + attribute(10, struct.pack("=I", 3))
    + attribute(18 | 0x8000, attribute(1, b"veth\0"))
    + attribute(37, struct.pack("=i", 0))
)


def test_default_route_name_takes_the_least_metric() -> None:
    assert default_route_name(ROUTE, "") == "eth0"


def test_default_route_name_without_ipv4_takes_ipv6_and_never_lo() -> None:
    assert default_route_name(NO_DEFAULT, IPV6_ROUTE) == "ens4"


def test_default_route_name_without_any_is_none() -> None:
    assert default_route_name(NO_DEFAULT, IPV6_ROUTE.splitlines()[1]) is None
    assert default_route_name("", "") is None


def test_parse_links_reads_a_veth() -> None:
    [(is_gone, link)] = parse_links(message(16, 0, VETH))
    assert not is_gone
    assert (link.ifindex, link.name, link.kind, link.mtu) == (7, "veth12", "veth", 1450)
    assert (link.peer_ifindex, link.master, link.link_netnsid) == (2, 3, 0)
    assert (link.is_ethernet, link.is_up) == (True, True)


def test_parse_links_reads_several_messages_of_one_datagram() -> None:
    data = message(16, 0, VETH) + message(17, 0, attribute(3, b"eth9\0"))
    assert [(is_gone, link.name) for is_gone, link in parse_links(data)] == [
        (False, "veth12"),
        (True, "eth9"),
    ]


def test_parse_links_leaves_out_a_bridge_s_word_about_its_ports() -> None:
    assert list(parse_links(message(17, 7, VETH))) == []


def test_parse_links_of_cut_data_ends_without_error() -> None:
    whole = message(16, 0, VETH)
    assert list(parse_links(whole[:10])) == []
    assert list(parse_links(b"\0" * 64)) == []
    [(_, link)] = parse_links(message(16, 0, VETH[:14]))
    assert link.name == "veth12"[: len(link.name)]
