# SPDX-License-Identifier: Apache-2.0
"""Pairing, scenario by scenario (issue 3): every request has its hops, and the counters add up to the packet.

`./dev accept pairing [--requests N] [--connections C] [NAME...]` prints one JSON object and exits with 1 if a
scenario has problems. tests/e2e/test_pairing.py runs all of them in short.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from bpf.record import ContextKind, Encap, Kind, Quality
from overhop.lab import drops
from tests.accept.town import Check, Measured, addresses, town

VNI = 1
PIPELINE = 10
BODY_BYTES = 30_000
BYSTANDERS = 3
DROP_EVERY = 50
DROP_RATE_HZ = 400.0
"""Slow enough that a request's way is not reused within the 200 ms until TCP sends it again."""
DROP_REQUESTS_MAX = 4000
NONE = Quality(0)


@dataclass(frozen=True, slots=True)
class Size:
    """How much a scenario sends."""

    requests: int
    connections: int = 16


def vxlan(size: Size) -> Measured:
    """Pod to pod over VXLAN, default offloads."""
    return _plain("vxlan", size)


def offloads_off(size: Size) -> Measured:
    """GRO, TSO and GSO off on every device."""
    return _plain("offloads_off", size, offloads=False)


def ipv6(size: Size) -> Measured:
    """The pods talk IPv6 inside the same VXLAN."""
    return _plain("ipv6", size, ipv6=True)


def post_30k(size: Size) -> Measured:
    """Requests with a body of 30 kB."""
    return _plain("post_30k", size, body_bytes=BODY_BYTES)


def post_30k_offloads_off(size: Size) -> Measured:
    """Bodies of 30 kB as single segments."""
    return _plain("post_30k_offloads_off", size, offloads=False, body_bytes=BODY_BYTES)


def two_writes(size: Size) -> Measured:
    """Header and body of 30 kB in two writes."""
    return _plain("two_writes", size, body_bytes=BODY_BYTES, split_body=True)


def _plain(
    name: str,
    size: Size,
    *,
    offloads: bool = True,
    ipv6: bool = False,
    body_bytes: int = 0,
    split_body: bool = False,
) -> Measured:
    with town(offloads=offloads, ipv6=ipv6) as place:
        result = place.client.http(
            place.server,
            ipv6=ipv6,
            requests=size.requests,
            connections=size.connections,
            body_bytes=body_bytes,
            split_body=split_body,
        )
        check = Check.of(name, place, result)
        for node, kind in ((place.n1, Kind.TX), (place.n2, Kind.RX)):
            what = f"{node.name} {kind.label}"
            records = check.every_request_once(node, kind)
            check.no_other_kinds(node, kind)
            check.quality(what, records, NONE)
            check.encapsulation(what, records, Encap.VXLAN, VNI)
            check.counter(node, "unmatched", 0)
            wanted = (
                (place.client.address6, place.server.address6)
                if ipv6
                else (place.client.address, place.server.address)
            )
            check.equal(
                f"{what} addresses",
                [addresses(records, name) for name in ("src", "dst")],
                [{str(a)} for a in wanted],
            )
        return check.measured()


def contexts(size: Size) -> Measured:
    """Each kind of context is found as what it is, and its absence too."""
    with town() as place:
        kinds = {
            "w3c": ContextKind.W3C,
            "b3-single": ContextKind.B3_SINGLE,
            "b3-multi": ContextKind.B3_MULTI,
            "none": ContextKind.NONE,
        }
        each = size.requests // len(kinds)
        results = [
            place.client.http(place.server, requests=each, connections=size.connections, context=name)
            for name in kinds
        ]
        check = Check.of("contexts", place, results[0])
        for node, kind in ((place.n1, Kind.TX), (place.n2, Kind.RX)):
            found = check.hops(node, kind)["encap_context"] >> 4
            for name, context in kinds.items():
                check.equal(f"{node.name} {kind.label} {name}", int((found == context).sum()), each)
        return check.measured()


def pipelined(size: Size) -> Measured:
    """Ten requests per write: only the first of a segment is seen, the documented loss."""
    with town() as place:
        requests = size.requests // PIPELINE * PIPELINE
        result = place.client.http(
            place.server, requests=requests, connections=size.connections, pipeline=PIPELINE
        )
        check = Check.of("pipelined", place, result)
        for node, kind in ((place.n1, Kind.TX), (place.n2, Kind.RX)):
            counts = check.per_request(check.hops(node, kind))
            heads, followers = counts[::PIPELINE], np.delete(counts, np.s_[::PIPELINE])
            check.equal(f"{node.name} first requests of a write without hop", int((heads != 1).sum()), 0)
            check.equal(f"{node.name} other requests with hop", int(followers.sum()), 0)
        check.numbers["seen_share"] = round(len(check.hops(place.n2, Kind.RX)) / requests, 4)
        return check.measured()


