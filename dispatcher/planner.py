# SPDX-License-Identifier: Apache-2.0
"""Snapshot and policies into one plan per node. Pure and deterministic.

Plans have selectors, not pods: they change when nodes, inventories, namespaces or policies do, and a pod that
comes or goes changes none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.plan.contract import CONTRACT, NodePlan, PodSelector
from agent.plan.model import ProgramPlan
from bpf.spec import ProgramSpec
from collector.snapshot import Namespace, Node, NodeInventory, Pod, Snapshot
from dispatcher.policy import Policies, Policy, fits_pod

_DEFAULT: Final = ProgramSpec()
EVERYTHING: Final = PodSelector(policy="")
"""Without any policy."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Plans by node, and what is to be said of them."""

    plans: Mapping[str, NodePlan]
    outdated: Mapping[str, int] = field(default_factory=dict)
    """Nodes whose agents know an older contract only (which): they keep what they have."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Considered:
    """One policy, for one pod: `why_not` is empty where it fits."""

    policy: str
    why_not: str


@dataclass(frozen=True, slots=True)
class Explained:
    """What counts for a pod, and why; `winner` None: it is not traced."""

    node: str
    considered: tuple[Considered, ...]
    """In the order in which they count."""
    winner: PodSelector | None
    reason: str


@dataclass(frozen=True, slots=True)
class _Group:
    """What nodes have in common for which the same policies are."""

    selectors: tuple[PodSelector, ...]
    program: ProgramPlan
    ports: tuple[int, ...]
    """Of VXLAN, which policies ask for."""


class Planner:
    """Plans a cluster again and again: only what changed is made anew."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._namespaces: Mapping[str, Namespace] = {}
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._members: dict[str, tuple[Node, tuple[str, ...]]] = {}
        self._inventories: dict[str, NodeInventory | None] = {}
        self._planned: dict[str, tuple[NodePlan | None, tuple[str, ...]]] = {}
        self._cluster = ""

    def plan(self, snapshot: Snapshot) -> Planned:
        """The plans of all nodes of the snapshot."""
        if snapshot.namespaces != self._namespaces or snapshot.cluster != self._cluster:
            self._namespaces, self._cluster = dict(snapshot.namespaces), snapshot.cluster
            self._groups.clear()
            self._planned.clear()
        for gone in self._members.keys() - snapshot.nodes.keys():
            for known in (self._members, self._planned, self._inventories):
                known.pop(gone, None)
        for name, node in snapshot.nodes.items():
            self._plan_node(node, snapshot.inventories.get(name))
        found = {name: self._planned[name] for name in sorted(snapshot.nodes)}
        return Planned(
            {name: plan for name, (plan, _) in found.items() if plan is not None},
            {name: snapshot.inventories[name].contract for name, (plan, _) in found.items() if plan is None},
            tuple(line for _, lines in found.values() for line in lines),
        )

    def _plan_node(self, node: Node, inventory: NodeInventory | None) -> None:
        known = self._members.get(node.name)
        if known is None or known[0].labels != node.labels:
            names = tuple(one.name for one in self._policies.policies if one.node_selector.fits(node.labels))
            self._members[node.name] = (node, names)
            if known is None or known[1] != names:
                self._planned.pop(node.name, None)
        if node.name in self._planned and self._inventories.get(node.name) == inventory:
            return
        self._inventories[node.name] = inventory
        self._planned[node.name] = self._made(node.name, inventory)

    def _made(self, node: str, inventory: NodeInventory | None) -> tuple[NodePlan | None, tuple[str, ...]]:
        if inventory is not None and inventory.contract < CONTRACT:
            return None, ()
        group = self._group(self._members[node][1])
        program, warnings = _program(group, inventory)
        plan = NodePlan(
            cluster=self._cluster,
            node=node,
            nic=() if inventory is None else inventory.nic,
            program=program,
            selectors=group.selectors,
        )
        if inventory is not None and inventory.nic_problem:
            warnings = (*warnings, inventory.nic_problem)
        return plan, tuple(f"{node}: {line}" for line in warnings)

    def _group(self, names: tuple[str, ...]) -> _Group:
        if names not in self._groups:
            chosen = [policy for policy in self._policies.policies if policy.name in set(names)]
            has_policies = bool(self._policies.policies)
            self._groups[names] = _group_of(chosen, self._namespaces, has_policies=has_policies)
        return self._groups[names]


def plan_all(snapshot: Snapshot, policies: Policies) -> Planned:
    """The plans of all nodes, from scratch."""
    return Planner(policies).plan(snapshot)


def changes(old: Mapping[str, NodePlan], new: Mapping[str, NodePlan]) -> list[str]:
    """What is different, node by node, a line each."""
    lines = []
    for node in sorted(old.keys() | new.keys()):
        before, after = old.get(node), new.get(node)
        if before is None or after is None:
            lines.append(f"{node}: {'new' if before is None else 'gone'}")
        elif before.digest != after.digest:
            lines += [f"{node}: {line}" for line in _differences(before, after)]
    return lines


