# SPDX-License-Identifier: Apache-2.0
from typing import Any

from collector.cluster.state import ClusterState
from collector.node.nat import Backend, NatRules
from collector.node.nat import Service as Rule
from collector.snapshot import Endpoint, EndpointPort, EndpointSlice, Node, Service, ServicePort
from dispatcher.drift_book import DriftBook, NatMessage
from overhop.nat_message import message_of


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def _state() -> ClusterState:
    state = ClusterState()
    state.nodes.put(("", "n1"), Node("n1", "u1", ("172.16.0.1",)))
    port = ServicePort("http", "TCP", 80, "8080")
    state.services.put(("ns", "web"), Service("ns", "web", "ClusterIP", ("10.96.0.1",), ports=(port,)))
    endpoints = Endpoint(("10.0.0.1",)), Endpoint(("10.0.0.2",))
    slice_ = EndpointSlice("ns", "web-1", "web", "IPv4", (EndpointPort("http", "TCP", 8080),), endpoints)
    state.slices.put(("ns", "web-1"), slice_)
    return state


def _sent(*addresses: str, is_read: bool = True) -> NatMessage:
    backends = tuple(Backend(each, 8080, 1 / len(addresses)) for each in addresses)
    rule = Rule("cluster-ip", "ns/web", "tcp", "10.96.0.1", 80, backends, "outside")
    ours = NatRules(read=True, services=(rule,)) if is_read else NatRules(read=False, reason="no right")
    return NatMessage.model_validate(
        message_of({"ipv4": ours, "ipv6": NatRules(read=False, reason="not there")})
    )


def _drift(book: DriftBook) -> list[Any]:
    found = book.facts()["n1"]
    return [(each["what"], each["backend"], each["since_s"]) for each in found["drift"]]


def test_rules_as_they_should_be_are_wanted_again_in_a_minute() -> None:
    book = DriftBook(_state())
    assert book.facts() == {"n1": None}
    again = book.take("n1", _sent("10.0.0.1", "10.0.0.2"))
    assert (again.drift, again.again_s) == (0, 60)
    assert _drift(book) == []


def test_difference_is_looked_at_again_soon_and_told_once_it_lasted() -> None:
    clock = Clock()
    book = DriftBook(_state(), clock)
    again = book.take("n1", _sent("10.0.0.1"))
    assert (again.drift, again.again_s) == (1, 35)
    assert _drift(book) == []
    clock.s += 35
    again = book.take("n1", _sent("10.0.0.1"))
    assert (again.drift, again.again_s) == (1, 60)
    assert _drift(book) == [("missing back end", "10.0.0.2:8080", 1000.0)]
    book.take("n1", _sent("10.0.0.1", "10.0.0.2"))
    assert _drift(book) == []


def test_family_that_was_not_read_and_has_services_is_said() -> None:
    book = DriftBook(_state())
    book.take("n1", _sent("10.0.0.1", "10.0.0.2"))
    assert book.facts()["n1"]["not_compared"] == {}
    book.take("n1", _sent("10.0.0.1", is_read=False))
    assert list(book.facts()["n1"]["not_compared"]) == ["ipv4"]
    assert _drift(book) == []


def test_node_that_is_gone_is_forgotten() -> None:
    state = _state()
    book = DriftBook(state)
    book.take("n1", _sent("10.0.0.1"))
    state.nodes.drop(("", "n1"))
    assert book.facts() == {}
