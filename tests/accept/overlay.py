# SPDX-License-Identifier: Apache-2.0
"""Pairing scenarios over the overlay: sizes, segments, retransmissions, flooding, address families."""

import numpy as np

from bpf.record import ContextKind, Kind
from overhop.lab import drops
from tests.accept.scenario import DEFAULT, Size, both_ends, check_both_ends, scenario
from tests.accept.town import Check, Town, TownOptions, Towns

PIPELINE = 10
BODY_BYTES = 30_000
BYSTANDERS = 3
DROP_EVERY = 50
DROP_RATE_HZ = 400.0
"""Slow enough that a request's way is rarely reused within the 200 ms until TCP sends it again."""
DROP_REQUESTS_MAX = 4000
MARKED_SHARE_MIN = 0.9
"""Of the retransmissions whose first stamp was taken already: the mark lasts until the way is reused."""

OFFLOADS_OFF = TownOptions(offloads=False)
FLOODING = TownOptions(bridge_ageing=False, bystanders=BYSTANDERS)


@scenario()
def vxlan(place: Town, size: Size) -> Check:
    """Pod to pod over VXLAN, default offloads."""
    result = place.client.http(place.server, requests=size.requests, connections=size.connections)
    return check_both_ends(place, result)


@scenario(OFFLOADS_OFF)
def offloads_off(place: Town, size: Size) -> Check:
    """GRO, TSO and GSO off on every device."""
    result = place.client.http(place.server, requests=size.requests, connections=size.connections)
    return check_both_ends(place, result)


@scenario()
def post_30k(place: Town, size: Size) -> Check:
    """Requests with a body of 30 kB."""
    result = place.client.http(
        place.server, requests=size.requests, connections=size.connections, body_bytes=BODY_BYTES
    )
    return check_both_ends(place, result)


@scenario(OFFLOADS_OFF)
def post_30k_offloads_off(place: Town, size: Size) -> Check:
    """Bodies of 30 kB as single segments."""
    result = place.client.http(
        place.server, requests=size.requests, connections=size.connections, body_bytes=BODY_BYTES
    )
    return check_both_ends(place, result)


@scenario()
def two_writes(place: Town, size: Size) -> Check:
    """Header and body of 30 kB in two writes."""
    result = place.client.http(
        place.server,
        requests=size.requests,
        connections=size.connections,
        body_bytes=BODY_BYTES,
        split_body=True,
    )
    return check_both_ends(place, result)


@scenario()
def reused_tuple(place: Town, size: Size) -> Check:
    """The same source port again and again: connections follow one another on one 5-tuple."""
    result = place.client.http(
        place.server, requests=size.requests, requests_per_connection=5, source_port=45678
    )
    check = check_both_ends(place, result)
    check.equal("source ports", set(result.source_ports), {45678})
    check.numbers["connections"] = len(result.source_ports)
    return check


@scenario()
def ipv6(place: Town, size: Size) -> Check:
    """The pods talk IPv6 inside the same VXLAN."""
    result = place.client.http(place.server, ipv6=True, requests=size.requests, connections=size.connections)
    return check_both_ends(place, result, ipv6=True)


@scenario()
def two_labs(place: Town, size: Size) -> Check:
    """Two labs with the same addresses at once: each sees its own requests only."""
    with Towns() as more:
        second = more.get(DEFAULT)
        running = [
            here.client.start_http(here.server, requests=size.requests, connections=size.connections)
            for here in (place, second)
        ]
        check, other = (
            check_both_ends(here, load.wait()) for here, load in zip((place, second), running, strict=True)
        )
    check.problems += [f"second lab: {problem}" for problem in other.problems]
    return check


