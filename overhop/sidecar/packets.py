# SPDX-License-Identifier: Apache-2.0
"""From a captured packet to its TCP segment, through VLAN tags and one tunnel (docs/datapath.md §2).

Beside the tracer's rules: a capture may have cut a packet, and begins with other headers than Ethernet's.
"""

from dataclasses import dataclass
from enum import StrEnum
from struct import Struct
from typing import NamedTuple

from bpf.spec import ProgramSpec
from overhop.sidecar.pcap import Frame


class Why(StrEnum):
    """What a packet is; every one of a capture is counted under exactly one."""

    REQUEST = "request"
    BODY = "body"
    REPEATED = "repeated"
    EMPTY = "no_payload"
    TLS = "tls"
    HTTP2 = "http2"
    RESPONSE = "response"
    NO_REQUEST = "no_request"
    NOT_TCP = "not_tcp"
    NOT_IP = "not_ip"
    FRAGMENT = "fragment"
    EXT_HEADERS = "ext_headers"
    CUT = "cut"
    MALFORMED = "malformed"
    LINK_TYPE = "link_type"


class Segment(NamedTuple):
    """A TCP segment."""

    src: bytes
    """4 or 16 bytes."""
    dst: bytes
    sport: int
    dport: int
    seq: int
    ack: int
    is_syn: bool
    data: bytes
    """The payload, as far as it was captured."""
    length: int
    """Bytes of payload that the packet had."""


@dataclass(frozen=True, slots=True)
class Tunnels:
    """UDP ports of the overlays."""

    vxlan: tuple[int, ...] = (4789, 8472)
    geneve: tuple[int, ...] = (6081,)

    @classmethod
    def of(cls, spec: ProgramSpec) -> "Tunnels":
        """Those that a program of `spec` looks into."""
        return cls(tuple(spec.vxlan_ports), (spec.geneve_port,))


IPV4, IPV6, BRIDGED = 0x0800, 0x86DD, 0x6558
ETHERNET, SLL, SLL2 = 1, 113, 276
LINK_OF_IP = (12, 14, 101, 228, 229)
"""Packets that begin with IP; their first four bits say which."""
LINK_OF_FAMILY = (0, 108)
"""Four bytes in front of IP."""
_TAGS = (0x8100, 0x88A8)
_IPIP, _TCP, _UDP, _IPV6_IN, _GRE, _FRAGMENT, _AH = 4, 6, 17, 41, 47, 44, 51
_EXTENSIONS = (0, 43, 60, _AH)
_MOST_EXTENSIONS = 4
_u16 = Struct("!H").unpack_from
_unpack_tcp = Struct("!HHIIBB").unpack_from
_unpack_ipv4 = Struct("!BxHxxHxB").unpack_from
_TCP_SYN = 2


class _Left(Exception):  # noqa: N818  no error: a packet that is left alone
    def __init__(self, why: Why) -> None:
        self.why = why


class _Ip(NamedTuple):
    protocol: int
    at: int
    end: int
    src: bytes
    dst: bytes


def segment_of(frame: Frame, tunnels: Tunnels) -> Segment | Why:
    """The TCP segment in a packet, or why there is none."""
    try:
        return _segment(frame, tunnels)
    except _Left as left:
        return left.why


def _segment(frame: Frame, tunnels: Tunnels) -> Segment:
    ethertype, at = _network(frame)
    ip = _ip(frame, ethertype, at, frame.length)
    if ip.protocol != _TCP:
        ethertype, at = _inner(frame, ip, tunnels)
        if ethertype == BRIDGED:
            ethertype, at = _ethernet(frame, at, ip.end)
        ip = _ip(frame, ethertype, at, ip.end)
        if ip.protocol != _TCP:
            raise _Left(Why.NOT_TCP)
    data, at = frame.data, ip.at
    _need(frame, at, 20, ip.end)
    sport, dport, seq, ack, offset, flags = _unpack_tcp(data, at)
    header = (offset >> 4) * 4
    if header < 20 or at + header > ip.end:
        raise _Left(Why.MALFORMED)
    begin = at + header
    payload = data[begin : ip.end]
    return Segment(ip.src, ip.dst, sport, dport, seq, ack, bool(flags & _TCP_SYN), payload, ip.end - begin)


def _need(frame: Frame, at: int, count: int, limit: int) -> None:
    """The bytes must lie in the packet, and in what was captured of it."""
    if at + count > limit:
        raise _Left(Why.MALFORMED)
    if at + count > len(frame.data):
        raise _Left(Why.CUT)


def _network(frame: Frame) -> tuple[int, int]:
    """EtherType and offset of the network header."""
    link = frame.link
    if link == ETHERNET:
        return _ethernet(frame, 0, frame.length)
    if link == SLL:
        _announced(frame, 0, 16, frame.length)
        return _tags(frame, _u16(frame.data, 14)[0], 16, frame.length)
    if link == SLL2:
        _announced(frame, 0, 20, frame.length)
        return _tags(frame, _u16(frame.data, 0)[0], 20, frame.length)
    if link in LINK_OF_IP or link in LINK_OF_FAMILY:
        at = 4 if link in LINK_OF_FAMILY else 0
        _announced(frame, at, 1, frame.length)
        return {4: IPV4, 6: IPV6}.get(frame.data[at] >> 4, 0), at
    raise _Left(Why.LINK_TYPE)


