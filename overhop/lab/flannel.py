# SPDX-License-Identifier: Apache-2.0
"""The network of the lab as `ip` and `bridge` commands: underlay, flannel-like VXLAN, pods. Pure.

Modelled on flannel's vxlan backend (static routes, neighbours and FDB entries, no learning) and its
bridge CNI plugin (cni0, one veth pair per pod, hairpin mode on).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

CLUSTER = IPv4Network("10.244.0.0/16")
CLUSTER6 = IPv6Network("fd00:10:244::/48")
SERVICES = IPv4Network("10.96.0.0/16")
SERVICES6 = IPv6Network("fd00:10:96::/112")
UNDERLAY = IPv4Network("172.18.0.0/16")
UNDERLAY6 = IPv6Network("fd00:18::/64")
WIRE_BRIDGE = "br0"
NIC = "eth0"
POD_NIC = "eth0"
POD_BRIDGE = "cni0"
OVERLAY = "flannel.1"
VNI = 1
PORT = 8472
OVERHEAD_BYTES = 50
MAX_NODES = 200
MAX_PODS_PER_NODE = 250
EXTERNAL = UNDERLAY[250]
EXTERNAL6 = UNDERLAY6[250]


@dataclass(frozen=True, slots=True)
class Options:
    """How a lab is built. Raises ValueError, naming the option, if it cannot be built."""

    nodes: int = 2
    ipv6: bool = False
    """Pods, nodes and services have IPv6 addresses too."""
    offloads: bool = True
    """False: GRO, TSO and GSO off on all devices."""
    bridge_ageing: bool = True
    """False: cni0 forgets at once where an address is, and floods."""
    mtu: int = 1500
    """Of the underlay; pods have 50 bytes less."""

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MAX_NODES:
            raise ValueError(f"nodes: {self.nodes} is not within 1 to {MAX_NODES}")
        if not 1400 <= self.mtu <= 65535:
            raise ValueError(f"mtu: {self.mtu} is not within 1400 to 65535 bytes")


@dataclass(frozen=True, slots=True)
class Plot:
    """The addresses of one node, derived from its number (1, 2, ...)."""

    number: int

    @property
    def subnet(self) -> IPv4Network:
        """The node's pods."""
        return IPv4Network((int(CLUSTER.network_address) + (self.number << 8), 24))

    @property
    def subnet6(self) -> IPv6Network:
        """The node's pods, IPv6."""
        return IPv6Network((int(CLUSTER6.network_address) + (self.number << 64), 64))

    @property
    def address(self) -> IPv4Address:
        """The node on the underlay."""
        return UNDERLAY[10 + self.number]

    @property
    def address6(self) -> IPv6Address:
        """The node on the underlay, IPv6."""
        return UNDERLAY6[10 + self.number]

    @property
    def overlay_mac(self) -> str:
        """MAC address of flannel.1, known to all other nodes."""
        return f"02:f1:00:00:00:{self.number:02x}"

    @property
    def gateway_mac(self) -> str:
        """MAC address of cni0, fixed as the bridge CNI plugin does it.

        A bridge without one takes that of its lowest port, so that it changes as pods come and go, and the
        pods' ARP entries lead nowhere for up to a minute.
        """
        return f"02:c0:00:00:00:{self.number:02x}"


def wire() -> list[str]:
    """The switch of the underlay."""
    return ["link set lo up", f"link add {WIRE_BRIDGE} type bridge", f"link set {WIRE_BRIDGE} up"]


def cable(port: str, to_namespace: str, mtu: int) -> list[str]:
    """From the wire's namespace: a switch port, and at its other end the NIC of a host."""
    return [
        f"link add {port} mtu {mtu} type veth peer name {NIC} mtu {mtu} netns {to_namespace}",
        f"link set {port} master {WIRE_BRIDGE} up",
    ]


def underlay_host(address: IPv4Address, address6: IPv6Address, ipv6: bool) -> list[str]:
    """In the namespace of a node or of an external client.

    The external host is everybody's default route: a node needs one to reach service addresses.
    """
    lines = ["link set lo up", f"link set {NIC} up", f"addr add {address}/{UNDERLAY.prefixlen} dev {NIC}"]
    if address != EXTERNAL:
        lines.append(f"route add default via {EXTERNAL}")
    if ipv6:
        lines.append(f"addr add {address6}/{UNDERLAY6.prefixlen} dev {NIC} nodad")
    if ipv6 and address6 != EXTERNAL6:
        lines.append(f"route add default via {EXTERNAL6}")
    return lines


