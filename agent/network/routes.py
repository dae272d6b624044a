# SPDX-License-Identifier: Apache-2.0
"""Routes of this network namespace that lead somewhere (man 7 rtnetlink)."""

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from agent.network import rtnetlink
from agent.network.addresses import read_owners
from agent.plan.names import Address

Network = IPv4Network | IPv6Network

_RTM_GETROUTE: Final = 26
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_NEXT_HOP: Final = struct.Struct("=HBBi")
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PRIORITY: Final = 6
_RTA_MULTIPATH: Final = 9
_RTA_TABLE: Final = 15
_RTA_VIA: Final = 18
_MAIN: Final = 254
_UNICAST: Final = 1
_DEAD: Final = 1
_BITS: Final = {socket.AF_INET: 32, socket.AF_INET6: 128}


@dataclass(frozen=True, slots=True)
class Hop:
    """One way of a route: through which interface, and to whom (None: straight to the destination)."""

    ifindex: int
    gateway: Address | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route of the main table; several hops share its traffic."""

    to: Network
    hops: tuple[Hop, ...]
    metric: int = 0

    @property
    def is_default(self) -> bool:
        """Whether it takes what no other route does."""
        return self.to.prefixlen == 0


@dataclass(frozen=True, slots=True)
class Ways:
    """Routes, and the interface (index) of each own address."""

    routes: tuple[Route, ...] = ()
    owners: Mapping[Address, int] = field(default_factory=dict)

    def way_to(self, address: Address) -> tuple[Hop, ...]:
        """Hops of the most specific route to it, of those the one with the least metric."""
        fitting = [route for route in self.routes if address in route.to]
        best = min(fitting, key=lambda route: (-route.to.prefixlen, route.metric), default=None)
        return best.hops if best else ()


def read_ways() -> Ways:
    """Of this network namespace. Raises OSError."""
    return Ways(read_routes(), read_owners())


def read_routes() -> tuple[Route, ...]:
    """Unicast routes of the main table, IPv4 before IPv6. Raises OSError."""
    routes: list[Route] = []
    for family in _BITS:
        request = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for message in rtnetlink.dump(_RTM_GETROUTE, request, "list routes"):
            routes += parse_route(message.body)
    return tuple(routes)


def parse_route(body: bytes) -> list[Route]:
    """The body of an RTM_NEWROUTE: one, if it is a unicast route of the main table that leads somewhere."""
    family, length, _, _, table, _, _, kind, flags = _ROUTE.unpack_from(body)
    found = rtnetlink.attributes(body[_ROUTE.size :])
    if (rtnetlink.u32(found.get(_RTA_TABLE)) or table) != _MAIN or kind != _UNICAST or flags & _DEAD:
        return []
    if family not in _BITS:
        return []
    packed = found.get(_RTA_DST, bytes(_BITS[family] // 8))
    hops = tuple(_hops(found))
    return (
        [Route(ip_network((packed, length)), hops, rtnetlink.u32(found.get(_RTA_PRIORITY)))] if hops else []
    )


def _hops(attributes: Mapping[int, bytes]) -> Iterator[Hop]:
    if index := rtnetlink.u32(attributes.get(_RTA_OIF)):
        yield Hop(index, _gateway(attributes))
    data = attributes.get(_RTA_MULTIPATH, b"")
    while len(data) >= _NEXT_HOP.size:
        length, flags, _, index = _NEXT_HOP.unpack_from(data)
        if length < _NEXT_HOP.size:
            return
        gateway = _gateway(rtnetlink.attributes(data[_NEXT_HOP.size : length]))
        if not flags & _DEAD:
            yield Hop(index, gateway)
        data = data[(length + 3) & ~3 :]


def _gateway(attributes: Mapping[int, bytes]) -> Address | None:
    """RTA_VIA: of another family than the route, as BGP without addresses between nodes has it."""
    packed = attributes.get(_RTA_GATEWAY) or attributes.get(_RTA_VIA, b"")[2:]
    return ip_address(packed) if len(packed) in (4, 16) else None
