# SPDX-License-Identifier: Apache-2.0
"""Packets written by hand from the RFCs, for the tests of the model."""

GET = b"GET / HTTP/1.1\r\n\r\n"
MACS = bytes.fromhex("020000000002020000000001")
ETHER4, ETHER6 = MACS + b"\x08\x00", MACS + b"\x86\xdd"
SRC4, DST4 = bytes.fromhex("0a010001"), bytes.fromhex("0a020002")
SRC6, DST6 = bytes.fromhex("fd" + "00" * 14 + "01"), bytes.fromhex("fd" + "00" * 14 + "02")
TCP = bytes.fromhex("9c40 1f90 00000003 00000004 5018 ffff 0000 0000")


def ipv4(inside: bytes, protocol: int = 6, flags: str = "0000", total: int | None = None) -> bytes:
    length = (20 + len(inside) if total is None else total).to_bytes(2, "big")
    start = b"\x45\0" + length + b"\0\1" + bytes.fromhex(flags) + bytes((64, protocol, 0, 0))
    return start + SRC4 + DST4 + inside


def ipv6(inside: bytes, protocol: int = 6, length: int | None = None) -> bytes:
    payload = (len(inside) if length is None else length).to_bytes(2, "big")
    return b"\x60\0\0\0" + payload + bytes((protocol, 64)) + SRC6 + DST6 + inside


UDP_VXLAN = bytes.fromhex("c350 12b5 0000 0000")
VXLAN = bytes.fromhex("08000000 123456 00")
UDP_GENEVE = bytes.fromhex("c350 17c1 0000 0000")
