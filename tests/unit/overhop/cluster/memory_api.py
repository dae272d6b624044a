# SPDX-License-Identifier: Apache-2.0
"""An API server in memory: objects by their paths, and what happens when one is applied or deleted."""

from collections.abc import Callable, Mapping
from typing import Any

from collector.cluster.api import Api, ApiError

Object = dict[str, Any]
SYSTEM = "/api/v1/namespaces/overhop"


def node(name: str, *addresses: str, **more: Any) -> Object:  # noqa: ANN401  parts of the object
    """A node with these internal addresses; `annotations`, `labels`, `spec`."""
    meta = {key: more[key] for key in ("annotations", "labels") if key in more}
    status = {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]}
    return {"metadata": {"name": name, **meta}, "spec": more.get("spec", {}), "status": status}


def pod(name: str, component: str, on: str, *, ready: bool = True, image: str = "i:1") -> Object:
    """A pod of overhop on a node."""
    labels = {"app.kubernetes.io/name": "overhop", "app.kubernetes.io/component": component}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": on, "containers": [{"image": image}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"restartCount": 2, "state": {"running": {}}}],
        },
    }


class MemoryApi(Api):
    """`kept`: objects by path. `reacts`: called with method and path after each change."""

    def __init__(self, *nodes: Object, namespace: str = "overhop") -> None:
        self.kept: dict[str, Object] = {}
        self.nodes = list(nodes)
        self.pods: list[Object] = []
        self.reacts: Callable[[str, str], None] = lambda _method, _path: None
        self.log: list[tuple[str, str]] = []
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods"

    def get(  # type: ignore[override]  # in one form of the answer only
        self, path: str, query: Mapping[str, object] | None = None
    ) -> Object:
        """One object, the nodes, or the pods of a component."""
        if path == "/api/v1/nodes":
            return {"items": self.nodes}
        if path == self._pods_path:
            wanted = str((query or {})["labelSelector"]).rpartition("=")[2]
            key = "app.kubernetes.io/component"
            return {"items": [each for each in self.pods if each["metadata"]["labels"][key] == wanted]}
        if path not in self.kept:
            raise ApiError(404, "not found", f"GET {path}")
        return self.kept[path]

    def send(self, method: str, path: str, body: Any = None, **_options: Any) -> Object:  # type: ignore[override]  # noqa: ANN401
        """Applies or deletes."""
        self.log.append((method, path))
        if method == "DELETE" and path not in self.kept:
            raise ApiError(404, "not found", f"DELETE {path}")
        if method == "DELETE":
            del self.kept[path]
        else:
            self.kept[path] = body
        self.reacts(method, path)
        return {}
