# SPDX-License-Identifier: Apache-2.0
import socket
import struct
from ipaddress import ip_address

from agent.network.addresses import address_in, own_addresses
from agent.network.rtnetlink import attribute


def body(family: int, *attributes: bytes) -> bytes:
    return struct.pack("=BBBBI", family, 24, 0, 0, 2) + b"".join(attributes)


def packed(text: str) -> bytes:
    return ip_address(text).packed


def test_address_of_a_point_to_point_interface_is_the_own_end() -> None:
    message = body(socket.AF_INET, attribute(1, packed("10.0.0.2")), attribute(2, packed("10.0.0.1")))
    assert address_in(message) == ip_address("10.0.0.1")


def test_address_of_ipv6_without_local_part() -> None:
    assert address_in(body(socket.AF_INET6, attribute(1, packed("fd00::5")))) == ip_address("fd00::5")


def test_address_of_another_family_or_none_is_none() -> None:
    assert address_in(body(socket.AF_BRIDGE, attribute(1, packed("10.0.0.2")))) is None
    assert address_in(body(socket.AF_INET)) is None


def test_own_addresses_have_loopback() -> None:
    assert ip_address("127.0.0.1") in own_addresses()
