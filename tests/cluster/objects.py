# SPDX-License-Identifier: Apache-2.0
"""Objects of the Kubernetes API, as a test writes them."""

from typing import Any

from tests.kubernetes import Kubernetes

Object = dict[str, Any]


def node(name: str, address: str, pod_cidr: str = "", **labels: str) -> Object:
    """A node."""
    spec = {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]} if pod_cidr else {}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec}


def namespace(name: str, **labels: str) -> Object:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(name: str, on: str, namespace: str = "default", owner: Object | None = None, **labels: str) -> Object:
    """A pod on a node, perhaps controlled by an object."""
    meta: Object = {"name": name, "namespace": namespace, "labels": labels}
    if owner is not None:
        meta["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
            }
        ]
    spec = {
        "nodeName": on,
        "containers": [{"name": "c", "image": "none"}],
        "terminationGracePeriodSeconds": 0,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def set_status(
    cluster: Kubernetes, kind: str, name: str, namespace: str = "default", **status: object
) -> None:
    """What a kubelet would report."""
    import json

    patch = json.dumps({"status": status})
    cluster.kubectl("-n", namespace, "patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)


def runs_at(cluster: Kubernetes, name: str, address: str, namespace: str = "default") -> None:
    """The pod got this address."""
    set_status(
        cluster,
        "pod",
        name,
        namespace,
        phase="Running",
        podIP=address,
        podIPs=[{"ip": address}],
        startTime="2026-01-01T00:00:00Z",
    )