def node(plot: Plot, options: Options) -> list[str]:
    """In a node's namespace, once its NIC is up: the overlay device and the pods' bridge."""
    mtu = options.mtu - OVERHEAD_BYTES
    ageing = "" if options.bridge_ageing else " ageing_time 0"
    lines = [
        f"link add {OVERLAY} mtu {mtu} address {plot.overlay_mac} type vxlan id {VNI} local {plot.address} "
        f"dev {NIC} dstport {PORT} nolearning",
        f"addr add {plot.subnet[0]}/32 dev {OVERLAY}",
        f"link set {OVERLAY} up",
        f"link add {POD_BRIDGE} mtu {mtu} address {plot.gateway_mac} type bridge{ageing}",
        f"addr add {plot.subnet[1]}/24 dev {POD_BRIDGE}",
        f"link set {POD_BRIDGE} up",
    ]
    if options.ipv6:
        lines += [
            f"addr add {plot.subnet6[0]}/128 dev {OVERLAY} nodad",
            f"addr add {plot.subnet6[1]}/64 dev {POD_BRIDGE} nodad",
        ]
    return lines


def neighbours(others: Iterable[Plot], ipv6: bool) -> list[str]:
    """Routes and ARP entries to the other nodes' pods, as flannel writes them."""
    lines = []
    for other in others:
        lines += [
            f"neigh replace {other.subnet[0]} lladdr {other.overlay_mac} dev {OVERLAY} nud permanent",
            f"route replace {other.subnet} via {other.subnet[0]} dev {OVERLAY} onlink",
        ]
        if ipv6:
            lines += [
                f"neigh replace {other.subnet6[0]} lladdr {other.overlay_mac} dev {OVERLAY} nud permanent",
                f"route replace {other.subnet6} via {other.subnet6[0]} dev {OVERLAY} onlink",
            ]
    return lines


def forwarding_database(others: Iterable[Plot]) -> list[str]:
    """`bridge` commands: which node has which overlay MAC."""
    return [f"fdb replace {other.overlay_mac} dev {OVERLAY} dst {other.address}" for other in others]


def vport_name(lab: str, pod: str) -> str:
    """Name of a pod's host-side veth."""
    return "veth" + hashlib.sha256(f"{lab}/{pod}".encode()).hexdigest()[:8]


def pod_in_node(vport: str, namespace: str, options: Options) -> list[str]:
    """In the node's namespace: the pod's veth pair, on the bridge."""
    mtu = options.mtu - OVERHEAD_BYTES
    return [
        f"link add {vport} mtu {mtu} type veth peer name {POD_NIC} mtu {mtu} netns {namespace}",
        f"link set {vport} master {POD_BRIDGE} up",
        f"link set {vport} type bridge_slave hairpin on",
    ]


def pod_inside(plot: Plot, number: int, ipv6: bool) -> list[str]:
    """In the pod's namespace: addresses and the way out."""
    lines = [
        "link set lo up",
        f"link set {POD_NIC} up",
        f"addr add {plot.subnet[number]}/24 dev {POD_NIC}",
        f"route add default via {plot.subnet[1]}",
    ]
    if ipv6:
        lines += [
            f"addr add {plot.subnet6[number]}/64 dev {POD_NIC} nodad",
            f"route add default via {plot.subnet6[1]}",
        ]
    return lines


def sysctls(ipv6: bool, forward: bool) -> dict[str, str | int]:
    """Settings of one namespace, before its devices come."""
    settings: dict[str, str | int] = {
        "net/ipv4/conf/all/rp_filter": 0,
        "net/ipv4/conf/default/rp_filter": 0,
        "net/ipv6/conf/all/disable_ipv6": int(not ipv6),
        "net/ipv6/conf/default/disable_ipv6": int(not ipv6),
        "net/ipv6/conf/default/accept_ra": 0,
        "net/ipv6/conf/default/accept_dad": 0,
    }
    if forward:
        settings |= {
            "net/ipv4/ip_forward": 1,
            "net/ipv6/conf/all/forwarding": int(ipv6),
            "net/bridge/bridge-nf-call-iptables": 1,
            "net/bridge/bridge-nf-call-ip6tables": 1,
        }
    return settings
