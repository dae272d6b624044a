# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from overhop.lab import flannel
from overhop.lab.flannel import Options, Plot


def test_plot_of_node_two_has_its_own_subnets() -> None:
    plot = Plot(2)
    assert plot.subnet == IPv4Network("10.244.2.0/24")
    assert plot.subnet6 == IPv6Network("fd00:10:244:2::/64")
    assert plot.address == IPv4Address("172.18.0.12")


def test_neighbours_are_static_as_flannel_writes_them() -> None:
    assert flannel.neighbours([Plot(2)], ipv6=False) == [
        "neigh replace 10.244.2.0 lladdr 02:f1:00:00:00:02 dev flannel.1 nud permanent",
        "route replace 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
    ]
    assert flannel.forwarding_database([Plot(2)]) == [
        "fdb replace 02:f1:00:00:00:02 dev flannel.1 dst 172.18.0.12"
    ]


def test_node_without_ageing_floods() -> None:
    lines = flannel.node(Plot(1), Options(bridge_ageing=False))
    assert "link add cni0 mtu 1450 address 02:c0:00:00:00:01 type bridge ageing_time 0" in lines


def test_vport_name_fits_an_interface_name_and_differs_by_lab() -> None:
    assert len(flannel.vport_name("oh123456", "a-pod-with-a-very-long-name")) == 12
    assert flannel.vport_name("oh1", "a") != flannel.vport_name("oh2", "a")


@pytest.mark.parametrize(
    ("nodes", "mtu", "message"),
    [(0, 1500, "nodes: 0"), (201, 1500, "nodes: 201"), (2, 1399, "mtu: 1399")],
)
def test_options_out_of_range_are_refused_by_name(nodes: int, mtu: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(nodes=nodes, mtu=mtu)