def retransmit_wire(size: Size) -> Measured:
    """Requests lost between the nodes: the client's node sees them twice, the server's node once."""
    with town() as place, drops.on_wire(place.lab.wire, place.n2, DROP_EVERY) as dropped:
        requests = min(size.requests, DROP_REQUESTS_MAX)
        result = place.client.http(
            place.server, requests=requests, connections=size.connections, rate_hz=DROP_RATE_HZ
        )
        check = Check.of("retransmit_wire", place, result)
        lost = dropped.count()
        again = check.hops(place.n1, Kind.TX, retransmitted=True)
        check.equal("n1 tx hops", len(again) + len(check.hops(place.n1, Kind.TX)), requests + lost)
        check.equal("n1 tx hops marked as retransmitted at least 9 of 10", len(again) >= 0.9 * lost, True)
        check.every_request_once(place.n2, Kind.RX)
        check.equal(
            "n2 rx hops marked as retransmitted", len(check.hops(place.n2, Kind.RX, retransmitted=True)), 0
        )
        check.numbers |= {"dropped": lost, "marked": len(again)}
        return check.measured()


def retransmit_node(size: Size) -> Measured:
    """Requests lost inside the server's node: their second arrival replaces the first, and is marked."""
    with town() as place, drops.in_node(place.n2, place.server, DROP_EVERY) as dropped:
        requests = min(size.requests, DROP_REQUESTS_MAX)
        result = place.client.http(
            place.server, requests=requests, connections=size.connections, rate_hz=DROP_RATE_HZ
        )
        check = Check.of("retransmit_node", place, result)
        lost = dropped.count()
        again = check.hops(place.n2, Kind.RX, retransmitted=True)
        once = check.hops(place.n2, Kind.RX)
        check.equal("n2 rx hops marked as retransmitted", len(again), lost)
        check.equal("n2 rx hops", len(once) + len(again), requests)
        both = check.per_request(once) + check.per_request(again)
        check.equal("n2 requests without one hop", int((both != 1).sum()), 0)
        check.counter(place.n2, "refreshed", lost)
        check.numbers |= {"dropped": lost}
        return check.measured()


def vip(size: Size) -> Measured:
    """Through a service address: DNAT is marked at the client's node, with the address before it."""
    with town() as place:
        service = place.lab.service("web", backends=[place.server], port=8000, target_port=80)
        result = place.client.http(service, requests=size.requests, connections=size.connections)
        check = Check.of("vip", place, result)
        sent = check.every_request_once(place.n1, Kind.TX)
        check.quality("n1 tx", sent, Quality.DNAT)
        check.equal("n1 tx dst_before_nat", addresses(sent, "dst_before_nat"), {str(service.vip)})
        check.equal("n1 tx dst", addresses(sent, "dst"), {str(place.server.address)})
        check.all_have("n1 tx dport_before_nat", sent["dport_before_nat"], 8000)
        check.all_have("n1 tx dport", sent["dport"], 80)
        received = check.every_request_once(place.n2, Kind.RX)
        check.quality("n2 rx", received, NONE)
        return check.measured()


def hairpin(size: Size) -> Measured:
    """A pod that reaches itself through its own service: one local hop, in and out of the same vport."""
    with town() as place:
        service = place.lab.service("own", backends=[place.neighbour])
        result = place.neighbour.http(service, requests=size.requests, connections=size.connections)
        check = Check.of("hairpin", place, result)
        records = check.every_request_once(place.n1, Kind.LOCAL)
        check.quality("n1 local", records, Quality.DNAT | Quality.SNAT)
        check.encapsulation("n1 local", records, Encap.NONE, 0)
        vport = place.tracers[place.n1].ifindex(place.neighbour.vport)
        check.all_have("n1 local first_ifindex", records["first_ifindex"], vport)
        check.all_have("n1 local second_ifindex", records["second_ifindex"], vport)
        check.no_other_kinds(place.n1, Kind.LOCAL)
        return check.measured()


def same_node(size: Size) -> Measured:
    """Two pods of one node: local hops, nothing at the NIC."""
    with town() as place:
        result = place.client.http(place.neighbour, requests=size.requests, connections=size.connections)
        check = Check.of("same_node", place, result)
        records = check.every_request_once(place.n1, Kind.LOCAL)
        check.quality("n1 local", records, NONE)
        check.no_other_kinds(place.n1, Kind.LOCAL)
        check.counter(place.n2, "first", 0)
        return check.measured()


def masquerade(size: Size) -> Measured:
    """A pod reaches a host outside: its address is replaced by the node's on the way out."""
    with town() as place:
        place.lab.external.serve_http(80)
        result = place.client.http(place.lab.external, requests=size.requests, connections=size.connections)
        check = Check.of("masquerade", place, result)
        records = check.every_request_once(place.n1, Kind.TX)
        check.quality("n1 tx", records, Quality.SNAT)
        check.encapsulation("n1 tx", records, Encap.NONE, 0)
        check.equal("n1 tx src", addresses(records, "src"), {str(place.n1.address)})
        return check.measured()


