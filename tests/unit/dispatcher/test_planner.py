# SPDX-License-Identifier: Apache-2.0
"""Snapshot and policies into plans: what is in them, the same whatever the order, anew only where needed."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from agent.plan.contract import NodePlan
from agent.plan.model import ProgramPlan
from collector.snapshot import Namespace, Node, NodeInventory, Overlay, Pod, Snapshot
from dispatcher.planner import Planner, changes, plan_all, why
from dispatcher.policy import Policies, parse_policies

NOBODY = Policies()


def cluster(nodes: int = 2, **inventories: NodeInventory) -> Snapshot:
    found = {
        f"n{at}": Node(f"n{at}", f"u{at}", (), labels={"zone": "ab"[at % 2]}) for at in range(1, nodes + 1)
    }
    known = {name: NodeInventory(name, ("eth0",), contract=2) for name in found}
    namespaces = {name: Namespace(name) for name in ("shop", "bank", "team-a")}
    return Snapshot("c", found, namespaces, inventories=known | inventories)


def plan_of(text: str, snapshot: Snapshot | None = None, node: str = "n1") -> NodePlan:
    return plan_all(snapshot or cluster(), parse_policies(text)).plans[node]


def test_without_policies_everything_is_traced_by_the_default_program() -> None:
    plan = plan_all(cluster(), NOBODY).plans["n1"]
    assert plan == NodePlan(cluster="c", node="n1", nic=("eth0",), selectors=plan.selectors)
    selector = plan.selector_for("anything", {})
    assert selector is not None
    assert (selector.policy, selector.needs_filter) == ("", False)


def test_pods_that_no_policy_is_for_are_not_traced() -> None:
    plan = plan_of("policies: [{name: a, namespaces: shop}]")
    assert plan.program.filter is True
    assert plan.selector_for("shop", {}) is not None
    assert plan.selector_for("bank", {}) is None
    assert plan_of("policies: []").selector_for("shop", {}) is not None


def test_namespaces_are_resolved_and_parameters_travel() -> None:
    plan = plan_of("policies: [{name: a, namespaces: ['team-*', shop], sample_shift: 4, directions: out}]")
    [selector] = plan.selectors
    assert selector.namespaces == ("shop", "team-a")
    assert (selector.sample_shift, selector.directions) == (4, frozenset({"out"}))


def test_program_is_the_largest_window_and_the_union_of_what_is_searched() -> None:
    text = """
