# SPDX-License-Identifier: Apache-2.0
"""The plan files of a lab's agents (docs/plan.md)."""

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from overhop.lab import underlay

if TYPE_CHECKING:
    from overhop.lab.hosts import Cluster, Node, Pod


def plan(node: "Node") -> dict[str, object]:
    """What a standalone agent on this node shall do."""
    vports = [{"match": pod.vport, **_pod(pod)} for pod in node.pods]
    return {"nic": underlay.NIC, "vports": vports, "names": names(node)}


def names(node: "Node") -> dict[str, object]:
    """What an agent on this node cannot know of the others: pods, nodes, services, by address."""
    cluster = node.cluster
    others = [pod for other in cluster.nodes if other is not node for pod in other.pods]
    return {
        "pods": [_pod(pod) for pod in others],
        "nodes": [{"name": each.name, "addresses": _node_addresses(each)} for each in cluster.nodes],
        "services": [
            {
                "namespace": service.namespace,
                "name": service.name,
                "addresses": service.addresses,
                "port": service.port,
                "node_port": service.node_port,
            }
            for service in cluster.services
        ],
        "pod_networks": _pod_networks(cluster),
    }


def write(path: Path, plan: dict[str, object]) -> None:
    """Replace a plan file in one step, so that no agent reads half of it."""
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump(plan))
    draft.rename(path)


def _pod(pod: "Pod") -> dict[str, object]:
    return {
        "namespace": pod.namespace,
        "pod": pod.name,
        "workload": pod.workload,
        "addresses": pod.addresses,
    }


def _node_addresses(node: "Node") -> list[str]:
    """Masquerade takes those of the overlay's device and of the bridge as well."""
    return [*node.addresses, *map(str, node.overlay.addresses(node.plot))]


def _pod_networks(cluster: "Cluster") -> list[str]:
    four = [str(underlay.CLUSTER)] if cluster.options.has_ipv4 else []
    six = [str(underlay.CLUSTER6)] if cluster.options.has_ipv6 else []
    return [*four, *six]