def why(snapshot: Snapshot, policies: Policies, node: str, pod: Pod) -> Explained:
    """What counts for a pod on a node, and why."""
    planned = plan_all(_only(snapshot, node), policies)
    considered = tuple(
        Considered(policy.name, _why_not(policy, pod, snapshot)) for policy in policies.policies
    )
    if pod.is_on_host_network:
        return Explained(node, considered, None, "it is on the host network: it has no vport")
    plan = planned.plans.get(node)
    if plan is None:
        return Explained(node, considered, None, f"the node's agent does not know contract {CONTRACT}")
    winner = plan.selector_for(pod.namespace, pod.labels)
    if winner is None:
        return Explained(node, considered, None, "no policy fits")
    if not winner.policy:
        return Explained(node, considered, winner, "there is no policy: everything is traced")
    others = sum(not each.why_not for each in considered) - 1
    reason = "the only policy that fits" if not others else f"the most specific of {others + 1} that fit"
    return Explained(node, considered, winner, reason)


def _only(snapshot: Snapshot, node: str) -> Snapshot:
    nodes = {node: snapshot.nodes[node]}
    inventories = {name: each for name, each in snapshot.inventories.items() if name == node}
    return Snapshot(snapshot.cluster, nodes, snapshot.namespaces, inventories=inventories)


def _why_not(policy: Policy, pod: Pod, snapshot: Snapshot) -> str:
    if fits_pod(policy, pod, snapshot):
        return ""
    node = snapshot.nodes.get(pod.node)
    labels = {} if node is None else node.labels
    for requirement in policy.node_selector.requirements:
        if not requirement.fits(labels):
            return f"node_selector: {requirement} does not fit node {pod.node}"
    namespace = snapshot.namespaces.get(pod.namespace)
    if namespace is None and not policy.fits_any_namespace:
        return f"namespaces: {pod.namespace} is not known"
    namespace = namespace or Namespace(pod.namespace)
    for requirement in policy.namespace_selector.requirements:
        if not requirement.fits(namespace.labels):
            return f"namespace_selector: {requirement} does not fit namespace {pod.namespace}"
    if not policy.fits_namespace(namespace):
        return f"namespaces: {pod.namespace} is none of {', '.join(policy.namespaces)}"
    unfit = [str(each) for each in policy.pod_selector.requirements if not each.fits(pod.labels)]
    return f"pod_selector: {unfit[0]} does not fit"


def _group_of(chosen: Sequence[Policy], namespaces: Mapping[str, Namespace], *, has_policies: bool) -> _Group:
    if not has_policies:
        return _Group((EVERYTHING,), ProgramPlan(), ())
    selectors = tuple(_selector(policy, namespaces) for policy in chosen)
    searches = [policy.search for policy in chosen if policy.traced]
    if not searches:
        return _Group(selectors, ProgramPlan(filter=True), ())
    geneve = {each.geneve_port for each in searches if each.geneve_port is not None}
    program = ProgramPlan(
        filter=True,
        window=max(_DEFAULT.window if each.window is None else each.window for each in searches),
        encapsulations=_union(each.encapsulations or _DEFAULT.encapsulations for each in searches),
        contexts=_union(each.contexts or _DEFAULT.contexts for each in searches),
        geneve_port=min(geneve, default=None),
    )
    return _Group(
        selectors, program, tuple(sorted({port for each in searches for port in each.vxlan_ports or ()}))
    )


def _selector(policy: Policy, namespaces: Mapping[str, Namespace]) -> PodSelector:
    names = None
    if not policy.fits_any_namespace:
        names = tuple(sorted(name for name, each in namespaces.items() if policy.fits_namespace(each)))
    return PodSelector(
        policy=policy.name,
        namespaces=names,
        labels=policy.pod_selector.requirements,
        **policy.parameters(),  # type: ignore[arg-type]  # fields of the same base
    )


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _program(group: _Group, inventory: NodeInventory | None) -> tuple[ProgramPlan, tuple[str, ...]]:
    """With the VXLAN ports that the node's own overlays use first: the program has room for two."""
    overlays = () if inventory is None else inventory.overlays
    own = [each.port for each in overlays if each.kind == "vxlan" and each.port]
    wanted = list(dict.fromkeys([*own, *group.ports]))
    if not wanted:
        return group.program, ()
    ports = [*wanted, *(port for port in _DEFAULT.vxlan_ports if port not in wanted)][:2]
    left_out = [str(port) for port in wanted[2:]]
    warnings = (f"VXLAN ports {', '.join(left_out)} are left out: a program has two",) if left_out else ()
    return group.program.model_copy(update={"vxlan_ports": tuple(sorted(ports))}), warnings


def _differences(before: NodePlan, after: NodePlan) -> list[str]:
    lines = []
    if before.nic != after.nic:
        lines.append(f"nic {_listed(before.nic)} → {_listed(after.nic)}")
    old, new = (plan.program.model_dump(mode="json") for plan in (before, after))
    lines += [f"program.{name} {old[name]} → {new[name]}" for name in old if old[name] != new[name]]
    if before.selectors != after.selectors:
        then, now = ({each.policy: each for each in plan.selectors} for plan in (before, after))
        lines += [
            f"policy {name}: {_change(then.get(name), now.get(name))}"
            for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)
        ]
        if then == now:
            lines.append("policies count in another order")
    if before.max_series != after.max_series:
        lines.append(f"max_series {before.max_series} → {after.max_series}")
    if before.cluster != after.cluster:
        lines.append(f"cluster {before.cluster} → {after.cluster}")
    return lines


def _change(before: PodSelector | None, after: PodSelector | None) -> str:
    if before is None or after is None:
        return "new" if before is None else "gone"
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return ", ".join(f"{name} {old[name]} → {new[name]}" for name in old if old[name] != new[name])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "looked for"
