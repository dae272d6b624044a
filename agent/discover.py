# SPDX-License-Identifier: Apache-2.0
"""A plan for a node that was given none, or only a part: made from its interfaces."""

import glob
from collections.abc import Sequence
from typing import Protocol

from agent.plan import Plan, VportPlan


class LinkLike(Protocol):
    """What must be known of an interface; agent.netlink's links have it."""

    @property
    def name(self) -> str:
        """Name of the interface."""

    @property
    def kind(self) -> str:
        """IFLA_INFO_KIND (`veth`, `vxlan`, `bridge`); empty for hardware and loopback."""

    @property
    def link_netnsid(self) -> int | None:
        """IFLA_LINK_NETNSID: id of the namespace of the other end; None if that is here."""

    @property
    def is_ethernet(self) -> bool:
        """Whether frames have an Ethernet header (ARPHRD_ETHER)."""

    @property
    def default_route(self) -> bool:
        """Whether a default route leaves through it."""


class DiscoveryError(Exception):
    """The interfaces do not say which one is the NIC."""


def completed(plan: Plan, links: Sequence[LinkLike]) -> Plan:
    """`plan` with the NIC and the vports that it does not name. Raises DiscoveryError."""
    nics = plan.nic or find_nics(links)
    vports = plan.vports or find_vports(links, nics)
    return plan.model_copy(update={"nic": nics, "vports": vports})


def find_nics(links: Sequence[LinkLike]) -> tuple[str, ...]:
    """Devices of the default route, else the only Ethernet device that is hardware. Raises DiscoveryError."""
    routed = tuple(link.name for link in links if link.default_route)
    if routed:
        return routed
    physical = tuple(link.name for link in links if link.is_ethernet and not link.kind)
    if len(physical) == 1:
        return physical
    found = f"several devices could be it: {', '.join(physical)}" if physical else "no device could be it"
    raise DiscoveryError(f"find the NIC: no default route, and {found}: name it in the plan, `nic: NAME`")


def find_vports(links: Sequence[LinkLike], nics: Sequence[str]) -> tuple[VportPlan, ...]:
    """Every veth whose other end is in another namespace, named after its interface; a NIC is none."""
    return tuple(
        VportPlan(match=glob.escape(link.name), pod=link.name)
        for link in links
        if link.kind == "veth" and link.link_netnsid is not None and link.name not in nics
    )
