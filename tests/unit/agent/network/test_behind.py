# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

from agent.network.behind import Kernel, addresses_behind
from agent.network.links import Link

A, B, C = (ip_address(f"10.0.0.{each}") for each in (1, 2, 3))
SIX, LOCAL = ip_address("fd00::1"), ip_address("fe80::1")
MAC_A, MAC_B = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"
BRIDGE = Link(3, "cni0", kind="bridge")
ONE = Link(7, "veth7", kind="veth", master=3, link_netnsid=1)
TWO = Link(8, "veth8", kind="veth", master=3, link_netnsid=2)
ROUTED = Link(9, "cali9", kind="veth", link_netnsid=3)
NIC = Link(2, "eth0")
LINKS = [BRIDGE, ONE, TWO, ROUTED, NIC]


def test_address_behind_a_bridge_is_found_by_neighbour_and_port() -> None:
    known = Kernel(neighbours=((3, A, MAC_A), (3, B, MAC_B), (3, SIX, MAC_A)), ports=((7, MAC_A), (8, MAC_B)))
    assert addresses_behind(LINKS, known) == {"veth7": (A, SIX), "veth8": (B,)}


def test_address_that_is_routed_is_behind_its_interface() -> None:
    known = Kernel(routes=((9, C), (2, A)), neighbours=((9, C, MAC_A),))
    assert addresses_behind(LINKS, known) == {"cali9": (C,)}


def test_neighbour_of_another_bridge_or_of_the_nic_is_nobodys() -> None:
    known = Kernel(neighbours=((2, A, MAC_A), (55, B, MAC_B)), ports=((7, MAC_A), (8, MAC_B)))
    assert addresses_behind(LINKS, known) == {}


def test_link_local_addresses_say_nothing() -> None:
    assert addresses_behind(LINKS, Kernel(neighbours=((3, LOCAL, MAC_A),), ports=((7, MAC_A),))) == {}
