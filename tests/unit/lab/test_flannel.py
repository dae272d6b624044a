# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from overhop.lab.flannel import Flannel
from overhop.lab.options import Options
from overhop.lab.underlay import Plot

VXLAN = Flannel(Options())
VXLAN6 = Flannel(Options(cni="vxlan6"))


def test_plot_of_node_two_has_its_own_subnets() -> None:
    plot = Plot(2)
    assert plot.subnet == IPv4Network("10.244.2.0/24")
    assert plot.subnet6 == IPv6Network("fd00:10:244:2::/64")
    assert plot.address == IPv4Address("172.18.0.12")


def test_neighbours_are_static_as_flannel_writes_them() -> None:
    assert VXLAN.neighbours([Plot(2)]) == [
        "neigh replace 10.244.2.0 lladdr 02:f1:00:00:00:02 dev flannel.1 nud permanent",
        "route replace 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
    ]
    assert VXLAN.forwarding_database([Plot(2)]) == [
        "fdb replace 02:f1:00:00:00:02 dev flannel.1 dst 172.18.0.12"
    ]


def test_vxlan6_has_no_ipv4_anywhere() -> None:
    lines = [*VXLAN6.node(Plot(1)), *VXLAN6.neighbours([Plot(2)]), *VXLAN6.pod_inside(Plot(1), 2)]
    lines += VXLAN6.forwarding_database([Plot(2)])
    assert (
        "link add flannel-v6.1 mtu 1430 address 02:f1:00:00:00:01 type vxlan id 1 "
        "local fd00:18::b dev eth0 dstport 8472 nolearning"
    ) in lines
    assert "fdb replace 02:f1:00:00:00:02 dev flannel-v6.1 dst fd00:18::c" in lines
    assert "addr add fd00:10:244:1::2/64 dev eth0 nodad" in lines
    assert not [line for line in lines if "10.244." in line or "172.18." in line]


def test_addresses_of_a_node_are_those_that_masquerade_can_take() -> None:
    assert VXLAN.addresses(Plot(1)) == [IPv4Address("10.244.1.0"), IPv4Address("10.244.1.1")]
    assert VXLAN6.addresses(Plot(1)) == [IPv6Address("fd00:10:244:1::"), IPv6Address("fd00:10:244:1::1")]


def test_node_without_ageing_floods() -> None:
    lines = Flannel(Options(bridge_ageing=False)).node(Plot(1))
    assert "link add cni0 mtu 1450 address 02:c0:00:00:00:01 type bridge ageing_time 0" in lines


def test_vport_name_fits_an_interface_name_and_differs_by_lab() -> None:
    assert len(VXLAN.vport("oh123456", "a-pod-with-a-very-long-name")) == 12
    assert VXLAN.vport("oh1", "a") != VXLAN.vport("oh2", "a")
