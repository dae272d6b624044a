# SPDX-License-Identifier: Apache-2.0
"""Model of docs/datapath.md §2: the bytes of a packet -> a request, a counter, or nothing.

Sources: IEEE 802.1Q, RFC 791 (IPv4), RFC 8200 (IPv6), RFC 4302 (AH), RFC 9293 (TCP), RFC 7348 (VXLAN),
RFC 8926 (Geneve), RFC 2784 and 2890 (GRE), RFC 2003 and 2473 (IP in IP).
"""

from struct import Struct
from typing import NamedTuple

from bpf.record import Encap
from bpf.spec import ProgramSpec

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_TAGS = (0x8100, 0x88A8)
ETHERTYPE_BRIDGED = 0x6558
PROTO_IPIP, PROTO_TCP, PROTO_UDP, PROTO_IPV6, PROTO_GRE, PROTO_FRAGMENT, PROTO_AH = 4, 6, 17, 41, 47, 44, 51
EXTENSIONS = (0, 43, 60, PROTO_AH)
MAX_EXTENSIONS = 4
MAPPED = bytes(10) + b"\xff\xff"
METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH ")

_U16 = Struct("!H").unpack_from
_U32 = Struct("!I").unpack_from
_TCP = Struct("!HHII").unpack_from
_IPV4 = Struct("!BxHxxHxB").unpack_from


class Request(NamedTuple):
    """A TCP segment whose payload begins with an HTTP/1 request."""

    src: bytes
    """16 bytes, IPv4 mapped."""
    dst: bytes
    is_ipv6: bool
    sport: int
    dport: int
    seq: int
    ack: int
    payload: bytes
    encap: int
    vni: int


class Tunnels(NamedTuple):
    """What a NIC point decapsulates."""

    vxlan_ports: tuple[int, ...]
    geneve_ports: tuple[int, ...]
    ipip: bool
    gre: bool

    @classmethod
    def of(cls, spec: ProgramSpec) -> "Tunnels":
        enabled = spec.encapsulations
        return cls(
            spec.vxlan_ports if "vxlan" in enabled else (),
            (spec.geneve_port,) if "geneve" in enabled else (),
            "ipip" in enabled,
            "gre" in enabled,
        )


class _Ip(NamedTuple):
    protocol: int
    at: int
    end: int
    src: bytes
    dst: bytes


class _Inner(NamedTuple):
    at: int
    ethertype: int
    """ETHERTYPE_BRIDGED: an Ethernet header comes first."""
    encap: int
    vni: int


class _LeftError(Exception):
    """The packet is left alone; `counter` names what is counted, if anything."""

    def __init__(self, counter: str | None = None) -> None:
        self.counter = counter


def parse(data: bytes, is_nic: bool, tunnels: Tunnels, gso_size: int = 0) -> Request | str | None:
    """A request, the name of the counter that the packet bumps, or None where it is left alone."""
    try:
        return _request(data, is_nic, tunnels, gso_size > 0)
    except _LeftError as left:
        return left.counter


def _request(data: bytes, is_nic: bool, tunnels: Tunnels, is_gso: bool) -> Request | str | None:
    ethertype, at = _ethernet(data, 0, len(data))
    ip = _ip(data, ethertype, at, len(data), is_gso)
    encap, vni = int(Encap.NONE), 0
    if is_nic and ip.protocol != PROTO_TCP:
        inner = _decapsulate(data, ip, tunnels)
        encap, vni, ethertype, at = inner.encap, inner.vni, inner.ethertype, inner.at
        if ethertype == ETHERTYPE_BRIDGED:
            ethertype, at = _ethernet(data, at, ip.end)
        ip = _ip(data, ethertype, at, ip.end, is_gso)
    if ip.protocol != PROTO_TCP:
        return None
    payload = _tcp_payload(data, ip)
    if not payload.startswith(METHODS):
        return None if is_nic else _looks(payload)
    sport, dport, seq, ack = _TCP(data, ip.at)
    is_ipv6 = ethertype == ETHERTYPE_IPV6
    return Request(ip.src, ip.dst, is_ipv6, sport, dport, seq, ack, payload, encap, vni)