def node_port(size: Size) -> Measured:
    """From outside to a node port of n1 whose back end is on n2: `forward` on n1, rx on n2."""
    with town() as place:
        place.lab.service("web", backends=[place.server], node_port=30080)
        result = place.lab.external.http(
            place.n1, port=30080, requests=size.requests, connections=size.connections
        )
        check = Check.of("node_port", place, result)
        records = check.every_request_once(place.n1, Kind.FORWARD)
        check.quality("n1 forward", records, Quality.DNAT | Quality.SNAT)
        check.encapsulation("n1 forward", records, Encap.VXLAN, VNI)
        check.equal(
            "n1 forward dst_before_nat", addresses(records, "dst_before_nat"), {str(place.n1.address)}
        )
        check.no_other_kinds(place.n1, Kind.FORWARD)
        check.every_request_once(place.n2, Kind.RX)
        return check.measured()


def host_client(size: Size) -> Measured:
    """From the node's own network: its node counts the requests as its own, the other node has the hops."""
    with town() as place:
        result = place.n1.http(place.server, requests=size.requests, connections=size.connections)
        check = Check.of("host_client", place, result)
        check.counter(place.n1, "unmatched_local", size.requests)
        check.counter(place.n1, "records", 0)
        check.every_request_once(place.n2, Kind.RX)
        return check.measured()


def flooding_bridge(size: Size) -> Measured:
    """Bridge ageing 0: every pod's vport sees the request, only the right one gives the hop."""
    with town(bridge_ageing=False, bystanders=BYSTANDERS) as place:
        result = place.client.http(place.server, requests=size.requests, connections=size.connections)
        check = Check.of("flooding_bridge", place, result)
        records = check.every_request_once(place.n2, Kind.RX)
        vport = place.tracers[place.n2].ifindex(place.server.vport)
        check.all_have("n2 rx second_ifindex", records["second_ifindex"], vport)
        check.counter(place.n2, "not_for_this_vport", size.requests * BYSTANDERS)
        check.every_request_once(place.n1, Kind.TX)
        return check.measured()


def reused_tuple(size: Size) -> Measured:
    """The same source port again and again: connections follow one another on one 5-tuple."""
    with town() as place:
        result = place.client.http(
            place.server, requests=size.requests, requests_per_connection=5, source_port=45678
        )
        check = Check.of("reused_tuple", place, result)
        for node, kind in ((place.n1, Kind.TX), (place.n2, Kind.RX)):
            records = check.every_request_once(node, kind)
            check.all_have(f"{node.name} sport", records["sport"], 45678)
        check.numbers["connections"] = len(result.source_ports)
        return check.measured()


def two_labs(size: Size) -> Measured:
    """Two labs with the same addresses at once: each sees its own requests only."""
    with town() as one, town() as other:
        half = size.requests // 2
        running = [
            place.client.start_http(place.server, requests=half, connections=size.connections)
            for place in (one, other)
        ]
        checks = [
            Check.of("two_labs", place, load_.wait())
            for place, load_ in zip((one, other), running, strict=True)
        ]
        for place, check in zip((one, other), checks, strict=True):
            check.every_request_once(place.n1, Kind.TX)
            check.every_request_once(place.n2, Kind.RX)
        checks[0].problems += [f"second lab: {problem}" for problem in checks[1].problems]
        return checks[0].measured()


SCENARIOS: tuple[Callable[[Size], Measured], ...] = (
    vxlan,
    offloads_off,
    post_30k,
    post_30k_offloads_off,
    two_writes,
    pipelined,
    contexts,
    retransmit_wire,
    retransmit_node,
    vip,
    hairpin,
    same_node,
    masquerade,
    node_port,
    host_client,
    flooding_bridge,
    reused_tuple,
    ipv6,
    two_labs,
)


def main() -> int:
    """Run the scenarios named on the command line, or all; return the exit code."""
    names = [scenario.__name__ for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="./dev accept pairing", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="per scenario (default 100000)")
    parser.add_argument("--connections", type=int, default=16, help="keep-alive connections (default 16)")
    parser.add_argument("scenario", nargs="*", choices=[*names, []], help=f"of {', '.join(names)}")
    arguments = parser.parse_args()
    size = Size(arguments.requests, arguments.connections)
    outcomes = []
    for scenario in SCENARIOS:
        if arguments.scenario and scenario.__name__ not in arguments.scenario:
            continue
        outcome = scenario(size)
        outcomes.append(asdict(outcome))
        verdict = "; ".join(outcome.problems) or "ok"
        sys.stderr.write(
            f"{outcome.scenario}: {outcome.requests} requests, {outcome.requests_per_s}/s: {verdict}\n"
        )
    failed = [outcome["scenario"] for outcome in outcomes if outcome["problems"]]
    print(json.dumps({"scenarios": outcomes, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
