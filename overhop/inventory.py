# SPDX-License-Identifier: Apache-2.0
"""What one node knows of itself, put together: interfaces, vports, overlay, NAT, kernel, agent. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.plan.model import Plan, VportPlan
from agent.plan.names import NamesPlan
from collector.node.abilities import Abilities
from collector.node.links import OVERLAY_KINDS, Link, Network
from collector.node.nat import NatRules, Service
from collector.node.pods.local import LocalPod
from overhop.own_pods import OwnPods


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface. `role`: `nic`, `vport`, `overlay`, or empty."""

    ifindex: int
    name: str
    kind: str
    role: str
    up: bool
    mtu_bytes: int
    master: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vport:
    """A pod's interface, and the pod by the plan, else by whoever tells the node's pods.

    Where nobody names it the interface's name stands for it.
    """

    ifindex: int
    name: str
    namespace: str
    pod: str
    workload: str
    addresses: tuple[str, ...]
    """Of the pod, as far as they are known."""
    traced: bool
    uid: str = ""
    """Of the pod, as far as it is known."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A tunnel device. `number` is its VNI; `port` its UDP port; 0 where there is none."""

    name: str
    kind: str
    number: int
    port: int
    mtu_bytes: int
    over: str


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """The agent of this network namespace; `answers`: it could be asked."""

    pid: int
    answers: bool
    nic: tuple[str, ...] = ()
    vports: int = 0


@dataclass(frozen=True, slots=True)
class Readings:
    """What was read of a node; `addresses` by ifindex, `nat` by family."""

    network: Network
    addresses: Mapping[int, Sequence[str]]
    nat: Mapping[str, NatRules]
    abilities: Abilities
    agent: RunningAgent | None
    pods: OwnPods = field(default_factory=OwnPods)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All of it."""

    node: str
    nic: tuple[str, ...]
    nic_reason: str
    """Why it is that."""
    nic_problem: str
    """Why it is not known which interface is the NIC, or which one is not there."""
    interfaces: tuple[Interface, ...]
    vports: tuple[Vport, ...]
    overlays: tuple[Overlay, ...]
    offloads: Mapping[str, bool]
    """gro, tso, gso of the NIC, the first if there are several."""
    nat: Mapping[str, NatRules]
    abilities: Abilities
    agent: RunningAgent | None
    pods_source: str = ""
    """Who told the node's pods."""
    pods_problem: str = ""
    """Why that may not be all; empty otherwise."""


def inventory_of(node: str, plan: Plan, nic_problem: str, found: Readings) -> Inventory:
    """Puts together what was read; `plan` is completed."""
    links = found.network.links
    missing = [name for name in plan.nic if name not in {link.name for link in links}]
    if missing:
        nic_problem = f"no such interface: {', '.join(missing)}"
    owners = {pod.interface: pod for pod in found.pods.found if pod.interface}
    return Inventory(
        node=node,
        nic=plan.nic,
        nic_reason=found.network.nic_reason,
        nic_problem=nic_problem,
        interfaces=tuple(_interface(link, plan, found.addresses.get(link.ifindex, ())) for link in links),
        vports=tuple(
            _vport(link, plan, owners.get(link.name)) for link in links if _role(link, plan) == "vport"
        ),
        overlays=tuple(_overlay(link, links) for link in links if link.kind in OVERLAY_KINDS),
        offloads=found.network.offloads,
        nat={family: _named(rules, plan.names) for family, rules in found.nat.items()},
        abilities=found.abilities,
        agent=found.agent,
        pods_source=found.pods.source,
        pods_problem=found.pods.problem,
    )


def _role(link: Link, plan: Plan) -> str:
    if link.name in plan.nic:
        return "nic"
    if link.kind in OVERLAY_KINDS:
        return "overlay"
    return "vport" if plan.vport_for(link.name) is not None else ""


def _interface(link: Link, plan: Plan, addresses: Sequence[str]) -> Interface:
    role = _role(link, plan)
    return Interface(
        link.ifindex, link.name, link.kind, role, link.up, link.mtu_bytes, link.master, tuple(addresses)
    )


def _vport(link: Link, plan: Plan, owner: LocalPod | None) -> Vport:
    entry = plan.vport_for(link.name)
    if entry is None:
        raise ValueError(f"{link.name} is no vport")
    if owner is not None and not _is_named(entry, link.name):
        return _owned(link, owner, entry.traced)
    name = entry.pod or entry.workload or link.name
    return Vport(
        ifindex=link.ifindex,
        name=link.name,
        namespace=entry.namespace,
        pod=name,
        workload=entry.workload or name,
        addresses=tuple(str(address) for address in entry.addresses),
        traced=entry.traced,
    )


def _is_named(entry: VportPlan, ifname: str) -> bool:
    """By the plan; an entry that was made of the interface is called after it."""
    return entry.pod not in ("", ifname) or bool(entry.workload or entry.namespace)


def _owned(link: Link, owner: LocalPod, traced: bool) -> Vport:
    name = owner.name or link.name
    return Vport(
        ifindex=link.ifindex,
        name=link.name,
        namespace=owner.namespace,
        pod=name,
        workload=owner.workload or name,
        addresses=owner.addresses,
        traced=traced,
        uid=owner.uid,
    )


def _overlay(link: Link, links: Sequence[Link]) -> Overlay:
    over = next((one.name for one in links if link.lower_ifindex and one.ifindex == link.lower_ifindex), "")
    return Overlay(link.name, link.kind, link.overlay_id, link.overlay_port, link.mtu_bytes, over)


def _address(service: Service) -> str:
    """As a plan has it: a node port is one on every address."""
    return "" if service.kind == "node-port" else service.address


def _named(rules: NatRules, names: NamesPlan) -> NatRules:
    """Services that no comment names are called as the plan does."""
    by_address: dict[tuple[str, int], str] = {}
    for one in names.services:
        name = f"{one.namespace}/{one.name}" if one.namespace else one.name
        by_address |= {(str(address), one.port): name for address in one.addresses}
        if one.node_port is not None:
            by_address["", one.node_port] = name
    services = (
        replace(each, name=each.name or by_address.get((_address(each), each.port), ""))
        for each in rules.services
    )
    return replace(rules, services=tuple(services))
