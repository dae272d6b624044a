# SPDX-License-Identifier: Apache-2.0
"""Loss on purpose, by iptables, to force TCP retransmissions; only packets that carry payload are dropped.

Two places, for the packets that come to one node:
- "wire": on the switch, after the sender's nic-out and before the receiver's nic-in;
- "node": inside the receiving node, after its nic-in and before its vport-out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from overhop.lab import flannel
from overhop.lab.hosts import Node, Pod
from overhop.lab.netns import LabError, Netns

_BRIDGE_NF = "net/bridge/bridge-nf-call-iptables"
_PAYLOAD_MIN_BYTES = 120
"""IP length of a bare ACK is at most 64 bytes, of one inside VXLAN 114."""


@dataclass(frozen=True, slots=True)
class Drops:
    """A drop rule in force."""

    _place: Netns

    def count(self) -> int:
        """Packets dropped so far."""
        listing = self._place.run(("iptables", "-t", "mangle", "-L", "FORWARD", "-nvx"))
        counts = [int(line.split()[0]) for line in listing.splitlines() if " DROP " in line]
        if len(counts) != 1:
            raise LabError(f"drop rule in {self._place.name}: {len(counts)} rules found, expected one")
        return counts[0]


@contextmanager
def on_wire(wire: Netns, to: Node, every: int) -> Iterator[Drops]:
    """Drop every n-th overlay packet with payload on its way to a node, before its nic-in."""
    if to.cluster.options.cni != "vxlan":
        raise LabError(f"drops on the wire to {to.name}: made for vxlan only: build such a lab")
    match = ("-p", "udp", "--dport", str(flannel.PORT), "-d", str(to.address))
    wire.sysctl({_BRIDGE_NF: 1})
    try:
        with _rule(wire, match, every) as drops:
            yield drops
    finally:
        wire.sysctl({_BRIDGE_NF: 0})


@contextmanager
def in_node(node: Node, to: Pod, every: int) -> Iterator[Drops]:
    """Drop every n-th packet with payload to one of the node's pods, between nic-in and vport-out.

    By IPv4 address.
    """
    with _rule(node.netns, ("-p", "tcp", "-d", str(to.address)), every) as drops:
        yield drops


@contextmanager
def _rule(place: Netns, match: tuple[str, ...], every: int) -> Iterator[Drops]:
    if every < 2:
        raise ValueError(f"every: {every} would let nothing through: 2 or more")
    nth = ("-m", "statistic", "--mode", "nth", "--every", str(every), "--packet", str(every - 1))
    length = ("-m", "length", "--length", f"{_PAYLOAD_MIN_BYTES}:65535")
    rule = ("FORWARD", *match, *length, *nth, "-j", "DROP")
    place.run(("iptables", "-t", "mangle", "-I", *rule))
    try:
        yield Drops(place)
    finally:
        place.run(("iptables", "-t", "mangle", "-D", *rule))
