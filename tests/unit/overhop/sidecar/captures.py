# SPDX-License-Identifier: Apache-2.0
"""Captures made by hand: requests of named senders as pcap files."""

from struct import pack

from tests.unit.handmade import ETHER4

LINE = b"GET / HTTP/1.1\r\n"
HOST = b"host: reviews:9080\r\n"
W3C = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
AGENT = b"user-agent: curl/7.88.1\r\n"
RELOCATED = LINE + HOST + W3C + AGENT + b"\r\n"
"""Context at 36, found from a window of 105 bytes on."""
STOCK = LINE + HOST + AGENT + b"cookie: " + b"c" * 290 + b"\r\n" + W3C + b"\r\n"
"""Context at 361, found from a window of 430 bytes on."""
NO_CONTEXT = LINE + HOST + AGENT + b"\r\n"


def packet(source: int, seq: int, payload: bytes, ack: int = 1, sport: int = 40000) -> bytes:
    """A frame from 10.1.0.SOURCE to 10.2.0.9:80."""
    tcp = pack("!HHIIBBHHH", sport, 80, seq, ack, 0x50, 0x18, 0xFFFF, 0, 0) + payload
    addresses = bytes((10, 1, 0, source, 10, 2, 0, 9))
    return ETHER4 + pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + addresses + tcp


def pcap(*packets: bytes, snap_length: int = 1 << 16) -> bytes:
    """A file of frames, each cut to `snap_length`."""
    written = [pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap_length, 1)]
    for each in packets:
        data = each[:snap_length]
        written.append(pack("<IIII", 1, 0, len(data), len(each)) + data)
    return b"".join(written)


def mixed() -> bytes:
    """Three relocated requests of 10.1.0.1, one stock of 10.1.0.2, one without context, one datagram."""
    datagram = ETHER4 + pack("!BBHHHBBH", 0x45, 0, 28, 1, 0, 64, 17, 0) + bytes(16)
    requests = [packet(1, 1000 * number, RELOCATED, ack=number) for number in range(3)]
    return pcap(*requests, packet(2, 7, STOCK), packet(3, 9, NO_CONTEXT), datagram)
