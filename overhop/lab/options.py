# SPDX-License-Identifier: Apache-2.0
"""How a lab is built."""

from dataclasses import dataclass
from typing import Literal, get_args

Cni = Literal["vxlan", "vxlan6", "ipip"]
"""`vxlan`: flannel; `vxlan6`: flannel, everything IPv6; `ipip`: routed, as Calico does it, IPv4."""
CNIS: tuple[Cni, ...] = get_args(Cni)
MAX_NODES = 200
MIN_MTU, MAX_MTU = 1400, 65535


@dataclass(frozen=True, slots=True)
class Options:
    """Raises ValueError, naming the option, if it cannot be built."""

    cni: Cni = "vxlan"
    nodes: int = 2
    ipv6: bool = False
    """Only with `vxlan`: pods, nodes and services have IPv6 addresses too; the overlay stays on IPv4."""
    offloads: bool = True
    """False: GRO, TSO and GSO off on all devices."""
    bridge_ageing: bool = True
    """False: cni0 forgets at once where an address is, and floods. `ipip` has no bridge."""
    mtu: int = 1500
    """Of the underlay; pods have less by what the overlay adds."""

    def __post_init__(self) -> None:
        if self.cni not in CNIS:
            raise ValueError(f"cni: {self.cni!r} is unknown, known: {', '.join(CNIS)}")
        if not 1 <= self.nodes <= MAX_NODES:
            raise ValueError(f"nodes: {self.nodes} is not within 1 to {MAX_NODES}")
        if not MIN_MTU <= self.mtu <= MAX_MTU:
            raise ValueError(f"mtu: {self.mtu} is not within {MIN_MTU} to {MAX_MTU} bytes")
        if self.ipv6 and self.cni != "vxlan":
            raise ValueError(f"ipv6: {self.cni} has one address family only: leave it out")
        if not self.bridge_ageing and self.cni == "ipip":
            raise ValueError("bridge_ageing: ipip has no bridge that could flood: leave it out")

    @property
    def has_ipv4(self) -> bool:
        """Pods, nodes and services have IPv4 addresses."""
        return self.cni != "vxlan6"

    @property
    def has_ipv6(self) -> bool:
        """Pods, nodes and services have IPv6 addresses."""
        return self.ipv6 or self.cni == "vxlan6"
