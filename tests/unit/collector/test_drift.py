# SPDX-License-Identifier: Apache-2.0
"""Drift on real recordings (none), on such that were changed (that and no more), and made-up cases."""

from dataclasses import replace
from typing import Any

import pytest

from collector.drift import Drift, DriftWatch, Expectation, drifts, expected, not_judged
from collector.node.nat import Backend, NatRules
from collector.node.nat import Service as Rule
from collector.snapshot import Endpoint, EndpointPort, EndpointSlice, Node, Service, ServicePort, Snapshot
from tests.unit.collector import recorded


@pytest.mark.parametrize(("mode", "node"), recorded.NODES)
def test_recording_of_a_real_node_has_no_drift(mode: str, node: str) -> None:
    wanted = expected(recorded.snapshot(mode), node)
    assert len(wanted) == 61
    assert drifts(wanted, recorded.rules(mode, node)) == []


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_rules_of_another_node_differ_where_its_own_back_ends_are_meant_and_nowhere_else(mode: str) -> None:
    found = drifts(expected(recorded.snapshot(mode), "n2"), recorded.rules(mode, "n1"))
    assert {each.service.removeprefix("shop/") for each in found} == {
        "balanced-local", "both-local", "ending-here", "inner-local", "inner-local-1", "inner-local-2",
        "outer-local", "outer-local-1", "outer-local-2", "same-node", "six", "zoned", "zoned-elsewhere",
    }  # fmt: skip
    assert {each.what for each in found} == {"missing back end", "stale back end"}


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_endpoint_that_is_gone_from_the_slices_is_stale(mode: str) -> None:
    snapshot = recorded.snapshot(mode)
    one = snapshot.slices["shop", "zoned-in-part-0"]
    [kept] = [each for each in one.endpoints if each.addresses != ("10.244.1.73",)]
    slices = {**snapshot.slices, ("shop", one.name): replace(one, endpoints=(kept,))}
    found = drifts(expected(replace(snapshot, slices=slices), "n1"), recorded.rules(mode, "n1"))
    [address] = snapshot.services["shop", "zoned-in-part"].cluster_addresses
    assert found == [
        Drift("shop/zoned-in-part", "ipv4", address, 80, "tcp", "stale back end", "10.244.1.73:8080")
    ]


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_service_that_the_rules_do_not_have_and_one_that_is_no_more(mode: str) -> None:
    snapshot, own = recorded.snapshot(mode), recorded.rules(mode, "n1")
    kept = tuple(each for each in own["ipv4"].services if each.name != "shop/sticky")
    found = drifts(expected(snapshot, "n1"), own | {"ipv4": replace(own["ipv4"], services=kept)})
    assert [(each.service, each.what) for each in found] == [("shop/sticky", "missing service")]
    fewer = {key: each for key, each in snapshot.services.items() if each.name != "sticky"}
    found = drifts(expected(replace(snapshot, services=fewer), "n1"), own)
    assert [(each.service, each.what) for each in found] == [("shop/sticky", "stale service")]


A, B, C = "10.0.0.1", "10.0.1.2", "10.0.2.3"
SIX = "fd00::1"
PORT = ServicePort("http", "TCP", 80, "http", 30080)
CLUSTER_IP = ("ipv4", "10.96.0.1", 80, "tcp")
NODE_PORT = ("ipv4", "", 30080, "tcp")


def made(*endpoints: Endpoint, zone: str = "", **service: Any) -> Snapshot:  # noqa: ANN401  fields of a service
    fields = {"cluster_addresses": ("10.96.0.1",), "ports": (PORT,)} | service
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    slice_ = EndpointSlice("ns", "web-1", "web", "IPv4", (EndpointPort("http", "TCP", 8080),), endpoints)
    return Snapshot(
        "c",
        {"n1": Node("n1", "u", (), labels=labels)},
        services={("ns", "web"): Service("ns", "web", "NodePort", **fields)},
        slices={("ns", "web-1"): slice_},
    )