def _ethernet(frame: Frame, at: int, limit: int) -> tuple[int, int]:
    _announced(frame, at, 14, limit)
    return _tags(frame, _u16(frame.data, at + 12)[0], at + 14, limit)


def _tags(frame: Frame, ethertype: int, at: int, limit: int) -> tuple[int, int]:
    """Behind at most two VLAN tags."""
    for _ in range(2):
        if ethertype not in _TAGS:
            break
        _announced(frame, at, 4, limit)
        ethertype, at = _u16(frame.data, at + 2)[0], at + 4
    return ethertype, at


def _announced(frame: Frame, at: int, count: int, limit: int) -> None:
    """As _need, of what says which protocol follows: without it a packet is none of IP."""
    if at + count > limit:
        raise _Left(Why.NOT_IP)
    _need(frame, at, count, limit)


def _ip(frame: Frame, ethertype: int, at: int, limit: int) -> _Ip:
    if ethertype == IPV4:
        return _ipv4(frame, at, limit)
    if ethertype == IPV6:
        return _ipv6(frame, at, limit)
    raise _Left(Why.NOT_IP)


def _ipv4(frame: Frame, at: int, limit: int) -> _Ip:
    _need(frame, at, 20, limit)
    data = frame.data
    version, total, fragment, protocol = _unpack_ipv4(data, at)
    header = (version & 15) * 4
    # A total of 0 is how Linux shows a packet that is to be segmented and too long for the field.
    total = total or limit - at
    if version >> 4 != 4 or header < 20 or total < header or at + header > limit:
        raise _Left(Why.MALFORMED)
    if fragment & 0x3FFF:
        raise _Left(Why.FRAGMENT)
    return _Ip(
        protocol, at + header, min(at + total, limit), data[at + 12 : at + 16], data[at + 16 : at + 20]
    )


def _ipv6(frame: Frame, at: int, limit: int) -> _Ip:
    _need(frame, at, 40, limit)
    data = frame.data
    if data[at] >> 4 != 6:
        raise _Left(Why.MALFORMED)
    length = _u16(data, at + 4)[0]
    # A length of 0 with TCP behind it is a packet that is to be segmented, as above.
    end = min(at + 40 + length, limit) if length else limit
    protocol, behind = _extensions(frame, data[at + 6], at + 40, end)
    return _Ip(protocol, behind, end, data[at + 8 : at + 24], data[at + 24 : at + 40])


def _extensions(frame: Frame, protocol: int, at: int, end: int) -> tuple[int, int]:
    """Protocol behind the extension headers, and its offset."""
    walked = 0
    while protocol in _EXTENSIONS:
        if walked == _MOST_EXTENSIONS:
            raise _Left(Why.EXT_HEADERS)
        _need(frame, at, 8, end)
        length = frame.data[at + 1]
        length = (length + 2) * 4 if protocol == _AH else (length + 1) * 8
        protocol, at, walked = frame.data[at], at + length, walked + 1
    if protocol == _FRAGMENT:
        raise _Left(Why.FRAGMENT)
    return protocol, at


def _inner(frame: Frame, ip: _Ip, tunnels: Tunnels) -> tuple[int, int]:
    """EtherType and offset of what a tunnel carries; BRIDGED: an Ethernet header."""
    if ip.protocol == _IPIP:
        return IPV4, ip.at
    if ip.protocol == _IPV6_IN:
        return IPV6, ip.at
    if ip.protocol == _GRE:
        return _gre(frame, ip)
    if ip.protocol != _UDP:
        raise _Left(Why.NOT_TCP)
    _need(frame, ip.at, 8, ip.end)
    port = _u16(frame.data, ip.at + 2)[0]
    if port in tunnels.vxlan:
        return _vxlan(frame, ip)
    if port in tunnels.geneve:
        return _geneve(frame, ip)
    raise _Left(Why.NOT_TCP)


def _vxlan(frame: Frame, ip: _Ip) -> tuple[int, int]:
    _need(frame, ip.at + 8, 8, ip.end)
    if not frame.data[ip.at + 8] & 0x08:
        raise _Left(Why.NOT_TCP)
    return BRIDGED, ip.at + 16


def _geneve(frame: Frame, ip: _Ip) -> tuple[int, int]:
    at = ip.at + 8
    _need(frame, at, 8, ip.end)
    ethertype = _u16(frame.data, at + 2)[0]
    if frame.data[at] >> 6 or ethertype not in (BRIDGED, IPV4, IPV6):
        raise _Left(Why.NOT_TCP)
    return ethertype, at + 8 + (frame.data[at] & 0x3F) * 4


def _gre(frame: Frame, ip: _Ip) -> tuple[int, int]:
    _need(frame, ip.at, 4, ip.end)
    flags, ethertype = _u16(frame.data, ip.at)[0], _u16(frame.data, ip.at + 2)[0]
    if flags & 0x4007 or ethertype not in (BRIDGED, IPV4, IPV6):
        raise _Left(Why.NOT_TCP)
    return ethertype, ip.at + 4 + 4 * ((flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1))
