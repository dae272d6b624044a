# SPDX-License-Identifier: Apache-2.0
"""Drift on real recordings (none), on such that were changed (that and no more), and made-up cases."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collector.cluster import decode
from collector.drift import Drift, DriftWatch, drifts, expected
from collector.node.nat import Backend, NatRules, parse_nat
from collector.node.nat import Service as Rule
from collector.node.nftables import parse_nft
from collector.snapshot import Endpoint, EndpointPort, EndpointSlice, Node, Service, ServicePort, Snapshot

DATA = Path(__file__).parents[2] / "data" / "nat"


def recorded(mode: str) -> tuple[Snapshot, NatRules]:
    objects = json.loads((DATA / f"{mode}-objects.json").read_text())
    of_kind: dict[str, list[Any]] = {}
    for each in objects:
        of_kind.setdefault(each["kind"], []).append(each)
    nodes = [decode.node(each) for each in of_kind["Node"]]
    services = [decode.service(each) for each in of_kind["Service"]]
    slices = [decode.endpoint_slice(each) for each in of_kind["EndpointSlice"]]
    snapshot = Snapshot(
        "c",
        {each.name: each for each in nodes},
        services={(each.namespace, each.name): each for each in services if each.name != "kubernetes"},
        slices={(each.namespace, each.name): each for each in slices},
    )
    if mode == "iptables":
        rules = parse_nat((DATA / "iptables-n1.txt").read_text())
    else:
        rules = parse_nft((DATA / "nftables-n1.json").read_text(), "ipv4")
    services_of = tuple(each for each in rules.services if each.name != "default/kubernetes")
    return snapshot, replace(rules, services=services_of)


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_recording_of_a_real_node_is_understood_in_full_and_has_no_drift(mode: str) -> None:
    snapshot, rules = recorded(mode)
    assert (rules.read, rules.not_understood) == (True, 0)
    wanted = expected(snapshot, "n1")
    # 9 ports with a cluster address, 3 node ports, an external and a balancer's address; headless has none.
    assert len(wanted) == 14
    assert drifts(wanted, [rules]) == []
    assert drifts(expected(snapshot, "n2"), [rules]) != [], "another node's Local services differ"


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_endpoint_that_is_gone_from_the_slices_is_stale_everywhere(mode: str) -> None:
    snapshot, rules = recorded(mode)
    own = {key: each for key, each in snapshot.slices.items() if each.service == "plain"}
    [(key, one)] = own.items()
    gone, *left = one.endpoints
    changed = replace(snapshot, slices={**snapshot.slices, key: replace(one, endpoints=tuple(left))})
    found = drifts(expected(changed, "n1"), [rules])
    assert [(each.service, each.what, each.backend) for each in found] == [
        ("default/plain", "stale back end", f"{gone.addresses[0]}:80")
    ]


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_service_that_the_rules_do_not_have_and_one_that_is_no_more(mode: str) -> None:
    snapshot, rules = recorded(mode)
    kept = tuple(each for each in rules.services if each.name != "default/sticky")
    found = drifts(expected(snapshot, "n1"), [replace(rules, services=kept)])
    assert [(each.service, each.what) for each in found] == [("default/sticky", "missing service")]
    fewer = {key: each for key, each in snapshot.services.items() if each.name != "sticky"}
    found = drifts(expected(replace(snapshot, services=fewer), "n1"), [rules])
    assert [(each.service, each.what) for each in found] == [("default/sticky", "stale service")]


A, B, C = "10.0.0.1", "10.0.1.2", "10.0.2.3"
PORT = ServicePort("http", "TCP", 80, "http", 30080)


def made(*endpoints: Endpoint, zone: str = "", **service: Any) -> Snapshot:  # noqa: ANN401  fields of a service
    one = Service("ns", "web", "NodePort", ("10.96.0.1",), ports=(PORT,), **service)
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    slice_ = EndpointSlice("ns", "web-1", "web", "IPv4", (EndpointPort("http", "TCP", 8080),), endpoints)
    return Snapshot(
        "c",
        {"n1": Node("n1", "u", (), labels=labels)},
        services={("ns", "web"): one},
        slices={("ns", "web-1"): slice_},
    )


def addresses(snapshot: Snapshot, address: str = "10.96.0.1", port: int = 80) -> set[str]:
    return {each for each, _ in expected(snapshot, "n1")[address, port, "tcp"].backends}


def test_local_policies_take_the_nodes_own_only() -> None:
    endpoints = Endpoint((A,), node="n1"), Endpoint((B,), node="n2")
    assert addresses(made(*endpoints)) == {A, B}
    inner = made(*endpoints, is_internal_local=True)
    assert (addresses(inner), addresses(inner, "", 30080)) == ({A}, {A, B})
    outer = made(*endpoints, is_external_local=True)
    assert (addresses(outer), addresses(outer, "", 30080)) == ({A, B}, {A})


def test_endpoints_that_end_are_used_only_where_no_other_is_ready() -> None:
    ending = Endpoint((B,), is_ready=False, is_serving=True, is_terminating=True)
    not_ready = Endpoint((C,), is_ready=False, is_serving=False)
    assert addresses(made(Endpoint((A,)), ending, not_ready)) == {A}
    assert addresses(made(ending, not_ready)) == {B}


def test_zone_hints_count_if_all_have_them_and_one_fits() -> None:
    near, far = Endpoint((A,), zone_hints=("z1",)), Endpoint((B,), zone_hints=("z2",))
    assert addresses(made(near, far, zone="z1")) == {A}
    assert addresses(made(near, far, zone="z3")) == {A, B}
    assert addresses(made(near, far)) == {A, B}
    assert addresses(made(near, far, Endpoint((C,)), zone="z1")) == {A, B, C}


def rules(*shares: tuple[str, float]) -> NatRules:
    backends = tuple(Backend(address, 8080, share) for address, share in shares)
    cluster_ip = Rule("cluster-ip", "ns/web", "tcp", "10.96.0.1", 80, backends, "")
    node_port = Rule("node-port", "ns/web", "tcp", "", 30080, backends, "")
    return NatRules(read=True, services=(cluster_ip, node_port))


def test_shares_that_are_not_equal_are_drift() -> None:
    snapshot = made(Endpoint((A,)), Endpoint((B,)))
    assert drifts(expected(snapshot, "n1"), [rules((A, 0.5), (B, 0.5))]) == []
    found = drifts(expected(snapshot, "n1"), [rules((A, 0.75), (B, 0.25))])
    assert {(each.what, each.backend) for each in found} == {
        ("wrong share", f"{A}:8080"), ("wrong share", f"{B}:8080"),
    }  # fmt: skip


def test_service_without_endpoints_may_have_rules_or_none() -> None:
    wanted = expected(made(), "n1")
    assert drifts(wanted, [NatRules(read=True)]) == []
    assert drifts(wanted, [rules()]) == []


def test_rules_of_others_are_no_drift() -> None:
    docker = Rule("dnat", "", "tcp", "", 8080, (Backend("172.17.0.2", 80, 1.0),), "")
    assert drifts({}, [NatRules(read=True, services=(docker,))]) == []


def test_drift_counts_once_it_has_lasted_and_not_when_it_is_over() -> None:
    watch, one = DriftWatch(), Drift("ns/web", "10.96.0.1", 80, "tcp", "missing service")
    assert watch.update("n1", [one], 100) == {}
    assert watch.update("n1", [one], 129) == {}
    assert watch.update("n1", [one], 130) == {one: 100}
    assert watch.update("n1", [], 140) == {}
    assert watch.update("n1", [one], 150) == {}
    assert watch.update("n2", [one], 200) == {}
