# SPDX-License-Identifier: Apache-2.0
"""The reflectors of all kinds, and the state that they keep."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from collector.cluster import decode
from collector.cluster.api import Api
from collector.cluster.reflector import Kind, Reflector
from collector.cluster.state import ClusterState

KINDS: Final = (
    Kind("namespaces", "/api/v1/namespaces", decode.namespace),
    Kind("nodes", "/api/v1/nodes", decode.node),
    Kind("replicasets", "/apis/apps/v1/replicasets", decode.owner, only_metadata=True),
    Kind("jobs", "/apis/batch/v1/jobs", decode.owner, only_metadata=True),
    Kind("pods", "/api/v1/pods", decode.pod, selector="spec.nodeName!="),
    Kind("services", "/api/v1/services", decode.service),
    Kind("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", decode.endpoint_slice),
)
_SYSTEM: Final = "/api/v1/namespaces/kube-system"


class Cluster:
    """Follows one cluster's API, in threads of its own, from start() or `with` on."""

    def __init__(self, api: Api, state: ClusterState, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.state = state
        self._api = api
        sinks: dict[str, Any] = {
            "namespaces": state.namespaces,
            "nodes": state.nodes,
            "replicasets": state.replica_sets,
            "jobs": state.jobs,
            "pods": state.pods,
            "services": state.services,
            "endpointslices": state.slices,
        }
        self.reflectors = tuple(Reflector(api, kind, sinks[kind.name], now_ns=now_ns) for kind in KINDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin."""
        for each in self.reflectors:
            each.start()

    def stop(self) -> None:
        """End."""
        for each in self.reflectors:
            each.end()
        for each in self.reflectors:
            each.join()

    def identify(self) -> None:
        """Find the cluster's name. Raises ApiError."""
        self.state.identified(decode.uid(self._api.get(_SYSTEM)))

    def wait(self, timeout_s: float) -> bool:
        """Whether everything was listed once, after at most that time."""
        until = time.monotonic() + timeout_s
        return all(each.wait(max(0.0, until - time.monotonic())) for each in self.reflectors)

    @property
    def is_synced(self) -> bool:
        """Whether everything was listed once."""
        return all(each.wait(0) for each in self.reflectors)

    @property
    def is_refused(self) -> bool:
        """The API server does not let one in, or not see one of the kinds."""
        return any(each.is_refused for each in self.reflectors)

    @property
    def problems(self) -> dict[str, str]:
        """Why what is not up to date, by kind."""
        return {each.kind.name: each.problem for each in self.reflectors if each.problem}
