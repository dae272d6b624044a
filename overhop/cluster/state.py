# SPDX-License-Identifier: Apache-2.0
"""How overhop is in a cluster: its agent on every node, its controllers."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.cluster.api import Api
from overhop.cluster.manifests import AGENT, CONTROLLER, workload_path
from overhop.cluster.present import LOOK_S, is_ready, linux_nodes, pods


@dataclass(frozen=True, slots=True)
class NodeState:
    """overhop on one node. `pod`: its agent, empty if there is none."""

    node: str
    pod: str
    is_ready: bool
    is_reached: bool | None
    """Whether the controller has heard of the agent; None: nobody could be asked."""
    restarts: int
    image: str
    why: str
    """Why it is not ready, as far as Kubernetes says."""


def status(api: Api, namespace: str, reached: Mapping[str, bool] | None = None) -> list[NodeState]:
    """Of every node; `reached`: nodes, and whether the controller has heard of them. Raises ApiError."""
    there = {
        each["spec"].get("nodeName", ""): each
        for each in pods(api, namespace, "agent")
        if "deletionTimestamp" not in each["metadata"]
    }
    names = sorted(each["metadata"]["name"] for each in linux_nodes(api))
    return [
        _state(name, there.get(name), None if reached is None else reached.get(name, False)) for name in names
    ]


def controllers(api: Api, namespace: str) -> list[tuple[str, bool]]:
    """Controllers and whether each is ready: the one that leads is. Raises ApiError."""
    return [(each["metadata"]["name"], is_ready(each)) for each in pods(api, namespace, "controller")]


def wait_until_ready(api: Api, namespace: str, timeout_s: float) -> list[str]:
    """What is not ready after that time; empty: all is. Raises ApiError."""
    until_s = time.monotonic() + timeout_s
    while True:
        lacking = [f"agent of {each.node}" for each in status(api, namespace) if not each.is_ready]
        if not any(ready for _, ready in controllers(api, namespace)):
            lacking.append("controller")
        lacking += _not_replaced(api, namespace)
        if not lacking or time.monotonic() > until_s:
            return lacking
        time.sleep(LOOK_S)


def lines(states: Sequence[NodeState]) -> list[tuple[str, ...]]:
    """Rows of a table: node, agent, ready, reached, restarts, image, why."""
    words = {True: "yes", False: "no", None: "?"}
    return [
        (
            each.node,
            each.pod or "-",
            words[each.is_ready],
            words[each.is_reached],
            str(each.restarts),
            each.image or "-",
            each.why,
        )
        for each in states
    ]


def _not_replaced(api: Api, namespace: str) -> list[str]:
    """What still runs as it was before the last change, ready or not. Raises ApiError."""
    found = []
    for kind, name in (("DaemonSet", AGENT), ("Deployment", CONTROLLER)):
        each = api.get(workload_path(kind, namespace, name))
        state = each.get("status", {})
        wanted = state.get("desiredNumberScheduled", each["spec"].get("replicas", 0))
        is_seen = state.get("observedGeneration", 0) >= each["metadata"]["generation"]
        done = state.get("updatedNumberScheduled", state.get("updatedReplicas", 0)) if is_seen else 0
        if not is_seen or done < wanted:
            found.append(f"{name}: {done} of {wanted} replaced")
    return found


def _state(name: str, pod: Mapping[str, Any] | None, is_reached: bool | None) -> NodeState:
    if pod is None:
        return NodeState(name, "", False, is_reached, restarts=0, image="", why="there is no agent")
    statuses = pod.get("status", {}).get("containerStatuses") or []
    first = statuses[0] if statuses else {}
    waiting = first.get("state", {}).get("waiting") or first.get("state", {}).get("terminated") or {}
    why = " ".join(f"{waiting.get('reason', '')} {waiting.get('message', '')}".split())
    return NodeState(
        name,
        pod["metadata"]["name"],
        is_ready(pod),
        is_reached,
        int(first.get("restartCount", 0)),
        pod["spec"]["containers"][0]["image"],
        "" if is_ready(pod) else why or pod.get("status", {}).get("phase", "not ready"),
    )
