# SPDX-License-Identifier: Apache-2.0
"""From the plan of a node, its pods and its interfaces to what is to be done now. Pure.

A pod's workload is what the controller says; until it has said so a mark stands for it (agent.naming.marks).
"""

import glob
from collections.abc import Iterable, Mapping, Sequence

from agent.control.pods import OwnPod
from agent.naming.marks import interface_mark, uid_mark
from agent.network.discover import find_vports
from agent.network.links import Link
from agent.plan.contract import NodePlan, PodSelector
from agent.plan.model import Plan, VportParameters, VportPlan

NOT_TRACED = VportParameters(traced=False)


def composed(
    plan: NodePlan,
    pods: Iterable[OwnPod],
    workloads: Mapping[str, str],
    links: Sequence[Link],
    nic: str | None,
) -> Plan:
    """What to do. `workloads` by uid; `nic`: what this node was told by hand, it counts before the plan's."""
    nics = (nic,) if nic else plan.nic
    owners = {pod.ifname: pod for pod in pods if pod.ifname}
    vports = [_owned(link.name, owners[link.name], plan, workloads) for link in links if link.name in owners]
    nobodys = [each for each in find_vports(links, nics) if _plain(each) not in owners]
    unnamed = plan.selector_for("", {}) if _takes_all(plan) else None
    vports += [
        VportPlan(
            match=each.match,
            workload=interface_mark(_plain(each)),
            **_parameters(unnamed),  # type: ignore[arg-type]  # fields of the same base
        )
        for each in nobodys
    ]
    names = {"nic": nics} if nics else {}
    return Plan(**names, vports=tuple(vports), program=plan.program)  # type: ignore[arg-type]  # a tuple of texts


def waiting(links: Sequence[Link], pods: Iterable[OwnPod], nics: Sequence[str]) -> frozenset[str]:
    """Interfaces of pods, of which it is not known whose they are."""
    owned = {pod.ifname for pod in pods}
    return frozenset(_plain(each) for each in find_vports(links, nics)) - owned


def _owned(ifname: str, pod: OwnPod, plan: NodePlan, workloads: Mapping[str, str]) -> VportPlan:
    selector = plan.selector_for(pod.namespace, pod.labels)
    return VportPlan(
        match=glob.escape(ifname),
        namespace=pod.namespace,
        pod=pod.name,
        workload=pod.workload or workloads.get(pod.uid) or uid_mark(pod.uid),
        addresses=pod.addresses,
        **_parameters(selector),  # type: ignore[arg-type]  # fields of the same base
    )


def _takes_all(plan: NodePlan) -> bool:
    """The first selector takes every pod: an interface is traced before it is known whose it is."""
    first = plan.selectors[0] if plan.selectors else None
    return first is not None and first.namespaces is None and not first.labels


def _parameters(selector: PodSelector | None) -> dict[str, object]:
    found: VportParameters = NOT_TRACED if selector is None else selector
    return {name: getattr(found, name) for name in VportParameters.model_fields}


def _plain(vport: VportPlan) -> str:
    """The interface of an entry of find_vports, which names the pod after it."""
    return vport.pod
