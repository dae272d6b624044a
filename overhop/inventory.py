# SPDX-License-Identifier: Apache-2.0
"""What one node knows of itself, put together: interfaces, vports, overlay, NAT, kernel, agent. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.plan.model import Plan
from agent.plan.names import NamesPlan
from collector.node.abilities import Abilities
from collector.node.links import OVERLAY_KINDS, Link, Network
from collector.node.nat import NatRules, Service


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
    """A pod's interface, and the pod by the plan; without a name there, the interface's stands for it."""

    ifindex: int
    name: str
    namespace: str
    pod: str
    workload: str
    addresses: tuple[str, ...]
    """Of the pod, as far as the plan says."""
    traced: bool


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


@dataclass(frozen=True, slots=True)
class Inventory:
    """All of it."""

    node: str
    nic: tuple[str, ...]
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


def inventory_of(node: str, plan: Plan, nic_problem: str, found: Readings) -> Inventory:
    """Puts together what was read; `plan` is completed."""
    links = found.network.links
    missing = [name for name in plan.nic if name not in {link.name for link in links}]
    if missing:
        nic_problem = f"no such interface: {', '.join(missing)}"
    return Inventory(
        node=node,
        nic=plan.nic,
        nic_problem=nic_problem,
        interfaces=tuple(_interface(link, plan, found.addresses.get(link.ifindex, ())) for link in links),
        vports=tuple(_vport(link, plan) for link in links if _role(link, plan) == "vport"),
        overlays=tuple(_overlay(link, links) for link in links if link.kind in OVERLAY_KINDS),
        offloads=found.network.offloads,
        nat={family: _named(rules, plan.names) for family, rules in found.nat.items()},
        abilities=found.abilities,
        agent=found.agent,
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


def _vport(link: Link, plan: Plan) -> Vport:
    entry = plan.vport_for(link.name)
    if entry is None:
        raise ValueError(f"{link.name} is no vport")
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
