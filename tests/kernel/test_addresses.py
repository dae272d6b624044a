# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

from agent.network.addresses import own_addresses
from overhop.lab.netns import Netns


def test_own_addresses_are_all_of_this_namespace(netns: Netns) -> None:
    assert own_addresses() == frozenset()
    netns.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"])
    netns.run(["ip", "address", "add", "10.9.0.1", "peer", "10.9.0.2", "dev", "v0"])
    netns.run(["ip", "address", "add", "10.9.1.1/24", "dev", "v1"])
    netns.run(["ip", "address", "add", "fd00:9::1/64", "dev", "v1"])
    assert own_addresses() == {ip_address("10.9.0.1"), ip_address("10.9.1.1"), ip_address("fd00:9::1")}
