# SPDX-License-Identifier: Apache-2.0
"""Which addresses are behind an interface of a pod, as the kernel knows without the pod's namespace.

Routed CNIs have a route to each pod's address through its interface. Behind a bridge, the bridge's neighbours
say which address has which MAC address, and its forwarding table behind which port that is (man 7 rtnetlink).
"""

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from agent.network import rtnetlink
from agent.network.links import Link
from agent.network.routes import Route, read_routes
from agent.plan.names import Address

_RTM_GETNEIGH: Final = 30
_NEIGHBOUR: Final = struct.Struct("=BxHiHBB")
_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
_AF_BRIDGE: Final = 7
_NUD_FAILED: Final = 0x20
_NUD_INCOMPLETE: Final = 0x01
_NUD_NOARP: Final = 0x40
"""Nobody was asked: a group's address, which is on every interface."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What it knows; interfaces by index."""

    routes: tuple[tuple[int, Address], ...] = ()
    """Interface and the one address that it leads to."""
    neighbours: tuple[tuple[int, Address, bytes], ...] = ()
    """Interface, address, MAC address."""
    ports: tuple[tuple[int, bytes], ...] = ()
    """Port of a bridge, and a MAC address behind it."""
    outside: frozenset[int] = frozenset()
    """Interfaces with a default route: they lead to other nodes."""


def addresses_behind(links: Iterable[Link], known: Kernel) -> dict[str, tuple[Address, ...]]:
    """Addresses of pods by the name of their interface; those without any are left out. Pure.

    What leads to other nodes leads to no pod, also where it is one end of a veth.
    """
    names = {
        link.ifindex: link.name
        for link in links
        if link.link_netnsid is not None and link.ifindex not in known.outside
    }
    bridges = {link.ifindex: link.master for link in links if link.ifindex in names}
    of_mac = {mac: index for index, mac in known.ports if index in names}
    found: dict[str, set[Address]] = {}
    for index, address in known.routes:
        if index in names:
            found.setdefault(names[index], set()).add(address)
    for index, address, mac in known.neighbours:
        port = index if index in names else of_mac.get(mac)
        if port is not None and (port == index or bridges[port] == index) and not address.is_link_local:
            found.setdefault(names[port], set()).add(address)
    return {
        name: tuple(sorted(each, key=lambda one: (one.version, int(one)))) for name, each in found.items()
    }


def read_kernel() -> Kernel:
    """Of this network namespace. Raises OSError."""
    found = read_routes()
    routes = [
        (hop.ifindex, route.to.network_address)
        for route in found
        for hop in route.hops
        if route.to.prefixlen == route.to.max_prefixlen
    ]
    neighbours: list[tuple[int, Address, bytes]] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _NEIGHBOUR.pack(family, 0, 0, 0, 0, 0)
        for message in rtnetlink.dump(_RTM_GETNEIGH, request, "list neighbours"):
            neighbours += _neighbour(message.body)
    request = _NEIGHBOUR.pack(_AF_BRIDGE, 0, 0, 0, 0, 0)
    ports = [_port(each.body) for each in rtnetlink.dump(_RTM_GETNEIGH, request, "list bridge ports")]
    return Kernel(tuple(routes), tuple(neighbours), tuple(ports), leading_out(found))


def leading_out(routes: Iterable[Route]) -> frozenset[int]:
    """Interfaces with a default route: they lead to other nodes."""
    return frozenset(hop.ifindex for route in routes for hop in route.hops if route.is_default)


def _neighbour(body: bytes) -> list[tuple[int, Address, bytes]]:
    """One, if it was ever reached."""
    _, _, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
    attributes = rtnetlink.attributes(body[_NEIGHBOUR.size :])
    destination, mac = attributes.get(_NDA_DST), attributes.get(_NDA_LLADDR)
    if destination is None or mac is None or state & (_NUD_FAILED | _NUD_INCOMPLETE | _NUD_NOARP):
        return []
    return [(index, _address(destination), mac)]


def _port(body: bytes) -> tuple[int, bytes]:
    _, _, index, _, _, _ = _NEIGHBOUR.unpack_from(body)
    return index, rtnetlink.attributes(body[_NEIGHBOUR.size :]).get(_NDA_LLADDR, b"")


def _address(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
