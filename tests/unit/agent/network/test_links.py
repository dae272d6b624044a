# SPDX-License-Identifier: Apache-2.0
import struct
from ipaddress import ip_address

from agent.network.links import parse_links


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


def test_parse_links_of_tunnels_reads_underlay_and_own_address() -> None:
    def told(kind: bytes, *data: bytes) -> tuple[int, str]:
        info = attribute(1, kind + b"\0") + attribute(2, b"".join(data))
        ((_, link),) = parse_links(message(16, 0, attribute(3, b"t0\0") + attribute(18, info)))
        return link.underlay_ifindex, str(link.tunnel_local)

    underlay, own = struct.pack("=I", 2), ip_address("10.0.0.1").packed
    assert told(b"vxlan", attribute(3, underlay), attribute(4, own)) == (2, "10.0.0.1")
    assert told(b"vxlan", attribute(17, ip_address("fd00::1").packed)) == (0, "fd00::1")
    assert told(b"ipip", attribute(1, bytes(4)), attribute(2, own)) == (0, "10.0.0.1")
    assert told(b"gre", attribute(1, underlay), attribute(6, bytes(4))) == (2, "None")
    assert told(b"bond", attribute(1, underlay), attribute(2, own)) == (0, "None")
