# SPDX-License-Identifier: Apache-2.0
"""Pairing scenarios off the plain path: services, NAT, one node, the nodes' own network."""

from bpf.record import Encap, Kind, Quality
from tests.accept.scenario import NONE, Size, scenario
from tests.accept.town import Check, Town, addresses

UNUSED_PORT = 8082
"""Of no other scenario: where the client has been at a back end before, without the service, conntrack
gives a connection another source port if its own is still taken, and the hop rightly says SNAT."""


@scenario()
def vip(place: Town, size: Size) -> Check:
    """Through a service address: DNAT is marked at the client's node, with the address before it."""
    place.server.serve_http(port=UNUSED_PORT)
    service = place.lab.service("far", backends=[place.server], port=8000, target_port=UNUSED_PORT)
    result = place.client.http(service, requests=size.requests, connections=size.connections)
    check = Check.of(place, result)
    sent = check.every_request_once(place.n1, Kind.TX)
    check.quality("n1 tx", sent, Quality.DNAT)
    check.equal("n1 tx dst_before_nat", addresses(sent, "dst_before_nat"), {str(service.vip)})
    check.equal("n1 tx dst", addresses(sent, "dst"), {str(place.server.address)})
    check.all_have("n1 tx dport_before_nat", sent["dport_before_nat"], 8000)
    check.all_have("n1 tx dport", sent["dport"], UNUSED_PORT)
    check.quality("n2 rx", check.every_request_once(place.n2, Kind.RX), NONE)
    return check


@scenario()
def vip_same_node(place: Town, size: Size) -> Check:
    """A service address whose back end is on the client's node: a local hop with DNAT."""
    place.neighbour.serve_http(port=UNUSED_PORT)
    service = place.lab.service("near", backends=[place.neighbour], target_port=UNUSED_PORT)
    result = place.client.http(service, requests=size.requests, connections=size.connections)
    check = Check.of(place, result)
    records = check.every_request_once(place.n1, Kind.LOCAL)
    check.quality("n1 local", records, Quality.DNAT)
    check.equal("n1 local dst_before_nat", addresses(records, "dst_before_nat"), {str(service.vip)})
    check.no_other_kinds(place.n1, Kind.LOCAL)
    return check


@scenario()
def hairpin(place: Town, size: Size) -> Check:
    """A pod that reaches itself through its own service: one local hop, in and out of the same vport."""
    service = place.lab.service("own", backends=[place.neighbour])
    result = place.neighbour.http(service, requests=size.requests, connections=size.connections)
    check = Check.of(place, result)
    records = check.every_request_once(place.n1, Kind.LOCAL)
    check.quality("n1 local", records, Quality.DNAT | Quality.SNAT)
    vport = place.tracers[place.n1].ifindex(place.neighbour.vport)
    check.all_have("n1 local first_ifindex", records["first_ifindex"], vport)
    check.all_have("n1 local second_ifindex", records["second_ifindex"], vport)
    check.no_other_kinds(place.n1, Kind.LOCAL)
    return check


@scenario()
def same_node(place: Town, size: Size) -> Check:
    """Two pods of one node: local hops, nothing at the NIC."""
    result = place.client.http(place.neighbour, requests=size.requests, connections=size.connections)
    check = Check.of(place, result)
    records = check.every_request_once(place.n1, Kind.LOCAL)
    check.quality("n1 local", records, NONE)
    check.encapsulation("n1 local", records, Encap.NONE, 0)
    check.no_other_kinds(place.n1, Kind.LOCAL)
    check.counter(place.n2, "first", 0)
    return check


@scenario()
def masquerade(place: Town, size: Size) -> Check:
    """A pod reaches a host outside: its address is replaced by the node's on the way out."""
    result = place.client.http(place.lab.external, requests=size.requests, connections=size.connections)
    check = Check.of(place, result)
    records = check.every_request_once(place.n1, Kind.TX)
    check.quality("n1 tx", records, Quality.SNAT)
    check.encapsulation("n1 tx", records, Encap.NONE, 0)
    check.equal("n1 tx src", addresses(records, "src"), {str(place.n1.address)})
    return check


@scenario()
def node_port(place: Town, size: Size) -> Check:
    """From outside to a node port of n1 whose back end is on n2: `forward` on n1, rx on n2."""
    place.lab.service("outside", backends=[place.server], node_port=30080)
    result = place.lab.external.http(
        place.n1, port=30080, requests=size.requests, connections=size.connections
    )
    check = Check.of(place, result)
    records = check.every_request_once(place.n1, Kind.FORWARD)
    check.quality("n1 forward", records, Quality.DNAT | Quality.SNAT)
    check.encapsulation("n1 forward", records, place.encap, place.vni)
    check.equal("n1 forward dst_before_nat", addresses(records, "dst_before_nat"), {str(place.n1.address)})
    check.no_other_kinds(place.n1, Kind.FORWARD)
    check.every_request_once(place.n2, Kind.RX)
    return check


@scenario()
def host_client(place: Town, size: Size) -> Check:
    """From the node's own network: its node counts the requests as its own, the other node has the hops."""
    result = place.n1.http(place.server, requests=size.requests, connections=size.connections)
    check = Check.of(place, result)
    check.counter(place.n1, "unmatched_local", size.requests)
    check.counter(place.n1, "records", 0)
    check.every_request_once(place.n2, Kind.RX)
    return check


@scenario()
def host_server(place: Town, size: Size) -> Check:
    """To a server in the node's own network: no vport-out, so the stamps wait and are counted as such."""
    result = place.client.http(place.n2, port=8080, requests=size.requests, connections=size.connections)
    check = Check.of(place, result)
    check.quality("n1 tx", check.every_request_once(place.n1, Kind.TX), Quality.SNAT)
    counters = check.seen[place.n2].counters
    unpaired = sum(counters[name] for name in ("waiting", "overwritten", "expired"))
    check.equal("n2 first stamps without pair", unpaired, size.requests)
    check.counter(place.n2, "second", 0)
    return check


SCENARIOS = (
    vip,
    vip_same_node,
    hairpin,
    same_node,
    masquerade,
    node_port,
    host_client,
    host_server,
)
