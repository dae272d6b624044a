# SPDX-License-Identifier: Apache-2.0
"""A plan for a node that was given none, or only a part: made from its interfaces."""

import glob
from collections.abc import Sequence

from agent.network.links import ARPHRD_ETHER, Link
from agent.plan.model import Plan, VportPlan


class DiscoveryError(Exception):
    """The interfaces do not say which one is the NIC."""


def completed(plan: Plan, links: Sequence[Link]) -> Plan:
    """`plan` with the NIC and the vports that it does not name.

    An empty list of vports means none. `links` are the interfaces of this network namespace. Raises
    DiscoveryError if no NIC, or more than one, could be meant.
    """
    nics = plan.nic or (find_nic(links),)
    vports = plan.vports if "vports" in plan.model_fields_set else find_vports(links, nics)
    return plan.model_copy(update={"nic": nics, "vports": vports})


def find_nic(links: Sequence[Link]) -> str:
    """The default route's interface, else the only Ethernet hardware. Raises DiscoveryError."""
    routed = next((link.name for link in links if link.default_route), None)
    if routed is not None:
        return routed
    hardware = [link.name for link in links if link.arphrd == ARPHRD_ETHER and not link.kind]
    if len(hardware) == 1:
        return hardware[0]
    found = f"several could be it: {', '.join(hardware)}" if hardware else "no interface is hardware"
    raise DiscoveryError(f"find the NIC: no default route, and {found}: name it in the plan: `nic: NAME`")


def find_vports(links: Sequence[Link], nics: Sequence[str]) -> tuple[VportPlan, ...]:
    """Every veth whose other end is in another namespace, named after its interface; a NIC is none."""
    return tuple(
        VportPlan(match=glob.escape(link.name), pod=link.name)
        for link in links
        if link.kind == "veth" and link.link_netnsid is not None and link.name not in nics
    )
