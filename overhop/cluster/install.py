# SPDX-License-Identifier: Apache-2.0
"""Puts overhop into a cluster, and takes it out again, object by object."""

import copy
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from collector.cluster.api import Api, ApiError
from overhop.cluster.certificate import make_certificate
from overhop.cluster.manifests import (
    AGENT,
    CA_CONFIG,
    CONTROLLER,
    INFLUXDB,
    PEOPLE_SECRET,
    STORE_SECRET,
    TLS_SECRET,
    Object,
    Wish,
    config_map,
    path_of,
    secret,
    shown,
    wished,
)

MANAGER: Final = "overhop"
CLEANER: Final = "overhop-clean"
_APPLY: Final = "application/apply-patch+yaml"
_NOT_FOUND: Final = 404
_LOOK_S: Final = 0.25
Say = Callable[[str], None]


def node_cidrs(api: Api) -> list[str]:
    """The internal addresses of all nodes, each as a network of its own. Raises ApiError."""
    found = []
    for node in api.get("/api/v1/nodes")["items"]:
        for each in node.get("status", {}).get("addresses", ()):
            if each["type"] == "InternalIP":
                found.append(f"{each['address']}/{128 if ':' in each['address'] else 32}")
    return sorted(found)


def objects_of(api: Api | None, wish: Wish, store_token: bytes | None) -> list[Object]:
    """All that is to be there; secrets that are there already stay as they are. Raises ApiError, OSError."""
    first, *others = wished(wish)
    made = [first]
    if not _exists(api, secret(TLS_SECRET, wish.namespace, {})):
        service = f"{CONTROLLER}.{wish.namespace}.svc"
        certificate, key = make_certificate((CONTROLLER, service))
        pair = {"tls.crt": certificate, "tls.key": key}
        made.append(secret(TLS_SECRET, wish.namespace, pair, "kubernetes.io/tls"))
        made.append(config_map(CA_CONFIG, wish.namespace, {"ca.crt": certificate.decode()}))
    if not _exists(api, secret(PEOPLE_SECRET, wish.namespace, {})):
        token = secrets.token_urlsafe(32).encode()
        made.append(secret(PEOPLE_SECRET, wish.namespace, {"token": token}))
    if (
        wish.has_influxdb
        and store_token is None
        and not _exists(api, secret(STORE_SECRET, wish.namespace, {}))
    ):
        store_token = secrets.token_urlsafe(32).encode()
    if store_token is not None:
        made.append(secret(STORE_SECRET, wish.namespace, {"token": store_token.strip()}))
    return [*made, *others]


def apply(api: Api, objects: Iterable[Object], say: Say) -> None:
    """Create or change them, in their order. Raises ApiError."""
    query = {"fieldManager": MANAGER, "force": "true"}
    for each in objects:
        api.send("PATCH", path_of(each), each, query=query, content=_APPLY)
        say(f"{shown(each)}: applied")


def trial_store(api: Api, namespace: str) -> str:
    """URL of the InfluxDB for trials, by its Service's address: agents need no DNS. Raises ApiError."""
    objects = wished(Wish(image="", namespace=namespace, has_influxdb=True))
    service = next(each for each in objects if shown(each) == f"service/{INFLUXDB}")
    apply(api, [objects[0], service], lambda _: None)
    address = api.get(path_of(service))["spec"]["clusterIP"]
    host = f"[{address}]" if ":" in address else address
    return f"influxdb2://{host}:8086/overhop"


@dataclass(frozen=True, slots=True)
class NodeState:
    """overhop on one node. `pod`: its agent, empty if there is none."""

    node: str
    pod: str
    is_ready: bool
    restarts: int
    image: str
    why: str
    """Why it is not ready, as far as Kubernetes says."""


def status(api: Api, namespace: str) -> list[NodeState]:
    """Of every node. Raises ApiError."""
    pods = {
        each["spec"].get("nodeName", ""): each
        for each in _pods(api, namespace, "agent")
        if "deletionTimestamp" not in each["metadata"]
    }
    nodes = sorted(each["metadata"]["name"] for each in api.get("/api/v1/nodes")["items"])
    return [_node_state(name, pods.get(name)) for name in nodes]


def controllers(api: Api, namespace: str) -> list[tuple[str, bool]]:
    """Controllers and whether each is ready: the one that leads is. Raises ApiError."""
    return [(each["metadata"]["name"], _is_ready(each)) for each in _pods(api, namespace, "controller")]


def wait_until_ready(api: Api, namespace: str, timeout_s: float) -> list[str]:
    """What is not ready after that time; empty: all is. Raises ApiError."""
    until_s = time.monotonic() + timeout_s
    while True:
        missing = [each.node for each in status(api, namespace) if not each.is_ready]
        lacking = [f"agent of {name}" for name in missing]
        if not any(ready for _, ready in controllers(api, namespace)):
            lacking.append("controller")
        if not lacking or time.monotonic() > until_s:
            return lacking
        time.sleep(_LOOK_S)


