# SPDX-License-Identifier: Apache-2.0
"""Pods by the Container Runtime Interface, version 1 (containerd, CRI-O, cri-dockerd).

Numbers of fields are those of runtime/v1/api.proto of kubernetes/cri-api. The verbose part of a status is the
runtime's own JSON: containerd's has the result of its CNI plugins with the names of interfaces.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from collector.node.pods.grpc import Channel, GrpcError
from collector.node.pods.local import LocalPod
from collector.node.pods.protobuf import Message, ProtobufError, flag_field, parse, text_field

SOCKETS: Final = (
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/cri-dockerd.sock",
)
_SERVICE: Final = "/runtime.v1.RuntimeService"
_LIST: Final = f"{_SERVICE}/ListPodSandbox"
_STATUS: Final = f"{_SERVICE}/PodSandboxStatus"
_VERSION: Final = f"{_SERVICE}/Version"
_KUBELETS: Final = "io.kubernetes.pod."
"""Labels that the kubelet adds; the pod does not have them."""
_READY: Final = 0
_ON_NODE: Final = 2
_NOT_FOUND: Final = 5
UNIMPLEMENTED: Final = 12
"""A code of gRPC: whoever answers has no CRI of this version."""


@dataclass(frozen=True, slots=True)
class _Sandbox:
    """A row of the list."""

    id: str
    uid: str
    namespace: str
    name: str
    created_ns: int
    labels: Mapping[str, str]


class CriPods:
    """Asks the runtime at a socket. Only sandboxes that are new are asked about in full."""

    def __init__(self, socket_path: str) -> None:
        self.problem = ""
        self.name = f"CRI at {socket_path}"
        self.asked = 0
        """Sandboxes that were asked about in full."""
        self._channel = Channel(socket_path)
        self._known: dict[str, LocalPod] = {}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def version(self) -> str:
        """The runtime's name and version. Raises GrpcError: it does not answer, or has no CRI v1."""
        try:
            found = parse(self._channel.call(_VERSION, b""))
            return f"{found.text(2)} {found.text(3)}"
        except ProtobufError as error:
            raise GrpcError(f"its answer is no message: {error}") from None
        except GrpcError as error:
            if error.code == UNIMPLEMENTED:
                raise GrpcError("it does not know CRI v1", UNIMPLEMENTED) from None
            raise

    def pods(self) -> Sequence[LocalPod]:
        """The pods that are there; the ones before where the runtime fails, and `problem` says so."""
        try:
            sandboxes = self._listed()
            self._learn([each for each in sandboxes if each.id not in self._known])
        except (GrpcError, ProtobufError) as error:
            self.problem = f"{self.name}: {error}"
            return tuple(self._known.values())
        self.problem = ""
        present = {each.id for each in sandboxes}
        for gone in self._known.keys() - present:
            del self._known[gone]
        return tuple(self._known.values())

    def _listed(self) -> list[_Sandbox]:
        answer = parse(self._channel.call(_LIST, b""))
        return [_sandbox(each) for each in answer.messages(1) if each.number(3) == _READY]

    def _learn(self, new: Sequence[_Sandbox]) -> None:
        """One that has no address yet is asked about again the next time."""
        requests = [text_field(1, each.id) + flag_field(2) for each in new]
        self.asked += len(new)
        for sandbox, answer in zip(new, self._channel.calls(_STATUS, requests), strict=True):
            if isinstance(answer, GrpcError):
                if answer.code != _NOT_FOUND:
                    raise answer
                continue
            pod = _pod(sandbox, parse(answer))
            if pod.addresses or pod.is_on_host_network:
                self._known[sandbox.id] = pod


def _sandbox(found: Message) -> _Sandbox:
    meta = found.message(2)
    labels = {key: value for key, value in found.texts(5).items() if not key.startswith(_KUBELETS)}
    return _Sandbox(found.text(1), meta.text(2), meta.text(3), meta.text(1), found.number(4), labels)


def _pod(sandbox: _Sandbox, answer: Message) -> LocalPod:
    status = answer.message(1)
    network = status.message(5)
    addresses = [network.text(1), *(each.text(1) for each in network.messages(2))]
    mode = status.message(6).message(1).message(2).number(1)
    pod = LocalPod(
        uid=sandbox.uid,
        namespace=sandbox.namespace,
        name=sandbox.name,
        labels=sandbox.labels,
        addresses=tuple(dict.fromkeys(filter(None, addresses))),
        is_on_host_network=mode == _ON_NODE,
        sandbox=sandbox.id,
        created_ns=sandbox.created_ns,
    )
    return pod if pod.is_on_host_network else replace(pod, **_verbose(answer.texts(2).get("info", "")))


def _verbose(text: str) -> dict[str, Any]:
    """Process and interface, as far as the runtime tells them."""
    try:
        info = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(info, dict):
        return {}
    pid = info.get("pid")
    found: dict[str, Any] = {"pid": pid if isinstance(pid, int) and not isinstance(pid, bool) else 0}
    result = info.get("cniResult")
    interfaces = result.get("Interfaces") if isinstance(result, dict) else None
    if isinstance(interfaces, dict):
        found["host_interfaces"] = tuple(
            name
            for name, each in interfaces.items()
            if isinstance(each, dict) and not each.get("Sandbox") and isinstance(name, str)
        )
    return found
