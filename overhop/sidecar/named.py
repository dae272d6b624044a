# SPDX-License-Identifier: Apache-2.0
"""Whose an address is, as a plan says (docs/plan.md)."""

from collections.abc import Sequence

from agent.plan.model import Plan, VportPlan
from agent.plan.names import PodName


def names_of(plan: Plan) -> dict[bytes, str]:
    """`namespace/workload` by address (4 or 16 bytes); nodes by their name."""
    names = {address.packed: node.name for node in plan.names.nodes for address in node.addresses}
    entries: Sequence[PodName | VportPlan] = (*plan.names.pods, *plan.vports)
    for entry in entries:
        workload = entry.workload or entry.pod
        text = f"{entry.namespace}/{workload}" if entry.namespace and workload else workload
        names |= {address.packed: text for address in entry.addresses if text}
    return names
