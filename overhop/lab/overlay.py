# SPDX-License-Identifier: Apache-2.0
"""What a CNI makes of bare nodes: an overlay between them, interfaces of pods, masquerading."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from overhop.lab.nat import Masquerade
from overhop.lab.netns import Netns
from overhop.lab.options import Options
from overhop.lab.underlay import Address, Network, Plot


@dataclass(frozen=True, slots=True)
class Berth:
    """Where a pod is attached: its interface on the node, and the host part of its address there."""

    vport: str
    plot: Plot
    number: int


@dataclass(frozen=True, slots=True)
class Overlay(ABC):
    """One CNI: what it is called, and what it does to nodes and pods. LabError if it cannot."""

    options: Options
    vni: ClassVar[int]
    """Of the encapsulation, 0 if it has none."""

    @property
    @abstractmethod
    def overhead_bytes(self) -> int:
        """What the encapsulation adds to a pod's packet."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Name of the overlay's device on each node."""

    @property
    def pod_mtu(self) -> int:
        """What is left for pods."""
        return self.options.mtu - self.overhead_bytes

    @property
    def devices(self) -> tuple[str, ...]:
        """What build() makes on a node."""
        return (self.device,)

    @abstractmethod
    def build(self, place: Netns, plot: Plot) -> None:
        """Make the devices of a node whose NIC is up."""

    @abstractmethod
    def connect(self, place: Netns, others: Sequence[Plot]) -> None:
        """Let a node know where the pods of the other nodes are."""

    @abstractmethod
    def addresses(self, plot: Plot) -> list[Address]:
        """A node's own addresses besides those of its NIC."""

    @abstractmethod
    def vport(self, lab: str, pod: str) -> str:
        """Name of a pod's interface on its node."""

    @abstractmethod
    def add_pod(self, node: Netns, pod: Netns, berth: Berth) -> None:
        """Make a pod's pair of interfaces, addresses and way out."""

    @abstractmethod
    def masquerade(self, cluster: Network, own: Network) -> Masquerade:
        """The CNI's NAT rules on a node: `cluster` all pods, `own` the node's own."""

    def close(self) -> None:  # noqa: B027 (most CNIs hold nothing)
        """Let go of what is held outside the namespaces, which are gone."""
