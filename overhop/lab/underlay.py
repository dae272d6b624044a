# SPDX-License-Identifier: Apache-2.0
"""Addresses of the lab, and the network below every overlay: a switch, cables, NICs. Pure.

Lists of text are commands for `ip`.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from overhop.lab.options import Options

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

CLUSTER = IPv4Network("10.244.0.0/16")
CLUSTER6 = IPv6Network("fd00:10:244::/48")
SERVICES = IPv4Network("10.96.0.0/16")
SERVICES6 = IPv6Network("fd00:10:96::/112")
UNDERLAY = IPv4Network("172.18.0.0/16")
UNDERLAY6 = IPv6Network("fd00:18::/64")
EXTERNAL = UNDERLAY[250]
EXTERNAL6 = UNDERLAY6[250]
WIRE_BRIDGE = "br0"
NIC = "eth0"
POD_NIC = "eth0"
MAX_PODS_PER_NODE = 250


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


@dataclass(frozen=True, slots=True)
class Pair:
    """The addresses of one thing in a lab: the one to call, and the IPv6 address if there is one."""

    primary: Address
    six: IPv6Address | None

    @classmethod
    def of(cls, options: Options, four: IPv4Address, six: IPv6Address) -> "Pair":
        """The family that the lab has; where it has both, IPv4 is primary."""
        return cls(four if options.has_ipv4 else six, six if options.has_ipv6 else None)


def url_host(address: Address) -> str:
    """As it stands before `:port`: IPv6 in brackets."""
    return f"[{address}]" if address.version == 6 else str(address)


def wire() -> list[str]:
    """The switch of the underlay."""
    return ["link set lo up", f"link add {WIRE_BRIDGE} type bridge", f"link set {WIRE_BRIDGE} up"]


def cable(port: str, to_namespace: str, mtu: int) -> list[str]:
    """From the wire's namespace: a switch port, and at its other end the NIC of a host."""
    return [
        f"link add {port} mtu {mtu} type veth peer name {NIC} mtu {mtu} netns {to_namespace}",
        f"link set {port} master {WIRE_BRIDGE} up",
    ]


def external(options: Options) -> list[str]:
    """In the namespace of the host outside the cluster."""
    return _nic(options, EXTERNAL, EXTERNAL6)


def node(plot: Plot, options: Options) -> list[str]:
    """In a node's namespace. The external host is its default route: service addresses need one."""
    lines = _nic(options, plot.address, plot.address6)
    if options.has_ipv4:
        lines.append(f"route add default via {EXTERNAL}")
    if options.has_ipv6:
        lines.append(f"route add default via {EXTERNAL6}")
    return lines


def _nic(options: Options, four: IPv4Address, six: IPv6Address) -> list[str]:
    lines = ["link set lo up", f"link set {NIC} up"]
    if options.has_ipv4:
        lines.append(f"addr add {four}/{UNDERLAY.prefixlen} dev {NIC}")
    if options.has_ipv6:
        lines.append(f"addr add {six}/{UNDERLAY6.prefixlen} dev {NIC} nodad")
    return lines


def sysctls(options: Options, *, forward: bool) -> dict[str, str | int]:
    """Settings of one namespace, before its devices come."""
    settings: dict[str, str | int] = {
        "net/ipv4/conf/all/rp_filter": 0,
        "net/ipv4/conf/default/rp_filter": 0,
        "net/ipv6/conf/all/disable_ipv6": int(not options.has_ipv6),
        "net/ipv6/conf/default/disable_ipv6": int(not options.has_ipv6),
        "net/ipv6/conf/default/accept_ra": 0,
        "net/ipv6/conf/default/accept_dad": 0,
    }
    if forward:
        settings |= {
            "net/ipv4/ip_forward": 1,
            "net/ipv6/conf/all/forwarding": int(options.has_ipv6),
            "net/bridge/bridge-nf-call-iptables": 1,
            "net/bridge/bridge-nf-call-ip6tables": 1,
        }
    return settings