def addresses(snapshot: Snapshot, key: tuple[str, str, int, str] = CLUSTER_IP) -> set[str]:
    return {each for each, _ in expected(snapshot, "n1")[key].backends}


def test_local_policies_take_the_nodes_own_only() -> None:
    endpoints = Endpoint((A,), node="n1"), Endpoint((B,), node="n2")
    assert addresses(made(*endpoints)) == {A, B}
    inner = made(*endpoints, is_internal_local=True)
    assert (addresses(inner), addresses(inner, NODE_PORT)) == ({A}, {A, B})
    outer = made(*endpoints, is_external_local=True)
    assert (addresses(outer), addresses(outer, NODE_PORT)) == ({A, B}, {A})


def test_one_expectation_is_for_all_nodes() -> None:
    endpoints = Endpoint((A,), node="n1"), Endpoint((B,), node="n2")
    expectation = Expectation(made(*endpoints, is_external_local=True))
    found = {node: expectation.of(node) for node in ("n1", "n2", "n3")}
    assert [found[node][NODE_PORT].backends for node in found] == [{(A, 8080)}, {(B, 8080)}, set()]
    assert [found[node][CLUSTER_IP].backends for node in found] == [{(A, 8080), (B, 8080)}] * 3


def test_local_policy_uses_the_nodes_own_that_end_though_others_are_ready() -> None:
    ending = Endpoint((A,), node="n1", is_ready=False, is_serving=True, is_terminating=True)
    outer = made(ending, Endpoint((B,), node="n2"), is_external_local=True)
    assert (addresses(outer), addresses(outer, NODE_PORT)) == ({B}, {A})


def test_endpoints_that_end_are_used_only_where_no_other_is_ready() -> None:
    ending = Endpoint((B,), is_ready=False, is_serving=True, is_terminating=True)
    not_ready = Endpoint((C,), is_ready=False, is_serving=False)
    assert addresses(made(Endpoint((A,)), ending, not_ready)) == {A}
    assert addresses(made(ending, not_ready)) == {B}


def test_endpoints_that_end_are_used_whatever_their_hints_say() -> None:
    near = Endpoint((A,), is_ready=False, is_terminating=True, zone_hints=("z1",))
    far = replace(near, addresses=(B,), zone_hints=("z2",))
    assert addresses(made(near, far, zone="z1")) == {A, B}


def test_not_ready_addresses_that_are_published_are_ready_by_their_slice() -> None:
    assert addresses(made(Endpoint((A,), is_ready=True, is_serving=False))) == {A}


def test_zone_hints_count_if_all_have_them_and_one_fits() -> None:
    near, far = Endpoint((A,), zone_hints=("z1",)), Endpoint((B,), zone_hints=("z2",))
    assert addresses(made(near, far, zone="z1")) == {A}
    assert addresses(made(near, far, zone="z3")) == {A, B}
    assert addresses(made(near, far)) == {A, B}
    assert addresses(made(near, far, Endpoint((C,)), zone="z1")) == {A, B, C}


def test_hints_of_endpoints_that_are_not_ready_are_not_asked_for() -> None:
    near, far = Endpoint((A,), zone_hints=("z1",)), Endpoint((B,), zone_hints=("z2",))
    assert addresses(made(near, far, Endpoint((C,), is_ready=False), zone="z1")) == {A}


def test_node_hints_come_before_zone_hints() -> None:
    own = Endpoint((A,), zone_hints=("z1",), node_hints=("n1",))
    near = Endpoint((B,), zone_hints=("z1",), node_hints=("n2",))
    far = Endpoint((C,), zone_hints=("z2",), node_hints=("n3",))
    assert addresses(made(own, near, far, zone="z1")) == {A}
    assert addresses(made(near, far, zone="z1")) == {B}


