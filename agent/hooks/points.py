# SPDX-License-Identifier: Apache-2.0
"""Which programs belong where: from a completed plan and the interfaces that there are. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.network.links import Link
from agent.network.nic import DiscoveryError
from agent.plan.model import Plan, VportPlan
from bpf.record import Point

NIC_POINTS = (Point.NIC_IN, Point.NIC_OUT)
VPORT_POINTS = (Point.VPORT_IN, Point.VPORT_OUT)


@dataclass(frozen=True, slots=True, order=True)
class Hook:
    """One tracing point of one interface."""

    ifindex: int
    point: Point


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be attached now."""

    hooks: Mapping[Hook, Link]
    vports: Mapping[int, VportPlan]
    """By ifindex."""
    missing_nics: tuple[str, ...]
    """NICs of the plan that are not there (any more, or yet)."""


def wanted(plan: Plan, links: Sequence[Link]) -> Wanted:
    """Hooks and vports of a completed plan. Raises DiscoveryError if a packet would be counted twice."""
    by_name = {link.name: link for link in links}
    nics = [by_name[name] for name in plan.nic if name in by_name]
    _refuse_twofold(nics)
    hooks = {Hook(link.ifindex, point): link for link in nics for point in NIC_POINTS}
    vports = {}
    for link in links:
        vport = plan.vport_for(link.name)
        if vport is None or link.name in plan.nic or not link.is_ethernet:
            continue
        vports[link.ifindex] = vport
        hooks |= {Hook(link.ifindex, point): link for point in VPORT_POINTS}
    return Wanted(hooks, vports, tuple(name for name in plan.nic if name not in by_name))


def _refuse_twofold(nics: Sequence[Link]) -> None:
    """A bond and its slave, or a VLAN device and its parent, see the same packet."""
    by_index = {link.ifindex: link for link in nics}
    for link in nics:
        parent = link.peer_ifindex if link.kind != "veth" and link.link_netnsid is None else 0
        upper = by_index.get(link.master) or by_index.get(parent)
        if upper is not None:
            raise DiscoveryError(
                f"nic: {upper.name} and {link.name} see the same packets (bond or VLAN): name one of them"
            )
