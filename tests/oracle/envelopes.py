# SPDX-License-Identifier: Apache-2.0
"""Everything in front of the payload, built once by scapy: all encapsulations, legal and not.

An envelope knows where its length fields, addresses and ports are, so that filling one is a few byte copies.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from struct import pack_into
from typing import NamedTuple

from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP, IPOption_RR, IPOption_Timestamp
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, GRE, LLC, Dot1AD, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

Layers = tuple[Packet, ...]


class Flow(NamedTuple):
    """The innermost addresses and ports of one packet."""

    src: bytes
    """16 bytes; IPv4 uses the last four."""
    dst: bytes
    sport: int
    dport: int
    seq: int
    ack: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """Headers up to the payload; offsets count from the packet's start."""

    name: str
    head: bytes
    lengths: tuple[tuple[int, int], ...]
    """Offset of each 16-bit length field and of the byte it counts from."""
    addresses: tuple[int, int]
    """Offset of the innermost source address (0: none) and its size; the destination follows it."""
    tcp: int
    """Offset of the TCP header; 0: none."""

    def fill(self, flow: Flow, payload: bytes) -> bytearray:
        """The whole packet."""
        packet = bytearray(self.head + payload)
        for at, start in self.lengths:
            pack_into("!H", packet, at, min(len(packet) - start, 0xFFFF))
        at, size = self.addresses
        if at:
            packet[at : at + size] = flow.src[-size:]
            packet[at + size : at + 2 * size] = flow.dst[-size:]
        if self.tcp:
            pack_into("!HHII", packet, self.tcp, flow.sport, flow.dport, flow.seq, flow.ack)
        return packet


def envelope(name: str, *layers: Packet) -> Envelope:
    """An envelope of stacked scapy layers."""
    stacked = layers[0].copy()
    for layer in layers[1:]:
        stacked = stacked / layer.copy()
    head, offsets = bytes(stacked), _offsets(layers)
    lengths: list[tuple[int, int]] = []
    addresses, tcp = (0, 0), 0
    for layer, at in zip(layers, offsets, strict=True):
        if isinstance(layer, IP):
            lengths.append((at + 2, at))
            addresses = (at + 12, 4)
        elif isinstance(layer, IPv6):
            lengths.append((at + 4, at + 40))
            addresses = (at + 8, 16)
        elif isinstance(layer, UDP):
            lengths.append((at + 4, at))
        elif isinstance(layer, TCP):
            tcp = at
    return Envelope(name, head, tuple(lengths), addresses, tcp)


def _offsets(layers: Layers) -> list[int]:
    offsets, at = [], 0
    for layer in layers:
        offsets.append(at)
        at += len(bytes(layer))
    return offsets