def test_ports_are_found_by_name_and_protocol_and_have_the_number_of_their_slice() -> None:
    snapshot = made(Endpoint((A,)))
    more = EndpointSlice(
        "ns", "web-2", "web", "IPv4",
        (
            EndpointPort("http", "UDP", 53),
            EndpointPort("admin", "TCP", 9000),
            EndpointPort("http", "TCP", 8081),
        ),
        (Endpoint((B,)),),
    )  # fmt: skip
    both = replace(snapshot, slices={**snapshot.slices, ("ns", "web-2"): more})
    assert expected(both, "n1")[CLUSTER_IP].backends == {(A, 8080), (B, 8081)}


def test_families_have_back_ends_of_their_own() -> None:
    snapshot = made(Endpoint((A,)), cluster_addresses=("10.96.0.1", "fd96::1"), external_addresses=(SIX,))
    six = EndpointSlice(
        "ns", "web-6", "web", "IPv6", (EndpointPort("http", "TCP", 8080),), (Endpoint(("fd00::9",)),)
    )
    dual = expected(replace(snapshot, slices={**snapshot.slices, ("ns", "web-6"): six}), "n1")
    assert {key: sorted(each.backends) for key, each in dual.items()} == {
        CLUSTER_IP: [(A, 8080)],
        NODE_PORT: [(A, 8080)],
        ("ipv6", "fd96::1", 80, "tcp"): [("fd00::9", 8080)],
        ("ipv6", SIX, 80, "tcp"): [("fd00::9", 8080)],
        ("ipv6", "", 30080, "tcp"): [("fd00::9", 8080)],
    }


def test_address_of_a_family_that_the_service_has_not_has_no_rules() -> None:
    assert set(expected(made(Endpoint((A,)), external_addresses=(SIX,)), "n1")) == {CLUSTER_IP, NODE_PORT}


def test_address_that_is_none_has_no_rules() -> None:
    assert set(expected(made(Endpoint((A,)), cluster_addresses=("x", "10.96.0.1")), "n1")) == {
        CLUSTER_IP,
        NODE_PORT,
    }


def test_node_that_the_cluster_has_not_has_the_rules_of_no_zone() -> None:
    near = Endpoint((A,), node="n1", zone_hints=("z1",))
    assert expected(made(near, zone="z1"), "n9")[CLUSTER_IP].backends == {(A, 8080)}


def test_service_without_addresses_has_no_rules() -> None:
    assert expected(made(Endpoint((A,)), cluster_addresses=()), "n1") == {}


def test_services_for_another_proxy_by_name_and_headless_ones_are_left_out_of_the_recording() -> None:
    wanted = expected(recorded.snapshot("iptables"), "n1").values()
    assert {"shop/others", "shop/headless", "shop/named"} & {each.service for each in wanted} == set()


def rules(*shares: tuple[str, float], affinity_s: int = 0) -> dict[str, NatRules]:
    backends = tuple(Backend(address, 8080, share) for address, share in shares)
    cluster_ip = Rule("cluster-ip", "ns/web", "tcp", "10.96.0.1", 80, backends, "", affinity_s)
    node_port = Rule("node-port", "ns/web", "tcp", "", 30080, backends, "", affinity_s)
    return {"ipv4": NatRules(read=True, services=(cluster_ip, node_port))}


def test_shares_that_are_not_equal_are_drift() -> None:
    wanted = expected(made(Endpoint((A,)), Endpoint((B,))), "n1")
    assert drifts(wanted, rules((A, 0.5), (B, 0.5))) == []
    assert drifts(wanted, rules((A, 0.502), (B, 0.498))) == []
    found = drifts(wanted, rules((A, 0.51), (B, 0.49)))
    assert {(each.what, each.backend, each.port) for each in found} == {
        ("wrong share", f"{A}:8080", 80), ("wrong share", f"{B}:8080", 80),
        ("wrong share", f"{A}:8080", 30080), ("wrong share", f"{B}:8080", 30080),
    }  # fmt: skip


