# SPDX-License-Identifier: Apache-2.0
"""Flannel's vxlan backend and the bridge CNI plugin, over IPv4 or IPv6.

Static routes, neighbours and FDB entries, no learning; cni0, one veth pair per pod, hairpin mode on. Lists
of text are commands for `ip`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from overhop.lab import nat
from overhop.lab.nat import Masquerade
from overhop.lab.netns import Netns
from overhop.lab.overlay import Berth, Overlay
from overhop.lab.underlay import NIC, POD_NIC, Address, Network, Plot

POD_BRIDGE = "cni0"
PORT = 8472


@dataclass(frozen=True, slots=True)
class Flannel(Overlay):
    """VXLAN between IPv4 nodes (`vxlan`), or between IPv6 nodes for IPv6 pods (`vxlan6`)."""

    vni: ClassVar[int] = 1

    @property
    def overhead_bytes(self) -> int:
        """Ethernet, VXLAN and UDP header, 30 bytes, and the outer IP header."""
        return 50 if self.options.has_ipv4 else 70

    @property
    def device(self) -> str:
        """As flannel names it."""
        return "flannel.1" if self.options.has_ipv4 else "flannel-v6.1"

    @property
    def devices(self) -> tuple[str, ...]:
        """The VXLAN device and the pods' bridge."""
        return (self.device, POD_BRIDGE)

    def build(self, place: Netns, plot: Plot) -> None:
        """Make both devices."""
        place.ip(self.node(plot))

    def connect(self, place: Netns, others: Sequence[Plot]) -> None:
        """Write routes, neighbours and FDB entries."""
        place.ip(self.neighbours(others))
        place.bridge(self.forwarding_database(others))

    def addresses(self, plot: Plot) -> list[Address]:
        """Of the VXLAN device and of the bridge."""
        four = [plot.subnet[0], plot.subnet[1]] if self.options.has_ipv4 else []
        six = [plot.subnet6[0], plot.subnet6[1]] if self.options.has_ipv6 else []
        return [*four, *six]

    def node(self, plot: Plot) -> list[str]:
        """The overlay device and the pods' bridge."""
        device, mtu = self.device, self.pod_mtu
        ageing = "" if self.options.bridge_ageing else " ageing_time 0"
        lines = [
            f"link add {device} mtu {mtu} address {overlay_mac(plot)} type vxlan id {self.vni} "
            f"local {self._underlay_address(plot)} dev {NIC} dstport {PORT} nolearning",
            f"link set {device} up",
            f"link add {POD_BRIDGE} mtu {mtu} address {gateway_mac(plot)} type bridge{ageing}",
            f"link set {POD_BRIDGE} up",
        ]
        if self.options.has_ipv4:
            lines += [
                f"addr add {plot.subnet[0]}/32 dev {device}",
                f"addr add {plot.subnet[1]}/24 dev {POD_BRIDGE}",
            ]
        if self.options.has_ipv6:
            lines += [
                f"addr add {plot.subnet6[0]}/128 dev {device} nodad",
                f"addr add {plot.subnet6[1]}/64 dev {POD_BRIDGE} nodad",
            ]
        return lines

    def neighbours(self, others: Iterable[Plot]) -> list[str]:
        """Routes and ARP entries to the other nodes' pods."""
        lines = []
        for other in others:
            if self.options.has_ipv4:
                lines += self._way_to(other, other.subnet)
            if self.options.has_ipv6:
                lines += self._way_to(other, other.subnet6)
        return lines

    def _way_to(self, other: Plot, subnet: Network) -> list[str]:
        return [
            f"neigh replace {subnet[0]} lladdr {overlay_mac(other)} dev {self.device} nud permanent",
            f"route replace {subnet} via {subnet[0]} dev {self.device} onlink",
        ]

    def forwarding_database(self, others: Iterable[Plot]) -> list[str]:
        """`bridge` commands: which node has which overlay MAC."""
        return [
            f"fdb replace {overlay_mac(other)} dev {self.device} dst {self._underlay_address(other)}"
            for other in others
        ]

    def _underlay_address(self, plot: Plot) -> Address:
        return plot.address if self.options.has_ipv4 else plot.address6

    def vport(self, lab: str, pod: str) -> str:
        """As the bridge plugin names it: `veth` and 8 hex digits."""
        return "veth" + hashlib.sha256(f"{lab}/{pod}".encode()).hexdigest()[:8]

    def add_pod(self, node: Netns, pod: Netns, berth: Berth) -> None:
        """A veth pair, on the bridge."""
        node.ip(self.pod_in_node(berth.vport, pod.name))
        pod.ip(self.pod_inside(berth.plot, berth.number))

    def pod_in_node(self, vport: str, namespace: str) -> list[str]:
        """In the node's namespace: the pod's veth pair."""
        mtu = self.pod_mtu
        return [
            f"link add {vport} mtu {mtu} type veth peer name {POD_NIC} mtu {mtu} netns {namespace}",
            f"link set {vport} master {POD_BRIDGE} up",
            f"link set {vport} type bridge_slave hairpin on",
        ]

    def pod_inside(self, plot: Plot, number: int) -> list[str]:
        """In the pod's namespace: addresses in the node's subnet, the bridge as gateway."""
        lines = ["link set lo up", f"link set {POD_NIC} up"]
        if self.options.has_ipv4:
            lines += [
                f"addr add {plot.subnet[number]}/24 dev {POD_NIC}",
                f"route add default via {plot.subnet[1]}",
            ]
        if self.options.has_ipv6:
            lines += [
                f"addr add {plot.subnet6[number]}/64 dev {POD_NIC} nodad",
                f"route add default via {plot.subnet6[1]}",
            ]
        return lines

    def masquerade(self, cluster: Network, own: Network) -> Masquerade:
        """As flannel does it: whatever leaves the cluster, and whatever comes into it from outside."""
        return nat.flannel(cluster, own)


def overlay_mac(plot: Plot) -> str:
    """MAC address of the VXLAN device, known to all other nodes."""
    return f"02:f1:00:00:00:{plot.number:02x}"


def gateway_mac(plot: Plot) -> str:
    """MAC address of cni0, fixed as the bridge CNI plugin does it.

    A bridge without one takes that of its lowest port, so that it changes as pods come and go, and the
    pods' ARP entries lead nowhere for up to a minute.
    """
    return f"02:c0:00:00:00:{plot.number:02x}"
