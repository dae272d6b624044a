# SPDX-License-Identifier: Apache-2.0
"""The addresses of this network namespace's own interfaces (man 7 rtnetlink)."""

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from agent.network import rtnetlink

_RTM_GETADDR: Final = 22
_IFADDR: Final = struct.Struct("=BBBBI")
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2


def own_addresses() -> frozenset[IPv4Address | IPv6Address]:
    """IPv4 and IPv6 addresses of all interfaces. Raises OSError."""
    return frozenset(read_owners())


def read_owners() -> dict[IPv4Address | IPv6Address, int]:
    """Interface (index) by address. Raises OSError."""
    request = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    listing = rtnetlink.dump(_RTM_GETADDR, request, "list addresses")
    return parse_owners(message.body for message in listing)


def parse_owners(bodies: Iterable[bytes]) -> dict[IPv4Address | IPv6Address, int]:
    """Interface by address, of the bodies of RTM_NEWADDR."""
    found = ((address_in(body), _IFADDR.unpack_from(body)[4]) for body in bodies)
    return {address: int(index) for address, index in found if address is not None}


def address_in(body: bytes) -> IPv4Address | IPv6Address | None:
    """The address in one RTM_NEWADDR; None if it is of another family.

    IFA_LOCAL where there is one: IFA_ADDRESS of a point-to-point interface is the other end's.
    """
    family = body[0]
    attributes = rtnetlink.attributes(body[_IFADDR.size :])
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if packed is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return IPv4Address(packed) if family == socket.AF_INET else IPv6Address(packed)
