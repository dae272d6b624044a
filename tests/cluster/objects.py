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


def web(name: str, replicas: int) -> tuple[Object, Object]:
    """A Deployment of HTTP servers that answer with their host name, and its Service."""
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "lab/base:1"}],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": labels},
                }
            ],
        },
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    meta = {"name": name, "namespace": "default"}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    ports = [{"port": 80, "targetPort": 80}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"selector": labels, "ports": ports},
    }
    return deployment, service


def http_pod(name: str, *, probe: bool = False) -> Object:
    """A pod with an HTTP server, perhaps asked by its kubelet every second."""
    container: Object = {"name": "c", "image": "lab/base:1"}
    if probe:
        container["readinessProbe"] = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def sender(name: str, address: str, ids: list[str], on: str, pause_s: float = 0.05) -> Object:
    """A pod that sends a request for each id as soon as it runs, and ends."""
    script = "".join(
        f"printf 'GET / HTTP/1.1\\r\\ntraceparent: 00-{each}-00000000000000a1-01\\r\\nHost: x\\r\\n"
        f"Connection: close\\r\\n\\r\\n' | nc -w 5 {address} 80 >/dev/null; sleep {pause_s}\n"
        for each in ids
    )
    container = {"name": "c", "image": "lab/base:1", "command": ["sh", "-c", script]}
    spec = {
        "nodeName": on,
        "restartPolicy": "Never",
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def service_account(name: str, namespace: str) -> Object:
    """A service account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def agent(name: str, on: str, account: str = "overhop-agent") -> Object:
    """A pod as the DaemonSet's: nobody runs it, but it is there."""
    found = pod(name, on, "overhop")
    found["spec"]["serviceAccountName"] = account
    return found


def service(name: str, app: str) -> Object:
    """A Service of the pods with that label `app`, port 80."""
    spec = {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 80}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }
