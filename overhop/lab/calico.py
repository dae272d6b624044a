# SPDX-License-Identifier: Apache-2.0
"""Calico with IPIP: routes instead of bridges.

Each pod has a /32 address, a host-side veth `cali...` with a route to it, and the gateway 169.254.1.1, for
which the node answers by proxy ARP; the other nodes' pods are behind tunl0. Lists of text are commands for
`ip`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from overhop.lab import nat
from overhop.lab.ipip import DEVICE, Tunnel
from overhop.lab.nat import Masquerade
from overhop.lab.netns import Netns
from overhop.lab.overlay import Berth, Overlay
from overhop.lab.underlay import POD_NIC, Address, Network, Plot

GATEWAY = "169.254.1.1"
NODE_SIDE_MAC = "ee:ee:ee:ee:ee:ee"
_IFNAME_CHARS = 15


@dataclass(frozen=True, slots=True)
class Calico(Overlay):
    """IPIP between IPv4 nodes (`ipip`)."""

    tunnel: Tunnel
    vni: ClassVar[int] = 0

    @property
    def overhead_bytes(self) -> int:
        """The outer IPv4 header."""
        return 20

    @property
    def device(self) -> str:
        """The IPIP device."""
        return DEVICE

    def build(self, place: Netns, plot: Plot) -> None:
        """Make tunl0, and a route that ends what is for pods that the node does not have."""
        self.tunnel.create(place, plot)
        place.ip(
            (
                f"link set {DEVICE} mtu {self.pod_mtu} up",
                f"addr add {plot.subnet[0]}/32 dev {DEVICE}",
                f"route add blackhole {plot.subnet}",
            )
        )

    def connect(self, place: Netns, others: Sequence[Plot]) -> None:
        """Write a route to each node's pods, as Calico's BGP daemon does."""
        place.ip(self.routes(others))

    def routes(self, others: Sequence[Plot]) -> list[str]:
        """The gateway is the other node itself."""
        ways = [f"route replace {other.subnet} via {other.address} dev {DEVICE} onlink" for other in others]
        return [*self.tunnel.neighbours(others), *ways]

    def addresses(self, plot: Plot) -> list[Address]:
        """Of tunl0: the source of what the node itself sends to pods of other nodes."""
        return [plot.subnet[0]]

    def vport(self, lab: str, pod: str) -> str:
        """As Calico names it: `cali` and 11 hex digits."""
        return ("cali" + hashlib.sha256(f"{lab}/{pod}".encode()).hexdigest())[:_IFNAME_CHARS]

    def add_pod(self, node: Netns, pod: Netns, berth: Berth) -> None:
        """A veth pair, the node's end of which answers ARP for any address."""
        node.ip(self.pod_in_node(berth, pod.name))
        node.sysctl(_vport_sysctls(berth.vport))
        node.ip(
            (
                f"link set {berth.vport} up",
                f"route add {berth.plot.subnet[berth.number]}/32 dev {berth.vport} scope link",
            )
        )
        pod.ip(self.pod_inside(berth.plot, berth.number))

    def pod_in_node(self, berth: Berth, namespace: str) -> list[str]:
        """In the node's namespace: the pod's veth pair."""
        mtu = self.pod_mtu
        return [
            f"link add {berth.vport} mtu {mtu} address {NODE_SIDE_MAC} type veth "
            f"peer name {POD_NIC} mtu {mtu} netns {namespace}"
        ]

    def pod_inside(self, plot: Plot, number: int) -> list[str]:
        """In the pod's namespace: one address, and everything else behind the gateway."""
        return [
            "link set lo up",
            f"link set {POD_NIC} up",
            f"addr add {plot.subnet[number]}/32 dev {POD_NIC}",
            f"route add {GATEWAY} dev {POD_NIC} scope link",
            f"route add default via {GATEWAY} dev {POD_NIC}",
        ]

    def masquerade(self, cluster: Network, own: Network) -> Masquerade:  # noqa: ARG002 (flannel needs it)
        """What leaves the pool of pods."""
        return nat.calico(cluster, DEVICE)

    def close(self) -> None:
        """Let go of the tunnel's programs."""
        self.tunnel.close()


def _vport_sysctls(vport: str) -> dict[str, str | int]:
    """Proxy ARP without its delay, and no advice to the pod to go another way."""
    return {
        f"net/ipv4/conf/{vport}/proxy_arp": 1,
        f"net/ipv4/neigh/{vport}/proxy_delay": 0,
        f"net/ipv4/conf/{vport}/send_redirects": 0,
    }