@scenario()
def contexts(place: Town, size: Size) -> Check:
    """Each kind of context is found as what it is, and its absence too."""
    each = max(1, size.requests // len(ContextKind))
    for kind in ContextKind:
        result = place.client.http(
            place.server, requests=each, connections=size.connections, context=kind.label
        )
    check = Check.of(place, result)
    for records, what in both_ends(place, check):
        found = records["encap_context"] >> 4
        counts = {kind.label: int((found == kind).sum()) for kind in ContextKind}
        check.equal(f"{what} contexts", counts, dict.fromkeys(counts, each))
    return check


@scenario()
def pipelined(place: Town, size: Size) -> Check:
    """Ten requests per write: only the first of a segment is seen, the documented loss."""
    requests = max(1, size.requests // PIPELINE) * PIPELINE
    result = place.client.http(
        place.server, requests=requests, connections=size.connections, pipeline=PIPELINE
    )
    check = Check.of(place, result)
    for records, what in both_ends(place, check):
        counts = check.per_request(records)
        heads, followers = counts[::PIPELINE], np.delete(counts, np.s_[::PIPELINE])
        check.equal(f"{what} first requests of a write without one hop", int((heads != 1).sum()), 0)
        check.equal(f"{what} hops of other requests", int(followers.sum()), 0)
        check.numbers[f"{what} seen_share"] = round(len(records) / requests, 4)
    return check


@scenario()
def retransmit_wire(place: Town, size: Size) -> Check:
    """Requests lost between the nodes: the client's node sees them twice, the server's node once."""
    requests = min(size.requests, DROP_REQUESTS_MAX)
    with drops.on_wire(place.lab.wire, place.n2, DROP_EVERY) as dropped:
        result = place.client.http(
            place.server, requests=requests, connections=size.connections, rate_hz=DROP_RATE_HZ
        )
        lost = dropped.count()
    check = Check.of(place, result)
    once, again = (check.hops(place.n1, Kind.TX, retransmitted=flag) for flag in (False, True))
    check.equal("n1 tx hops", len(once) + len(again), requests + lost)
    share = len(again) / lost if lost else 0.0
    check.equal(f"n1 tx: {share:.2f} of the repeats marked, enough", share >= MARKED_SHARE_MIN, True)
    check.every_request_once(place.n2, Kind.RX)
    check.equal("n2 rx hops marked", len(check.hops(place.n2, Kind.RX, retransmitted=True)), 0)
    check.numbers |= {"dropped": lost, "marked": len(again)}
    return check


@scenario()
def retransmit_node(place: Town, size: Size) -> Check:
    """Requests lost inside the server's node: their second arrival replaces the first, and is marked."""
    requests = min(size.requests, DROP_REQUESTS_MAX)
    with drops.in_node(place.n2, place.server, DROP_EVERY) as dropped:
        result = place.client.http(
            place.server, requests=requests, connections=size.connections, rate_hz=DROP_RATE_HZ
        )
        lost = dropped.count()
    check = Check.of(place, result)
    once, again = (check.hops(place.n2, Kind.RX, retransmitted=flag) for flag in (False, True))
    check.equal("n2 rx hops marked", len(again), lost)
    both = check.per_request(once) + check.per_request(again)
    check.equal("n2 requests without one hop", int((both != 1).sum()), 0)
    check.counter(place.n2, "refreshed", lost)
    check.numbers["dropped"] = lost
    return check


@scenario(FLOODING)
def flooding_bridge(place: Town, size: Size) -> Check:
    """Bridge ageing 0: every pod's vport sees the request, only the right one gives the hop."""
    result = place.client.http(place.server, requests=size.requests, connections=size.connections)
    check = check_both_ends(place, result)
    vport = place.tracers[place.n2].ifindex(place.server.vport)
    check.all_have("n2 rx second_ifindex", check.hops(place.n2, Kind.RX)["second_ifindex"], vport)
    check.counter(place.n2, "not_for_this_vport", size.requests * BYSTANDERS)
    return check


SCENARIOS = (
    vxlan,
    offloads_off,
    post_30k,
    post_30k_offloads_off,
    two_writes,
    reused_tuple,
    ipv6,
    two_labs,
    contexts,
    pipelined,
    retransmit_wire,
    retransmit_node,
    flooding_bridge,
)