V4 = IP(src="10.1.0.1", dst="10.2.0.2")
V6 = IPv6(src="fd00::1", dst="fd00::2")
REQUEST = TCP(sport=40000, dport=8080, flags="PA")
REQUEST_OPTIONS = TCP(
    sport=40000, dport=8080, flags="PA", options=[("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
)
REQUEST_FULL = TCP(sport=40000, dport=8080, flags="PA", options=[("NOP", None)] * 40)


def _ether(ethertype: int) -> Packet:
    """With its addresses written out: scapy would look for them by ARP."""
    return Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01", type=ethertype)


def _tcp_over(ip: Packet, ethertype: bool = True) -> Layers:
    """Ethernet, IP and TCP with the next header written out, so that unusual layers may come between."""
    protocol = {"proto": 6} if isinstance(ip, IP) else {"nh": 6}
    inner = ip.copy()
    for name, value in protocol.items():
        setattr(inner, name, value)
    return (
        (_ether(0x0800 if isinstance(ip, IP) else 0x86DD), inner, REQUEST) if ethertype else (inner, REQUEST)
    )


def plain_envelopes() -> Iterator[Envelope]:
    """What a pod's own interface sees, and its odd relatives."""
    for name, ip in (("v4", V4), ("v6", V6)):
        kind = 0x0800 if ip is V4 else 0x86DD
        yield envelope(name, *_tcp_over(ip))
        yield envelope(f"{name} tcp options", _ether(kind), ip, REQUEST_OPTIONS)
        yield envelope(f"{name} tcp 40 bytes of options", _ether(kind), ip, REQUEST_FULL)
        yield envelope(f"vlan {name}", _ether(0x8100), Dot1Q(vlan=5, type=kind), ip, REQUEST)
        yield envelope(
            f"qinq {name}", _ether(0x88A8), Dot1AD(vlan=9, type=0x8100), Dot1Q(type=kind), ip, REQUEST
        )
        yield envelope(
            f"three tags {name}", _ether(0x8100), *[Dot1Q(type=0x8100)] * 2, Dot1Q(type=kind), ip, REQUEST
        )
    yield from _ipv4_variants()
    yield from _ipv6_variants()
    yield envelope("arp", _ether(0x0806), ARP())
    yield envelope("llc", _ether(0x0026), LLC(), Raw(bytes(20)))
    yield envelope("udp", _ether(0x0800), V4, UDP(sport=1, dport=53))


def _ipv4_variants() -> Iterator[Envelope]:
    for name, options in (
        ("nop", [IPOption_NOP()] * 4),
        ("record route", [IPOption_RR()]),
        ("timestamp", [IPOption_Timestamp()]),
        ("40 bytes", [IPOption_NOP()] * 40),
    ):
        yield envelope(f"v4 options {name}", _ether(0x0800), IP(proto=6, options=options), REQUEST)
    for name, flags, fragment in (
        ("first", "MF", 0),
        ("last", 0, 185),
        ("middle", "MF", 185),
        ("DF", "DF", 0),
    ):
        yield envelope(
            f"v4 fragment {name}", _ether(0x0800), IP(proto=6, flags=flags, frag=fragment), REQUEST
        )
    yield envelope("v4 evil bit", _ether(0x0800), IP(proto=6, flags="evil"), REQUEST)
    yield envelope("v4 ah", _ether(0x0800), IP(proto=51), AH(nh=6, icv=bytes(12)), REQUEST)


def _chain(*kinds: str) -> tuple[int, Layers]:
    """First next-header value and layers of IPv6 extension headers in front of TCP."""
    numbers = {"hop": 0, "route": 43, "dest": 60, "dest16": 60, "frag": 44, "atomic": 44, "ah": 51}
    following = [numbers[kind] for kind in kinds[1:]] + [6]
    made: dict[str, Callable[[int], Packet]] = {
        "hop": lambda nh: IPv6ExtHdrHopByHop(nh=nh),
        "route": lambda nh: IPv6ExtHdrRouting(nh=nh, addresses=["fd00::9"], segleft=0),
        "dest": lambda nh: IPv6ExtHdrDestOpt(nh=nh),
        "dest16": lambda nh: Raw(bytes([nh, 2, 1, 20]) + bytes(20)),
        "frag": lambda nh: IPv6ExtHdrFragment(nh=nh, m=1, id=7),
        "atomic": lambda nh: IPv6ExtHdrFragment(nh=nh, m=0, offset=0, id=7),
        "ah": lambda nh: AH(nh=nh, payloadlen=4, icv=bytes(12)),
    }
    return numbers[kinds[0]], tuple(made[kind](nh) for kind, nh in zip(kinds, following, strict=True))


CHAINS = (
    ("hop",),
    ("route",),
    ("dest16",),
    ("ah",),
    ("hop", "dest"),
    ("hop", "route", "ah"),
    ("hop", "dest", "route", "ah"),
    ("dest", "dest", "dest16", "dest"),
    ("hop", "dest", "route", "ah", "dest"),
    ("dest",) * 6,
    ("frag",),
    ("atomic",),
    ("hop", "atomic"),
    ("hop", "dest", "route", "dest", "atomic"),
    ("hop", "dest", "route", "dest", "dest", "frag"),
)


def _ipv6_variants() -> Iterator[Envelope]:
    for kinds in CHAINS:
        first, layers = _chain(*kinds)
        ip = IPv6(src="fd00::1", dst="fd00::2", nh=first)
        yield envelope(f"v6 {' '.join(kinds)}", _ether(0x86DD), ip, *layers, REQUEST)
    for number in (135, 139, 140):  # extension headers that the contract does not walk
        odd = Raw(b"\x06\0" + bytes(6))
        yield envelope(f"v6 {number}", _ether(0x86DD), IPv6(nh=number), odd, REQUEST)
    yield envelope("v6 no next header", _ether(0x86DD), IPv6(nh=59), REQUEST)
    yield envelope("v6 esp", _ether(0x86DD), IPv6(nh=50), REQUEST)


def _inner_ethernet() -> Iterator[tuple[str, Layers]]:
    """What a tunnel with an Ethernet header inside may carry."""
    yield "v4", _tcp_over(V4)
    yield "v6", _tcp_over(V6)
    yield "vlan v4", (_ether(0x8100), Dot1Q(type=0x0800), IP(proto=6), REQUEST_OPTIONS)
    yield "qinq v6", (_ether(0x88A8), Dot1AD(type=0x8100), Dot1Q(type=0x86DD), IPv6(nh=6), REQUEST)
    yield "three tags", (_ether(0x8100), *[Dot1Q(type=0x8100)] * 2, Dot1Q(type=0x0800), IP(proto=6), REQUEST)
    yield "options", (_ether(0x0800), IP(proto=6, options=[IPOption_NOP()] * 8), REQUEST)
    yield "fragment", (_ether(0x0800), IP(proto=6, flags="MF"), REQUEST)
    yield "udp", (_ether(0x0800), V4, UDP(sport=9, dport=4789), VXLAN(vni=3), *_tcp_over(V4))
    yield "arp", (_ether(0x0806), ARP())
    for kinds in (("hop", "route"), ("dest",) * 5, ("atomic",)):
        first, layers = _chain(*kinds)
        yield " ".join(kinds), (_ether(0x86DD), IPv6(nh=first), *layers, REQUEST)


def _outer(protocol: int) -> Iterator[tuple[str, Layers]]:
    """Ethernet and outer IP in front of a tunnel."""
    yield "4", (_ether(0x0800), IP(src="192.168.0.1", dst="192.168.0.2", proto=protocol))
    yield "6", (_ether(0x86DD), IPv6(src="2001:db8::1", dst="2001:db8::2", nh=protocol))


def _odd_outer(protocol: int) -> Iterator[tuple[str, Layers]]:
    yield "4 options", (_ether(0x0800), IP(proto=protocol, options=[IPOption_NOP()] * 12))
    yield "4 vlan", (_ether(0x8100), Dot1Q(type=0x0800), IP(proto=protocol))
    yield "4 fragment", (_ether(0x0800), IP(proto=protocol, flags="MF"))
    yield "6 dest", (_ether(0x86DD), IPv6(nh=60), IPv6ExtHdrDestOpt(nh=protocol))
    yield "6 qinq", (_ether(0x88A8), Dot1AD(type=0x8100), Dot1Q(type=0x86DD), IPv6(nh=protocol))


def tunnel_envelopes() -> Iterator[Envelope]:
    """What a NIC sees of every encapsulation."""
    simple = (("v4", _tcp_over(V4)), ("v6", _tcp_over(V6)))
    for name, shim, protocol in _bridged_shims():
        for (outer_name, outer), (inner_name, inner) in product(_outer(protocol), _inner_ethernet()):
            if inner_name in ("v4", "v6") or name in ("vxlan 4789", "geneve", "gre teb"):
                yield envelope(f"{name} {inner_name} in {outer_name}", *outer, *shim, *inner)
        for (outer_name, outer), (inner_name, inner) in product(_odd_outer(protocol), simple):
            yield envelope(f"{name} {inner_name} in {outer_name}", *outer, *shim, *inner)
    for name, shim, protocol, inner in _routed_shims():
        for outer_name, outer in (*_outer(protocol), *_odd_outer(protocol)):
            yield envelope(f"{name} in {outer_name}", *outer, *shim, *inner)


def _bridged_shims() -> Iterator[tuple[str, Layers, int]]:
    for port in (4789, 8472, 4790):
        yield f"vxlan {port}", (UDP(sport=50000, dport=port), VXLAN(flags=0x08, vni=0x123456)), 17
    for flags in (0x00, 0xF7, 0xFF, 0x88):
        yield f"vxlan flags {flags:#x}", (UDP(dport=4789), VXLAN(flags=flags, vni=77)), 17
    for name, header in (
        ("geneve", GENEVE(vni=0xABCDEF, proto=0x6558)),
        ("geneve options", GENEVE(vni=1, proto=0x6558, options=[GeneveOptions(length=2, data=bytes(8))])),
        ("geneve oam critical", GENEVE(vni=2, proto=0x6558, oam=1, critical=1)),
        ("geneve version 1", GENEVE(vni=3, proto=0x6558, version=1)),
        ("geneve 252 bytes", Raw(b"\x3f\0\x65\x58\0\0\x05\0" + bytes(252))),
    ):
        yield name, (UDP(dport=6081), header), 17
    yield "gre teb", (GRE(proto=0x6558),), 47
    for checksum, key, sequence in product((0, 1), repeat=3):
        flagged = GRE(proto=0x6558, chksum_present=checksum, key_present=key, seqnum_present=sequence)
        yield f"gre teb {checksum}{key}{sequence}", (flagged,), 47


def _routed_shims() -> Iterator[tuple[str, Layers, int, Layers]]:
    v4, v6 = _tcp_over(V4, ethertype=False), _tcp_over(V6, ethertype=False)
    yield "ipip v4", (), 4, v4
    yield "ipip v6", (), 41, v6
    yield "ipip wrong version 4", (), 4, v6
    yield "ipip wrong version 6", (), 41, v4
    yield "ipip options", (), 4, (IP(proto=6, options=[IPOption_NOP()] * 20), REQUEST_OPTIONS)
    yield "ipip extensions", (), 41, (IPv6(nh=0), *_chain("hop", "dest")[1], REQUEST)
    yield "ipip twice", (), 4, (IP(proto=4), *v4)
    for proto, inner in ((0x0800, v4), (0x86DD, v6), (0x0806, v4), (0x88BE, v4)):
        for words in (0, 1, 2):
            options = [GeneveOptions(length=0, data=b"")] * words
            yield (
                f"geneve {proto:#x} {words}",
                (UDP(dport=6081), GENEVE(vni=9, proto=proto, options=options)),
                17,
                inner,
            )
        for flags in range(0, 0x10000, 0x1000):
            header = Raw(flags.to_bytes(2, "big") + proto.to_bytes(2, "big"))
            optional = 4 * (bool(flags & 0x8000) + bool(flags & 0x2000) + bool(flags & 0x1000))
            if proto in (0x0800, 0x86DD) or not flags:
                yield f"gre {proto:#x} {flags:#x}", (header, Raw(bytes(optional))), 47, inner
        yield f"gre {proto:#x} version 1", (Raw(b"\0\1" + proto.to_bytes(2, "big")),), 47, inner
