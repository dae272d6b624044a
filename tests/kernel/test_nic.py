# SPDX-License-Identifier: Apache-2.0
"""The NIC by what a real kernel says of interfaces, addresses and routes."""

import pytest

from agent.network.links import links
from agent.network.nic import choose_nics
from agent.network.routes import read_ways
from overhop.lab.netns import Netns

NODE = [
    "link add eth0 type veth peer eth0-far",
    "link add eth1 type veth peer eth1-far",
    *(f"link set {name} up" for name in ("eth0", "eth0-far", "eth1", "eth1-far")),
    "addr add 192.0.2.10/24 dev eth0",
    "addr add 10.0.0.1/24 dev eth1",
    "addr add fd00::1/64 dev eth1 nodad",
    "route add default via 192.0.2.1",
    "link add cni0 type bridge",
    "link set cni0 up",
    "addr add 10.244.0.1/24 dev cni0",
]


def found() -> tuple[tuple[str, ...], str]:
    nics = choose_nics(links(), read_ways())
    return nics.names, nics.reason


@pytest.mark.parametrize(
    ("more", "names", "reason"),
    [
        ([], ("eth0",), "default route"),
        (
            ["link add flannel.1 type vxlan id 1 dev eth1 local 10.0.0.1 dstport 8472"],
            ("eth1",),
            "underlay of flannel.1",
        ),
        (
            ["link add flannel.1 type vxlan id 1 local 10.0.0.1 dstport 8472"],
            ("eth1",),
            "underlay of flannel.1",
        ),
        (
            ["link add flannel.1 type vxlan id 1 local fd00::1 dstport 8472"],
            ("eth1",),
            "underlay of flannel.1",
        ),
        (
            ["link add flannel.1 type vxlan dstport 8472 external"],
            ("eth0",),
            "default route",
        ),
        (
            ["route add 10.244.1.0/24 via 10.0.0.2"],
            ("eth0", "eth1"),
            "default route, routes by way of other nodes",
        ),
        (
            ["route add 10.244.1.0/24 via inet6 fd00::2 dev eth1"],
            ("eth0", "eth1"),
            "default route, routes by way of other nodes",
        ),
        (["route add 10.244.1.0/24 via 192.0.2.11"], ("eth0",), "default route"),
        (["route add 10.244.1.0/24 via 10.0.0.2 table 77"], ("eth0",), "default route"),
        (["route add blackhole 10.244.9.0/24"], ("eth0",), "default route"),
        (
            ["route replace default nexthop via 192.0.2.1 nexthop via 10.0.0.9"],
            ("eth0", "eth1"),
            "default route",
        ),
        (["route del default", "route add ::/0 via fd00::9"], ("eth1",), "default route"),
    ],
)
def test_nic_by_a_real_kernel(netns: Netns, more: list[str], names: tuple[str, ...], reason: str) -> None:
    made = [f"link set {words[2]} up" for words in map(str.split, more) if words[:2] == ["link", "add"]]
    netns.ip([*NODE, *more, *made])
    assert found() == (names, reason)
