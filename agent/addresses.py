# SPDX-License-Identifier: Apache-2.0
"""This node's own addresses, by rtnetlink (man 7 rtnetlink, RTM_GETADDR)."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from agent import rtnetlink

_GET_ADDRESS: Final = 22
_IFADDRMSG: Final = struct.Struct("=BBBBI")
_ADDRESS: Final = 1
_LOCAL: Final = 2
"""IPv4: the address itself, where _ADDRESS is the other end of a point-to-point link."""


def own_addresses() -> frozenset[IPv4Address | IPv6Address]:
    """Addresses of every interface of this network namespace, loopback too. Raises OSError."""
    found = rtnetlink.dump(_GET_ADDRESS, _IFADDRMSG.pack(0, 0, 0, 0, 0), "list addresses")
    packed = (_packed(message.body) for message in found)
    return frozenset(ip_address(address) for address in packed if address is not None)


def _packed(body: bytes) -> bytes | None:
    attributes = rtnetlink.attributes(body[_IFADDRMSG.size :])
    return attributes.get(_LOCAL, attributes.get(_ADDRESS))
