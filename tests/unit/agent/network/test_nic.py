# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address, ip_network

import pytest

from agent.network.links import ARPHRD_LOOPBACK, Link
from agent.network.nic import DiscoveryError, Nics, choose_nics
from agent.network.routes import Hop, Route, Ways

UP = 1
LO = Link(1, "lo", arphrd=ARPHRD_LOOPBACK, flags=UP)
ETH0, ETH1, ETH2 = (Link(index, f"eth{index - 2}", flags=UP) for index in (2, 3, 4))
CNI0 = Link(10, "cni0", kind="bridge", flags=UP)
POD = Link(11, "veth1a2b", kind="veth", peer_ifindex=2, link_netnsid=0, flags=UP)
NODE_LINKS = [LO, ETH0, ETH1, ETH2, CNI0, POD]
GATEWAY, NODE2 = ip_address("192.0.2.1"), ip_address("10.0.0.2")


def route(to: str, *hops: Hop, metric: int = 0) -> Route:
    return Route(ip_network(to), hops, metric)


DEFAULT = route("0.0.0.0/0", Hop(2, GATEWAY))
PODS_HERE = route("10.244.0.0/24", Hop(10))


def overlay(kind: str, **more: object) -> Link:
    return Link(20, "tunnel0", kind=kind, flags=UP, **more)  # type: ignore[arg-type]  # fields of Link


def test_underlay_that_the_overlay_names_comes_before_the_default_route() -> None:
    flannel = overlay("vxlan", underlay_ifindex=3)
    assert choose_nics([*NODE_LINKS, flannel], Ways((DEFAULT,))) == Nics(("eth1",), "underlay of tunnel0")


@pytest.mark.parametrize("kind", ["vxlan", "ipip", "gre"])
def test_underlay_is_the_owner_of_the_address_that_the_overlay_sends_from(kind: str) -> None:
    tunnel = overlay(kind, tunnel_local=ip_address("10.0.0.1"))
    ways = Ways((DEFAULT,), {ip_address("10.0.0.1"): 4, GATEWAY: 2})
    assert choose_nics([*NODE_LINKS, tunnel], ways).names == ("eth2",)


def test_underlay_of_an_overlay_that_says_nothing_is_the_way_to_its_nodes() -> None:
    """Calico's tunl0: routes through it name the other nodes."""
    ways = Ways((DEFAULT, route("10.0.0.0/24", Hop(3)), route("10.244.1.0/26", Hop(20, NODE2)), PODS_HERE))
    assert choose_nics([*NODE_LINKS, overlay("ipip")], ways) == Nics(("eth1",), "underlay of tunnel0")


def test_overlay_that_is_down_or_leads_nowhere_does_not_count() -> None:
    down = Link(20, "tunnel0", kind="vxlan", underlay_ifindex=3)
    assert choose_nics([*NODE_LINKS, down], Ways((DEFAULT,))) == Nics(("eth0",), "default route")
    assert choose_nics([*NODE_LINKS, overlay("geneve")], Ways((DEFAULT,))).names == ("eth0",)


def test_two_overlays_over_two_interfaces_are_two_nics() -> None:
    second = Link(21, "tunnel1", kind="gre", flags=UP, underlay_ifindex=4)
    found = choose_nics([*NODE_LINKS, overlay("vxlan", underlay_ifindex=3), second], Ways((DEFAULT,)))
    assert found == Nics(("eth1", "eth2"), "underlay of tunnel0, tunnel1")


def test_routed_network_adds_what_leads_to_the_other_nodes() -> None:
    ways = Ways((DEFAULT, route("10.244.1.0/24", Hop(3, NODE2)), PODS_HERE))
    found = choose_nics(NODE_LINKS, ways)
    assert found == Nics(("eth0", "eth1"), "default route, routes by way of other nodes")


def test_routed_network_over_the_default_routes_interface_is_that_one() -> None:
    ways = Ways((DEFAULT, route("10.244.1.0/24", Hop(2, NODE2)), PODS_HERE))
    assert choose_nics(NODE_LINKS, ways) == Nics(("eth0",), "default route")


def test_pod_that_is_a_gateway_does_not_make_its_interface_a_nic() -> None:
    own = Link(11, "veth1a2b", kind="veth", link_netnsid=0, master=10, flags=UP)
    for index in (10, 11):
        ways = Ways((DEFAULT, route("10.9.0.0/16", Hop(index, ip_address("10.244.0.7")))))
        assert choose_nics([LO, ETH0, CNI0, own], ways).names == ("eth0",)


def test_node_that_is_a_container_without_default_route_has_a_veth_as_nic() -> None:
    eth0 = Link(2, "eth0", kind="veth", link_netnsid=0, flags=UP)
    ways = Ways((route("10.244.1.0/24", Hop(2, NODE2)),))
    assert choose_nics([LO, eth0], ways) == Nics(("eth0",), "routes by way of other nodes")


def test_routed_network_without_a_default_route_is_enough() -> None:
    ways = Ways((route("10.244.1.0/24", Hop(3, NODE2)), PODS_HERE))
    assert choose_nics(NODE_LINKS, ways) == Nics(("eth1",), "routes by way of other nodes")


def test_of_several_default_routes_the_least_metric_counts() -> None:
    ways = Ways((route("0.0.0.0/0", Hop(2), metric=200), route("0.0.0.0/0", Hop(3), metric=100)))
    assert choose_nics(NODE_LINKS, ways).names == ("eth1",)


def test_default_route_with_several_hops_is_several_nics() -> None:
    ways = Ways((route("0.0.0.0/0", Hop(2, GATEWAY), Hop(4, GATEWAY)),))
    assert choose_nics(NODE_LINKS, ways).names == ("eth0", "eth2")


def test_ipv6_default_routes_count_where_ipv4_has_none_each_of_equal_metric() -> None:
    ways = Ways(
        (
            route("::/0", Hop(1), metric=2**32 - 1),
            route("::/0", Hop(3), metric=1024),
            route("::/0", Hop(4), metric=1024),
        )
    )
    assert choose_nics(NODE_LINKS, ways).names == ("eth1", "eth2")


def test_default_route_through_a_tunnel_is_not_the_nic() -> None:
    vpn = Link(30, "wg0", kind="wireguard", flags=UP)
    ways = Ways((route("0.0.0.0/0", Hop(30)), route("0.0.0.0/0", Hop(2), metric=100)))
    assert choose_nics([*NODE_LINKS, vpn], ways).names == ("eth0",)


def test_nic_of_a_bond_a_vlan_or_a_bridge_is_the_one_that_routes_name() -> None:
    bond, vlan = Link(5, "bond0", kind="bond", flags=UP), Link(6, "bond0.7", kind="vlan", peer_ifindex=5)
    slaves = [Link(2, "eth0", master=5), Link(3, "eth1", master=5)]
    assert choose_nics([LO, *slaves, bond, vlan], Ways((route("0.0.0.0/0", Hop(6)),))).names == ("bond0.7",)
    assert choose_nics([LO, *slaves, bond], Ways((route("0.0.0.0/0", Hop(5)),))).names == ("bond0",)
    bridge = Link(7, "br0", kind="bridge", flags=UP)
    ways = Ways((route("0.0.0.0/0", Hop(7)),))
    assert choose_nics([LO, Link(2, "eth0", master=7), bridge], ways).names == ("br0",)


def test_without_a_route_the_only_hardware_is_it() -> None:
    assert choose_nics([LO, ETH1, CNI0, POD], Ways()) == Nics(("eth1",), "the only hardware")


def test_without_a_route_several_are_named_and_none_is_said() -> None:
    with pytest.raises(DiscoveryError, match=r"several could be it: eth1, eth2: name it in the plan"):
        choose_nics([LO, ETH1, ETH2], Ways())
    with pytest.raises(DiscoveryError, match="no default route, and no interface is hardware"):
        choose_nics([LO, POD], Ways())