def uninstall(api: Api, namespace: str, timeout_s: float, say: Say) -> list[str]:
    """Clean every node, then remove everything. Returns nodes that were not reached. Raises ApiError."""
    nodes = {each["metadata"]["name"] for each in api.get("/api/v1/nodes")["items"]}
    agents = _found(api, _path("DaemonSet", namespace, AGENT, "apps/v1"))
    if agents is None:
        say("there are no agents: nothing is cleaned")
        left: set[str] = set()
    else:
        _delete(api, _path("DaemonSet", namespace, AGENT, "apps/v1"))
        _until(lambda: not _pods(api, namespace, "agent"), timeout_s)
        say("agents: gone")
        left = nodes - _cleaned(api, namespace, agents, nodes, timeout_s)
        say(f"nodes: {len(nodes) - len(left)} of {len(nodes)} cleaned")
    for each in reversed(wished(Wish(image="", namespace=namespace, has_influxdb=True))):
        if _delete(api, path_of(each)):
            say(f"{shown(each)}: removed")
    gone = _until(lambda: _found(api, f"/api/v1/namespaces/{namespace}") is None, timeout_s)
    say(f"namespace {namespace}: {'gone' if gone else 'still ending'}")
    return sorted(left)


def _cleaned(api: Api, namespace: str, agents: Object, nodes: set[str], timeout_s: float) -> set[str]:
    """Nodes on which `overhop clean` has ended well."""
    cleaner = _cleaner(agents)
    apply(api, [cleaner], lambda _: None)
    done: set[str] = set()

    def is_done() -> bool:
        done.update(each["spec"]["nodeName"] for each in _pods(api, namespace, "clean") if _is_ready(each))
        return done >= nodes

    _until(is_done, timeout_s)
    _delete(api, path_of(cleaner))
    return done


def _cleaner(agents: Object) -> Object:
    """A DaemonSet that runs `overhop clean` where and as the agents run, and is ready once that is done."""
    spec = copy.deepcopy(agents["spec"])
    labels = {"app.kubernetes.io/name": "overhop", "app.kubernetes.io/component": "clean"}
    spec["selector"] = {"matchLabels": labels}
    spec["template"]["metadata"] = {"labels": labels}
    [container] = spec["template"]["spec"]["containers"]
    command = "/usr/local/bin/overhop clean && touch /tmp/cleaned && exec sleep 86400"
    container |= {"name": "clean", "command": ["sh", "-c", command]}
    container["readinessProbe"] = {"exec": {"command": ["test", "-f", "/tmp/cleaned"]}, "periodSeconds": 1}
    container.pop("args", None)
    container.pop("ports", None)
    spec["template"]["spec"]["terminationGracePeriodSeconds"] = 0
    spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}
    meta = {"name": CLEANER, "namespace": agents["metadata"]["namespace"], "labels": labels}
    kept = {"selector", "template", "updateStrategy"}
    wanted = {key: value for key, value in spec.items() if key in kept}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta, "spec": wanted}


def _node_state(name: str, pod: dict[str, Any] | None) -> NodeState:
    if pod is None:
        return NodeState(name, "", is_ready=False, restarts=0, image="", why="there is no agent")
    statuses = pod.get("status", {}).get("containerStatuses", [])
    first = statuses[0] if statuses else {}
    waiting = first.get("state", {}).get("waiting") or first.get("state", {}).get("terminated") or {}
    why = f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
    is_ready = _is_ready(pod)
    return NodeState(
        name,
        pod["metadata"]["name"],
        is_ready,
        int(first.get("restartCount", 0)),
        pod["spec"]["containers"][0]["image"],
        "" if is_ready else " ".join(why.split()) or pod.get("status", {}).get("phase", "not ready"),
    )


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _pods(api: Api, namespace: str, component: str) -> list[dict[str, Any]]:
    selector = f"app.kubernetes.io/name=overhop,app.kubernetes.io/component={component}"
    found = api.get(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector})
    items: list[dict[str, Any]] = found["items"]
    return items


def _path(kind: str, namespace: str, name: str, version: str) -> str:
    meta = {"name": name, "namespace": namespace}
    return path_of({"apiVersion": version, "kind": kind, "metadata": meta})


def _exists(api: Api | None, each: Object) -> bool:
    return api is not None and _found(api, path_of(each)) is not None


def _found(api: Api, path: str) -> Object | None:
    try:
        return api.get(path)
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return None
        raise


def _delete(api: Api, path: str) -> bool:
    """Whether there was something."""
    try:
        api.send("DELETE", path, {"propagationPolicy": "Background"})
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return False
        raise
    return True


def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(_LOOK_S)
    return True


def lines(states: Sequence[NodeState]) -> list[tuple[str, ...]]:
    """Rows of a table: node, agent, ready, restarts, why."""
    return [
        (each.node, each.pod or "-", "yes" if each.is_ready else "no", str(each.restarts), each.why)
        for each in states
    ]