def _ethernet(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """EtherType and offset of what it announces, behind at most two tags."""
    if at + 14 > limit:
        raise _LeftError
    ethertype = _U16(data, at + 12)[0]
    at += 14
    for _ in range(2):
        if ethertype not in ETHERTYPE_TAGS:
            break
        if at + 4 > limit:
            raise _LeftError
        ethertype = _U16(data, at + 2)[0]
        at += 4
    return ethertype, at


def _ip(data: bytes, ethertype: int, at: int, limit: int, is_gso: bool) -> _Ip:
    if ethertype == ETHERTYPE_IPV4:
        return _ipv4(data, at, limit, is_gso)
    if ethertype == ETHERTYPE_IPV6:
        return _ipv6(data, at, limit, is_gso)
    raise _LeftError


def _ipv4(data: bytes, at: int, limit: int, is_gso: bool) -> _Ip:
    if at + 20 > limit:
        raise _LeftError("malformed")
    version_ihl, total, fragment, protocol = _IPV4(data, at)
    header = (version_ihl & 15) * 4
    if version_ihl >> 4 != 4 or header < 20 or at + header > limit:
        raise _LeftError("malformed")
    if total == 0 and is_gso:
        total = limit - at
    if total < header:
        raise _LeftError("malformed")
    if fragment & 0x3FFF:
        raise _LeftError("fragment")
    src, dst = MAPPED + data[at + 12 : at + 16], MAPPED + data[at + 16 : at + 20]
    return _Ip(protocol, at + header, min(at + total, limit), src, dst)


def _ipv6(data: bytes, at: int, limit: int, is_gso: bool) -> _Ip:
    if at + 40 > limit or data[at] >> 4 != 6:
        raise _LeftError("malformed")
    length = _U16(data, at + 4)[0]
    if length == 0 and is_gso:
        length = limit - at - 40
    end = min(at + 40 + length, limit)
    protocol, behind = _extensions(data, data[at + 6], at + 40, end)
    return _Ip(protocol, behind, end, data[at + 8 : at + 24], data[at + 24 : at + 40])


def _extensions(data: bytes, protocol: int, at: int, end: int) -> tuple[int, int]:
    """Protocol behind the extension headers and its offset, which may lie behind `end`."""
    walked = 0
    while protocol in EXTENSIONS:
        if walked == MAX_EXTENSIONS:
            raise _LeftError("ext_headers")
        if at + 8 > end:
            raise _LeftError("malformed")
        length = (data[at + 1] + 2) * 4 if protocol == PROTO_AH else (data[at + 1] + 1) * 8
        protocol, at, walked = data[at], at + length, walked + 1
    if protocol == PROTO_FRAGMENT:
        raise _LeftError("fragment")
    return protocol, at


def _decapsulate(data: bytes, ip: _Ip, tunnels: Tunnels) -> _Inner:
    if ip.protocol == PROTO_IPIP and tunnels.ipip:
        return _Inner(ip.at, ETHERTYPE_IPV4, Encap.IPIP, 0)
    if ip.protocol == PROTO_IPV6 and tunnels.ipip:
        return _Inner(ip.at, ETHERTYPE_IPV6, Encap.IPIP, 0)
    if ip.protocol == PROTO_UDP and (tunnels.vxlan_ports or tunnels.geneve_ports):
        return _udp(data, ip, tunnels)
    if ip.protocol == PROTO_GRE and tunnels.gre:
        return _gre(data, ip)
    raise _LeftError


def _udp(data: bytes, ip: _Ip, tunnels: Tunnels) -> _Inner:
    if ip.at + 8 > ip.end:
        raise _LeftError("malformed")
    port = _U16(data, ip.at + 2)[0]
    if port in tunnels.vxlan_ports:
        return _vxlan(data, ip.at + 8, ip.end)
    if port in tunnels.geneve_ports:
        return _geneve(data, ip.at + 8, ip.end)
    raise _LeftError


def _vxlan(data: bytes, at: int, end: int) -> _Inner:
    if at + 8 > end:
        raise _LeftError("malformed")
    if not data[at] & 0x08:
        raise _LeftError
    return _Inner(at + 8, ETHERTYPE_BRIDGED, Encap.VXLAN, _U32(data, at + 4)[0] >> 8)


def _geneve(data: bytes, at: int, end: int) -> _Inner:
    if at + 8 > end:
        raise _LeftError("malformed")
    ethertype = _U16(data, at + 2)[0]
    if data[at] >> 6 or ethertype not in (ETHERTYPE_BRIDGED, ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        raise _LeftError
    behind = at + 8 + (data[at] & 0x3F) * 4
    return _Inner(behind, ethertype, Encap.GENEVE, _U32(data, at + 4)[0] >> 8)


def _gre(data: bytes, ip: _Ip) -> _Inner:
    if ip.at + 4 > ip.end:
        raise _LeftError("malformed")
    flags, ethertype = _U16(data, ip.at)[0], _U16(data, ip.at + 2)[0]
    if flags & 0x4007 or ethertype not in (ETHERTYPE_BRIDGED, ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        raise _LeftError
    optional = (flags & 0x8000, flags & 0x2000, flags & 0x1000)
    return _Inner(ip.at + 4 + 4 * sum(map(bool, optional)), ethertype, Encap.GRE, 0)


def _tcp_payload(data: bytes, ip: _Ip) -> bytes:
    if ip.at + 20 > ip.end:
        raise _LeftError("malformed")
    header = (data[ip.at + 12] >> 4) * 4
    if header < 20 or ip.at + header > ip.end:
        raise _LeftError("malformed")
    return data[ip.at + header : ip.end]


def _looks(payload: bytes) -> str | None:
    """The counter of traffic that is recognised though it cannot be read (vports only)."""
    if len(payload) >= 3 and 0x14 <= payload[0] <= 0x17 and payload[1] == 3 and payload[2] <= 4:
        return "looks_tls"
    return "looks_h2" if payload.startswith(b"PRI * HT") else None
