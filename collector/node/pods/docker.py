# SPDX-License-Identifier: Apache-2.0
"""Pods by the Docker engine's API: plain containers, and what a kubelet started by cri-dockerd or dockershim.

Of a pod of Kubernetes the engine runs a sandbox, which has its network and its names as labels, and
containers that share the sandbox's network. Only the sandbox is a pod. A plain container is a pod of its own:
namespace empty, its own name, and the Compose service as workload where it has one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from collector.node.pods.engine import Engine, EngineError
from collector.node.pods.local import LocalPod

SOCKETS: Final = ("/var/run/docker.sock", "/run/docker.sock")
_TYPE: Final = "io.kubernetes.docker.type"
_SANDBOX: Final = "podsandbox"
_POD_NAME: Final = "io.kubernetes.pod.name"
_POD_NAMESPACE: Final = "io.kubernetes.pod.namespace"
_POD_UID: Final = "io.kubernetes.pod.uid"
_COMPOSE_SERVICE: Final = "com.docker.compose.service"
_NOT_THE_PODS: Final = (
    "io.kubernetes.pod.",
    "io.kubernetes.docker.",
    "io.kubernetes.container.",
    "io.kubernetes.sandbox.",
    "annotation.",
)
"""Labels that the kubelet and cri-dockerd add; the pod does not have them."""

AddressesOf = Callable[[int], tuple[str, ...]]
"""Addresses in the network namespace of a process: Docker does not know those that CNI gives a sandbox."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A container of the list."""

    id: str
    labels: Mapping[str, str]
    network: str
    """host, none, container:ID, or the name of a network."""
    created_s: int
    endpoints: frozenset[str]
    """Others after each start, which gives the container another process and perhaps another address."""

    @property
    def is_sandbox(self) -> bool:
        return self.labels.get(_TYPE) == _SANDBOX

    @property
    def is_pod(self) -> bool:
        """Not one that only shares another's network."""
        if _TYPE in self.labels or _POD_NAME in self.labels:
            return self.is_sandbox
        return not self.network.startswith("container:")


class DockerPods:
    """Asks the engine at a socket. Only containers that were started meanwhile are asked about in full."""

    def __init__(self, socket_path: str, addresses_of: AddressesOf) -> None:
        self.problem = ""
        self.name = f"Docker at {socket_path}"
        self.asked = 0
        """Containers that were asked about in full."""
        self._engine = Engine(socket_path)
        self._addresses_of = addresses_of
        self._known: dict[_Key, LocalPod] = {}

    def close(self) -> None:
        """Close the connection."""
        self._engine.close()

    def version(self) -> str:
        """The engine's name and version. Raises EngineError: it does not answer, or is no Docker."""
        return self._engine.version()

    def pods(self) -> Sequence[LocalPod]:
        """The pods that are there; the ones before where the engine fails, and `problem` says so."""
        try:
            rows = {(row.id, row.endpoints): row for row in self._listed() if row.is_pod}
            for key, row in rows.items():
                if key not in self._known:
                    self._learn(key, row)
        except EngineError as error:
            self.problem = f"{self.name}: {error}"
            return tuple(self._known.values())
        self.problem = ""
        for gone in self._known.keys() - rows.keys():
            del self._known[gone]
        return tuple(self._known.values())

    def _listed(self) -> list[_Row]:
        found = self._engine.get("/containers/json")
        if not isinstance(found, list):
            raise EngineError("its answer is no list of containers")
        return [_row(each) for each in found if isinstance(each, dict) and isinstance(each.get("Id"), str)]

    def _learn(self, key: "_Key", row: _Row) -> None:
        """One that has no address yet is asked about again the next time."""
        self.asked += 1
        try:
            found = self._engine.get(f"/containers/{row.id}/json")
        except EngineError as error:
            if error.is_gone:
                return
            raise
        pod = _pod(row, _dict(found), self._addresses_of)
        has_none = row.network == "none" and not row.is_sandbox
        if pod.pid and (pod.addresses or pod.is_on_host_network or has_none):
            self._known[key] = pod


_Key = tuple[str, frozenset[str]]


def _row(found: Mapping[str, Any]) -> _Row:
    endpoints = (_text(each, "EndpointID") for each in _networks(found))
    return _Row(
        id=found["Id"],
        labels=_texts(found.get("Labels")),
        network=_text(_dict(found.get("HostConfig")), "NetworkMode"),
        created_s=_number(found, "Created"),
        endpoints=frozenset(filter(None, endpoints)),
    )


def _pod(row: _Row, found: Mapping[str, Any], addresses_of: AddressesOf) -> LocalPod:
    pid = _number(_dict(found.get("State")), "Pid")
    is_on_host = row.network == "host"
    addresses = tuple(dict.fromkeys(_addresses(found)))
    if not addresses and pid and not is_on_host:
        addresses = addresses_of(pid)
    labels = row.labels
    own = {key: value for key, value in labels.items() if not key.startswith(_NOT_THE_PODS)}
    return LocalPod(
        uid=labels.get(_POD_UID, "") if row.is_sandbox else row.id,
        namespace=labels.get(_POD_NAMESPACE, "") if row.is_sandbox else "",
        name=labels.get(_POD_NAME, "") if row.is_sandbox else _text(found, "Name").removeprefix("/"),
        workload="" if row.is_sandbox else labels.get(_COMPOSE_SERVICE, ""),
        labels=own,
        addresses=addresses,
        is_on_host_network=is_on_host,
        sandbox=row.id,
        pid=pid,
        created_ns=row.created_s * 1_000_000_000,
    )


def _addresses(found: Mapping[str, Any]) -> Iterator[str]:
    for each in _networks(found):
        yield from filter(None, (_text(each, "IPAddress"), _text(each, "GlobalIPv6Address")))


def _networks(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    networks = _dict(_dict(found.get("NetworkSettings")).get("Networks"))
    return [_dict(each) for each in networks.values()]


def _dict(found: object) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _number(found: Mapping[str, Any], key: str) -> int:
    value = found.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _texts(found: object) -> dict[str, str]:
    return {key: value for key, value in _dict(found).items() if isinstance(value, str)}
