# SPDX-License-Identifier: Apache-2.0
"""A plan for a node that was given none, or only a part: made from its interfaces."""

import glob
from collections.abc import Callable, Sequence

from agent.network.links import Link
from agent.network.nic import choose_nics
from agent.network.routes import Ways, read_ways
from agent.plan.model import Plan, VportPlan


def completed(plan: Plan, links: Sequence[Link], ways: Callable[[], Ways] = read_ways) -> Plan:
    """`plan` with the NICs and the vports that it does not name.

    An empty list of vports means none. `links` are the interfaces of this network namespace, `ways` is asked
    only for NICs. Raises DiscoveryError if it cannot be told what the NIC is.
    """
    nics = plan.nic or choose_nics(links, ways()).names
    vports = plan.vports if "vports" in plan.model_fields_set else find_vports(links, nics)
    return plan.model_copy(update={"nic": nics, "vports": vports})


def find_vports(links: Sequence[Link], nics: Sequence[str]) -> tuple[VportPlan, ...]:
    """Every veth whose other end is in another namespace, named after its interface; a NIC is none."""
    return tuple(
        VportPlan(match=glob.escape(link.name), pod=link.name)
        for link in links
        if link.kind == "veth" and link.link_netnsid is not None and link.name not in nics
    )
