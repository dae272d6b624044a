# SPDX-License-Identifier: Apache-2.0
"""Where packets of nodes come from. Flannel's addresses are as seen on a real cluster of two nodes."""

from overhop.cluster.addresses import node_cidrs
from tests.unit.overhop.cluster.memory_api import node

FLANNEL = {"flannel.alpha.coreos.com/backend-type": "vxlan"}


def test_nodes_without_an_overlay_come_from_their_internal_addresses() -> None:
    nodes = [
        node("n1", "172.30.1.11", spec={"podCIDRs": ["10.244.0.0/24"]}),
        node("n2", "172.30.1.12", "fd00::2"),
    ]
    assert node_cidrs(nodes) == ["172.30.1.11/32", "172.30.1.12/32", "fd00::2/128"]


def test_other_kinds_of_addresses_do_not_count() -> None:
    one = node("n1", "172.30.1.11")
    one["status"]["addresses"] += [
        {"type": "ExternalIP", "address": "198.51.100.7"},
        {"type": "Hostname", "address": "n1"},
    ]
    assert node_cidrs([one]) == ["172.30.1.11/32"]


def test_flannel_sends_from_its_tunnel_and_its_bridge() -> None:
    nodes = [
        node("n1", "172.30.1.11", annotations=FLANNEL, spec={"podCIDRs": ["10.244.0.0/24"]}),
        node(
            "n2", "172.30.1.20", annotations=FLANNEL, spec={"podCIDRs": ["10.244.1.0/24", "fd10:0:0:1::/64"]}
        ),
    ]
    assert node_cidrs(nodes) == [
        "10.244.0.0/31",
        "10.244.1.0/31",
        "172.30.1.11/32",
        "172.30.1.20/32",
        "fd10:0:0:1::/127",
    ]


def test_calico_sends_from_its_tunnel() -> None:
    annotations = {
        "projectcalico.org/IPv4Address": "192.168.0.63/24",
        "projectcalico.org/IPv4VXLANTunnelAddr": "192.168.25.64",
        "projectcalico.org/IPv4IPIPTunnelAddr": "192.168.25.70",
    }
    found = node_cidrs([node("n1", "10.0.0.12", annotations=annotations)])
    assert found == ["10.0.0.12/32", "192.168.25.64/32", "192.168.25.70/32"]


def test_neighbours_are_put_together_and_nothing_more_is_let_in() -> None:
    nodes = [node(f"n{each}", f"10.0.0.{each}") for each in (4, 5, 6, 7, 8)]
    assert node_cidrs(nodes) == ["10.0.0.4/30", "10.0.0.8/32"]


def test_text_that_is_no_address_is_left_out() -> None:
    annotations = {"projectcalico.org/IPv4VXLANTunnelAddr": "", **FLANNEL}
    broken = node("n1", "not-an-address", annotations=annotations, spec={"podCIDRs": ["10.244.0.0/99"]})
    assert node_cidrs([broken, node("n2", "10.0.0.1")]) == ["10.0.0.1/32"]
    assert node_cidrs([]) == []