def test_shares_of_many_are_compared_as_closely() -> None:
    many = [f"10.1.{at}.1" for at in range(200)]
    wanted = expected(made(*(Endpoint((each,)) for each in many)), "n1")
    assert drifts(wanted, rules(*((each, 0.005) for each in many))) == []
    twice = [(many[0], 0.01), *((each, 0.99 / 199) for each in many[1:])]
    assert [each.backend for each in drifts(wanted, rules(*twice))] == [f"{many[0]}:8080"] * 2


def test_session_affinity_that_is_not_as_long_is_drift() -> None:
    wanted = expected(made(Endpoint((A,)), affinity_s=600), "n1")
    assert drifts(wanted, rules((A, 1.0), affinity_s=600)) == []
    found = drifts(wanted, rules((A, 1.0)))
    assert [(each.port, each.what) for each in found] == [(30080, "wrong affinity"), (80, "wrong affinity")]


def test_node_port_is_compared_on_each_address_that_it_has() -> None:
    wanted = expected(made(Endpoint((A,)), cluster_addresses=("10.96.0.1",)), "n1")
    own = rules((A, 1.0))["ipv4"]
    ports = [
        Rule("node-port", "ns/web", "tcp", address, 30080, (Backend(target, 8080, 1.0),), "")
        for address, target in (("192.0.2.1", A), ("192.0.2.2", B))
    ]
    found = drifts(wanted, {"ipv4": replace(own, services=(own.services[0], *ports))})
    assert [(each.what, each.backend) for each in found] == [
        ("missing back end", f"{A}:8080"),
        ("stale back end", f"{B}:8080"),
    ]


def test_service_without_endpoints_may_have_rules_or_none() -> None:
    wanted = expected(made(), "n1")
    other = Rule("cluster-ip", "", "tcp", "10.96.0.9", 1, (), "")
    assert drifts(wanted, {"ipv4": NatRules(read=True, services=(other,))}) == []
    assert drifts(wanted, rules()) == []


def test_rules_of_others_are_no_drift() -> None:
    docker = Rule("dnat", "", "tcp", "192.0.2.9", 8080, (Backend("172.17.0.2", 80, 1.0),), "")
    port = Rule("host-port", "", "tcp", "", 8080, (Backend("172.17.0.2", 80, 1.0),), "")
    own = rules((A, 1.0))["ipv4"]
    found = {"ipv4": replace(own, services=(*own.services, docker, port))}
    assert drifts(expected(made(Endpoint((A,))), "n1"), found) == []


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (NatRules(read=False, reason="nft: Operation not permitted"), "nft: Operation not permitted"),
        (NatRules(read=True), "no rules of kube-proxy"),
        (NatRules(read=True, reason="nft is not installed"), "no rules of kube-proxy (nft is not installed)"),
        (rules((A, 1.0))["ipv4"], ""),
    ],
)
def test_rules_that_were_not_read_and_nodes_without_kube_proxy_are_not_judged(
    own: NatRules, why: str
) -> None:
    assert not_judged(own) == why
    assert drifts(expected(made(Endpoint((A,))), "n1"), {"ipv4": own}) == []


def test_drift_counts_once_it_has_lasted_and_not_when_it_is_over() -> None:
    watch, one = DriftWatch(), Drift("ns/web", "ipv4", "10.96.0.1", 80, "tcp", "missing service")
    assert watch.update("n1", [one], 100) == {}
    assert watch.update("n1", [one], 129) == {}
    assert watch.update("n1", [one], 130) == {one: 100}
    assert watch.update("n1", [], 140) == {}
    assert watch.update("n1", [one], 150) == {}
    assert watch.update("n2", [one], 200) == {}


def test_drift_of_one_node_is_not_anothers() -> None:
    watch, one = DriftWatch(), Drift("ns/web", "ipv4", "10.96.0.1", 80, "tcp", "missing service")
    watch.update("n1", [one], 100)
    watch.update("n2", [one], 120)
    assert watch.update("n1", [one], 131) == {one: 100}
    assert watch.update("n2", [one], 131) == {}
    watch.forget("n1")
    assert watch.update("n1", [one], 200) == {}
