# SPDX-License-Identifier: Apache-2.0
"""A pod of this node, by whoever knows it; and which of the node's interfaces is its. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol


class End(Protocol):
    """An interface of the node; agent.network.links.Link is one."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def link_netnsid(self) -> int | None:
        """Number of the network namespace of its other end; None: this one, or it has none."""


@dataclass(frozen=True, slots=True)
class LocalPod:
    """What is known of it; what is not known is empty or 0."""

    uid: str
    namespace: str
    name: str
    """Empty: the kernel tells of it only, and its uid if any is of its cgroup."""
    workload: str = ""
    """As far as whoever knows the pod says; of pods of Kubernetes the controller does."""
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    is_on_host_network: bool = False
    sandbox: str = ""
    pid: int = 0
    host_interfaces: tuple[str, ...] = ()
    """Interfaces of the node that were made for it, its bridge among them."""
    interface: str = ""
    """The one that its packets pass; of pods on the host's network: none."""
    created_ns: int = 0
    """Real time."""


class PodSource(Protocol):
    """Who knows the node's pods."""

    name: str
    problem: str
    """Why what it says may be wrong or not all; empty otherwise."""

    def pods(self) -> Sequence[LocalPod]:
        """All of them; only what is new costs time. Never raises."""

    def close(self) -> None:
        """Let go of it."""


def with_interfaces(
    pods: Iterable[LocalPod], links: Iterable[End], nsid_of: Callable[[int], int | None]
) -> list[LocalPod]:
    """Pods with their interface: the veth that the runtime names, checked by its peer's namespace.

    One whose interface is known keeps it.

    `nsid_of` a process: the number of its network namespace, as the node's links have it; None: not known.
    """
    ends = [link for link in links if link.link_netnsid is not None]
    by_name = {link.name: link for link in ends}
    by_nsid: dict[int | None, list[End]] = {}
    for link in ends:
        by_nsid.setdefault(link.link_netnsid, []).append(link)
    return [replace(pod, interface=_interface(pod, by_name, by_nsid, nsid_of)) for pod in pods]


def shared_addresses(pods: Iterable[LocalPod]) -> dict[str, tuple[str, ...]]:
    """Addresses that several pods have, and their names: that must not be."""
    found: dict[str, list[str]] = {}
    for pod in pods:
        for address in () if pod.is_on_host_network else pod.addresses:
            found.setdefault(address, []).append(f"{pod.namespace}/{pod.name}")
    return {address: tuple(names) for address, names in found.items() if len(names) > 1}


def _interface(
    pod: LocalPod,
    by_name: Mapping[str, End],
    by_nsid: Mapping[int | None, Sequence[End]],
    nsid_of: Callable[[int], int | None],
) -> str:
    if pod.is_on_host_network or pod.interface:
        return pod.interface
    named = [by_name[name] for name in pod.host_interfaces if name in by_name]
    if len(named) == 1:
        return named[0].name
    nsid = nsid_of(pod.pid) if pod.pid else None
    there = by_nsid.get(nsid, ()) if nsid is not None else ()
    candidates = [link for link in named if link in there] or list(there)
    return candidates[0].name if len(candidates) == 1 else ""
