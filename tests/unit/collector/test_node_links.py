# SPDX-License-Identifier: Apache-2.0
from collector.node.links import (
    Link,
    parse_addresses,
    parse_ipsec_states,
    parse_links,
    parse_offloads,
)

LISTING: list[object] = [
    {"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP"], "mtu": 65536, "link_type": "loopback"},
    {
        "ifindex": 2,
        "ifname": "eth0",
        "flags": ["UP"],
        "mtu": 1500,
        "link_type": "ether",
        "vfinfo_list": [{}, {}],
    },
    {
        "ifindex": 5,
        "ifname": "flannel.1",
        "flags": ["UP"],
        "mtu": 1450,
        "link_type": "ether",
        "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 1, "link": "eth0", "port": 8472}},
    },
    {
        "ifindex": 7,
        "link_index": 2,
        "ifname": "veth1",
        "link_netnsid": 0,
        "flags": ["UP"],
        "mtu": 1450,
        "link_type": "ether",
        "master": "cni0",
        "linkinfo": {"info_kind": "veth"},
    },
    {
        "ifindex": 8,
        "ifname": "eth0.7",
        "link": "eth0",
        "flags": [],
        "mtu": 1500,
        "link_type": "ether",
        "linkinfo": {"info_kind": "vlan"},
    },
    {},
]


def test_parse_links_reads_kinds_peers_and_ports() -> None:
    assert parse_links(LISTING) == (
        Link(1, "lo", "", True, 65536, True, False, 0, "", 0, 0),
        Link(2, "eth0", "", True, 1500, True, False, 0, "", 2, 0),
        Link(5, "flannel.1", "vxlan", True, 1450, True, False, 2, "", 0, 8472, 1),
        Link(7, "veth1", "veth", True, 1450, True, True, 0, "cni0", 0, 0),
        Link(8, "eth0.7", "vlan", False, 1500, True, False, 2, "", 0, 0),
    )


def test_parse_offloads_takes_the_three_that_matter() -> None:
    text = (
        "Features for eth0:\ntcp-segmentation-offload: on\n\ttx-tcp-segmentation: on\n"
        "generic-segmentation-offload: off [requested on]\ngeneric-receive-offload: on\nrx-gro-list: off\n"
    )
    assert parse_offloads(text) == {"tso": True, "gso": False, "gro": True}
    assert parse_offloads(None) == {}


def test_parse_ipsec_states_counts_or_is_unknown() -> None:
    assert parse_ipsec_states("\t SAD count 3\n") == 3
    assert parse_ipsec_states(None) is None


def test_parse_addresses_are_by_interface_with_their_length() -> None:
    listing = [
        {"ifindex": 1, "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {
            "ifindex": 2,
            "addr_info": [{"local": "10.0.0.2", "prefixlen": 24}, {"local": "fe80::1", "prefixlen": 64}],
        },
        {"ifindex": 3, "addr_info": [{"prefixlen": 24}, "odd"]},
        {},
    ]
    assert parse_addresses(listing) == {1: ("127.0.0.1/8",), 2: ("10.0.0.2/24", "fe80::1/64")}