policies:
- {name: a, search: {window: 512, contexts: [w3c], encapsulations: [vxlan]}}
- {name: b, search: {window: 1024, contexts: [b3-single], encapsulations: [vxlan, ipip], geneve_port: 6082}}
- {name: far, node_selector: {matchLabels: {zone: a}}, search: {window: 8192}}
- {name: not-traced, traced: false, search: {window: 2048}}
"""
    assert plan_of(text).program == ProgramPlan(
        window=1024,
        contexts=frozenset({"w3c", "b3-single"}),
        encapsulations=frozenset({"vxlan", "ipip"}),
        geneve_port=6082,
        filter=True,
    )
    assert plan_of(text, node="n2").program.window == 8192
    assert [each.policy for each in plan_of(text).selectors] == ["a", "b", "not-traced"]


def test_policy_that_says_no_window_wants_the_default_one() -> None:
    assert plan_of("policies: [{name: a, search: {window: 512}}, {name: b}]").program.window == 4096


def test_vxlan_ports_are_those_of_the_node_then_those_of_policies() -> None:
    def ports(*own: int, asked: str = "") -> tuple[int, int] | None:
        overlays = tuple(Overlay(f"v{port}", "vxlan", 1, port) for port in own)
        snapshot = cluster(n1=NodeInventory("n1", ("eth0",), overlays=overlays, contract=2))
        policy = f", search: {{vxlan_ports: {asked}}}" if asked else ""
        return plan_of(f"policies: [{{name: a{policy}}}]", snapshot).program.vxlan_ports

    assert ports() is None
    assert ports(8472) == (4789, 8472)
    assert ports(9000) == (4789, 9000)
    assert ports(9000, asked="[4790, 8472]") == (4790, 9000)
    assert ports(asked="[4790, 8472]") == (4790, 8472)


def test_vxlan_port_that_has_no_room_is_a_warning() -> None:
    overlays = tuple(Overlay(f"v{port}", "vxlan", 1, port) for port in (1000, 2000, 3000))
    planned = plan_all(cluster(n1=NodeInventory("n1", ("eth0",), overlays=overlays, contract=2)), NOBODY)
    assert planned.warnings == ("n1: VXLAN ports 3000 are left out: a program has two",)
    assert planned.plans["n1"].program.vxlan_ports == (1000, 2000)


def test_node_without_inventory_looks_for_its_nic_itself() -> None:
    snapshot = replace(cluster(), inventories={})
    assert plan_all(snapshot, NOBODY).plans["n1"].nic == ()


def test_nic_that_is_a_problem_is_a_warning() -> None:
    planned = plan_all(cluster(n2=NodeInventory("n2", nic_problem="no default route", contract=2)), NOBODY)
    assert planned.warnings == ("n2: no default route",)


def test_agent_of_an_older_contract_keeps_its_plan() -> None:
    planned = plan_all(cluster(n2=NodeInventory("n2", ("eth0",), contract=1)), NOBODY)
    assert (list(planned.plans), planned.outdated) == (["n1"], {"n2": 1})


# ---- determinism and change ------------------------------------------------------------------------

TEXT = """
policies:
- {name: web, namespaces: [shop], pod_selector: {matchLabels: {app: web}}}
- {name: team, namespaces: ["team-*"], search: {window: 8192}, node_selector: {matchLabels: {zone: a}}}
- {name: labelled, namespace_selector: {matchLabels: {traced: "yes"}}, sample_shift: 3}
"""


def shuffled(snapshot: Snapshot, seed: int) -> Snapshot:
    rng = random.Random(seed)

    def mixed(given: Mapping[str, Any]) -> dict[str, Any]:
        items = list(given.items())
        rng.shuffle(items)
        return dict(items)

    return replace(
        snapshot,
        nodes=mixed(snapshot.nodes),
        namespaces=mixed(snapshot.namespaces),
        inventories=mixed(snapshot.inventories),
    )


def test_plans_are_the_same_whatever_the_order_of_the_snapshot() -> None:
    snapshot, policies = cluster(7), parse_policies(TEXT)
    first = {name: plan.digest for name, plan in plan_all(snapshot, policies).plans.items()}
    for seed in range(10):
        planned = plan_all(shuffled(snapshot, seed), policies)
        assert {name: plan.digest for name, plan in planned.plans.items()} == first
        assert list(planned.plans) == list(first)


def changed(snapshot: Snapshot, rng: random.Random) -> Snapshot:
    """One thing is different."""
    name = f"n{rng.randint(1, 9)}"
    nodes, inventories = dict(snapshot.nodes), dict(snapshot.inventories)
    namespaces = dict(snapshot.namespaces)
    match rng.randint(0, 5):
        case 0:
            nodes[name] = Node(name, "u", (), labels={"zone": rng.choice("abc")})
        case 1:
            nodes.pop(name, None)
        case 2:
            port = rng.choice((4789, 8472, 9000))
            overlays = (Overlay("v", "vxlan", 1, port),)
            contract = rng.choice((1, 2))
            inventories[name] = NodeInventory(name, ("eth0",), rng.choice(("", "?")), overlays, contract)
        case 3:
            inventories.pop(name, None)
        case 4:
            namespace = f"team-{rng.choice('abc')}"
            namespaces[namespace] = Namespace(namespace, rng.choice(({}, {"traced": "yes"})))
        case _:
            namespaces.pop(f"team-{rng.choice('abc')}", None)
    return replace(snapshot, nodes=nodes, inventories=inventories, namespaces=namespaces)


@pytest.mark.parametrize("seed", range(3))
def test_planning_what_changed_gives_what_planning_from_scratch_gives(seed: int) -> None:
    rng, snapshot, policies = random.Random(seed), cluster(4), parse_policies(TEXT)
    planner = Planner(policies)
    for _ in range(400):
        snapshot = changed(snapshot, rng)
        found, fresh = planner.plan(snapshot), plan_all(snapshot, policies)
        assert found == fresh


def test_pod_that_comes_changes_no_plan_and_makes_none_anew() -> None:
    snapshot, planner = cluster(), Planner(parse_policies(TEXT))
    before = planner.plan(snapshot)
    after = planner.plan(replace(snapshot, pods={"1": Pod("1", "shop", "web", "n1")}))
    assert all(after.plans[name] is plan for name, plan in before.plans.items())


def test_changes_are_told_in_words() -> None:
    before = plan_all(cluster(), parse_policies("policies: [{name: a}, {name: b, namespaces: shop}]")).plans
    snapshot = cluster(3, n1=NodeInventory("n1", ("bond0",), contract=2))
    text = "policies: [{name: a, sample_shift: 2}, {name: c, search: {window: 8192}}]"
    after = plan_all(snapshot, parse_policies(text)).plans
    assert changes(before, after) == [
        "n1: nic eth0 → bond0",
        "n1: program.window 4096 → 8192",
        "n1: policy a: sample_shift 0 → 2",
        "n1: policy b: gone",
        "n1: policy c: new",
        "n2: program.window 4096 → 8192",
        "n2: policy a: sample_shift 0 → 2",
        "n2: policy b: gone",
        "n2: policy c: new",
        "n3: new",
    ]
    assert changes(after, after) == []


# ---- why -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pod", "winner", "reason", "why_not"),
    [
        (
            Pod("1", "shop", "p", "n1", labels={"app": "web"}),
            "web",
            "the only policy that fits",
            [
                "",
                "node_selector: zone=a does not fit node n1",
                "namespace_selector: traced=yes does not fit namespace shop",
            ],
        ),
        (
            Pod("1", "shop", "p", "n1"),
            None,
            "no policy fits",
            [
                "pod_selector: app=web does not fit",
                "node_selector: zone=a does not fit node n1",
                "namespace_selector: traced=yes does not fit namespace shop",
            ],
        ),
        (
            Pod("1", "team-a", "p", "n2"),
            "labelled",
            "the most specific of 2 that fit",
            ["namespaces: team-a is none of shop", "", ""],
        ),
        (
            Pod("1", "lost", "p", "n2", labels={"app": "web"}),
            None,
            "no policy fits",
            ["namespaces: lost is not known"] * 3,
        ),
        (
            Pod("1", "shop", "p", "n1", labels={"app": "web"}, is_on_host_network=True),
            None,
            "it is on the host network: it has no vport",
            [
                "",
                "node_selector: zone=a does not fit node n1",
                "namespace_selector: traced=yes does not fit namespace shop",
            ],
        ),
    ],
)
def test_why_says_what_counts_and_why_nothing_else_does(
    pod: Pod, winner: str | None, reason: str, why_not: list[str]
) -> None:
    snapshot = cluster()
    snapshot = replace(
        snapshot, namespaces={**snapshot.namespaces, "team-a": Namespace("team-a", {"traced": "yes"})}
    )
    found = why(snapshot, parse_policies(TEXT), pod.node, pod)
    assert (found.winner.policy if found.winner else None, found.reason) == (winner, reason)
    by_name = {each.policy: each.why_not for each in found.considered}
    assert [by_name[name] for name in ("web", "team", "labelled")] == why_not


def test_why_without_policies_is_that_there_are_none() -> None:
    found = why(cluster(), NOBODY, "n1", Pod("1", "shop", "p", "n1"))
    assert found.winner is not None
    assert (found.reason, found.considered) == ("there is no policy: everything is traced", ())


def test_why_of_a_node_with_an_older_agent_says_so() -> None:
    snapshot = cluster(n1=NodeInventory("n1", contract=1))
    found = why(snapshot, NOBODY, "n1", Pod("1", "shop", "p", "n1"))
    assert (found.winner, found.reason) == (None, "the node's agent does not know contract 2")
