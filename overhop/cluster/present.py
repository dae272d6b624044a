# SPDX-License-Identifier: Apache-2.0
"""What of overhop is in a cluster, read and deleted object by object."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from collector.cluster.api import Api, ApiError
from overhop.cluster.manifests import CONTROLLER, LABELS, InstallationError, Object, path_of

LOOK_S: Final = 0.25
_NOT_FOUND: Final = 404
_BINDING: Final = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{CONTROLLER}"
_MINE: Final = "app.kubernetes.io/name"


def require_ours(api: Api, namespace: str) -> None:
    """Raises InstallationError: the namespace is another's, or overhop is in another one. Raises ApiError.

    Uninstalling removes the namespace with all that is in it, and there is one ClusterRoleBinding for all.
    """
    found = find(api, f"/api/v1/namespaces/{namespace}")
    if found is not None and (found["metadata"].get("labels") or {}).get(_MINE) != LABELS[_MINE]:
        raise InstallationError(
            f"namespace {namespace} is there and not overhop's: name one that is not there, "
            f"or label it {_MINE}={LABELS[_MINE]} if nothing else is in it"
        )
    others = _namespaces(find(api, _BINDING)) - {namespace}
    if others:
        other = min(others)
        raise InstallationError(f"overhop is in namespace {other} of this cluster: --namespace {other}")


def require_steady(api: Api, namespace: str) -> None:
    """Raises InstallationError: the namespace is ending, nothing can be created in it. Raises ApiError."""
    found = find(api, f"/api/v1/namespaces/{namespace}")
    if found is not None and "deletionTimestamp" in found["metadata"]:
        raise InstallationError(f"namespace {namespace} is still ending: wait until it is gone")


def linux_nodes(api: Api) -> list[Object]:
    """Nodes on which an agent is to be. Raises ApiError."""
    nodes: list[Object] = api.get("/api/v1/nodes")["items"]
    label = "kubernetes.io/os"
    return [each for each in nodes if (each["metadata"].get("labels") or {}).get(label, "linux") == "linux"]


def pods(api: Api, namespace: str, component: str) -> list[Object]:
    """Pods of a component: agent, controller, clean. Raises ApiError."""
    selector = f"{_MINE}={LABELS[_MINE]},app.kubernetes.io/component={component}"
    items: list[Object] = api.get(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector})[
        "items"
    ]
    return items


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether it says that it is."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def find(api: Api, path: str) -> Object | None:
    """The object at that path of the API. Raises ApiError."""
    try:
        return api.get(path)
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return None
        raise


def exists(api: Api, each: Object) -> bool:
    """Whether there is one of that name. Raises ApiError."""
    return find(api, path_of(each)) is not None


def delete(api: Api, path: str) -> bool:
    """Whether there was something. Raises ApiError."""
    try:
        api.send("DELETE", path, {"propagationPolicy": "Background"})
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return False
        raise
    return True


def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether it became true in time."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(LOOK_S)
    return True


def _namespaces(binding: Object | None) -> set[str]:
    subjects = [] if binding is None else binding.get("subjects") or []
    return {each["namespace"] for each in subjects if each.get("name") == CONTROLLER}
