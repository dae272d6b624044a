# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

from collector.cluster.state import ClusterState
from collector.snapshot import Node, NodeInventory, Service, ServicePort


def _state() -> ClusterState:
    state = ClusterState()
    state.nodes.put(("", "n1"), Node("n1", "u1", ("172.16.0.1",), ("10.244.0.0/24",)))
    state.nodes.put(("", "n2"), Node("n2", "u2", ("172.16.0.2",), ("10.244.1.0/24",)))
    return state


def _name_at(state: ClusterState, address: str) -> str:
    node = state.node_at(address)
    return "" if node is None else node.name


def test_node_has_the_addresses_that_the_api_and_its_agent_say() -> None:
    state = _state()
    state.put_inventory(NodeInventory("n1", addresses=("10.244.0.0", "10.244.0.1")))
    assert [_name_at(state, each) for each in ("172.16.0.1", "10.244.0.0", "10.244.1.0")] == ["n1", "n1", ""]
    state.put_inventory(NodeInventory("n1", addresses=("10.244.0.1",)))
    assert [_name_at(state, each) for each in ("10.244.0.0", "10.244.0.1")] == ["", "n1"]


def test_address_of_the_api_counts_before_what_an_agent_says() -> None:
    state = _state()
    state.put_inventory(NodeInventory("n1", addresses=("172.16.0.2",)))
    assert _name_at(state, "172.16.0.2") == "n2"


def test_node_that_is_gone_has_no_address_and_no_inventory() -> None:
    state = _state()
    state.put_inventory(NodeInventory("n1", addresses=("10.244.0.1",)))
    state.nodes.drop(("", "n1"))
    assert [_name_at(state, each) for each in ("172.16.0.1", "10.244.0.1")] == ["", ""]
    assert state.inventory_of("n1") is None


def test_outside_is_what_no_node_has_pods_in_if_all_say_so() -> None:
    state = _state()
    assert state.is_outside(ip_address("192.0.2.1"))
    assert not state.is_outside(ip_address("10.244.1.9"))
    state.nodes.put(("", "n3"), Node("n3", "u3", ("172.16.0.3",)))
    assert not state.is_outside(ip_address("192.0.2.1"))


def test_service_is_found_by_address_and_node_port_until_it_is_gone() -> None:
    state = _state()
    ports = (ServicePort("http", "TCP", 80, "8080", 30080),)
    state.services.put(("shop", "web"), Service("shop", "web", "NodePort", ("10.96.0.1",), (), ports))
    found = state.service_at("10.96.0.1"), state.service_of_port(30080)
    assert [each and each.name for each in found] == ["web", "web"]
    state.services.drop(("shop", "web"))
    assert state.service_at("10.96.0.1") is None
    assert state.service_of_port(30080) is None


def test_change_is_told_once_and_only_if_there_is_one() -> None:
    told: list[str] = []
    state = ClusterState(on_change=told.append)
    node = Node("n1", "u1", ("172.16.0.1",))
    state.nodes.put(("", "n1"), node)
    state.nodes.put(("", "n1"), node)
    state.put_inventory(NodeInventory("n1"))
    state.put_inventory(NodeInventory("n1"))
    assert told == ["nodes", "inventories"]
