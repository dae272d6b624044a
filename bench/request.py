# SPDX-License-Identifier: Apache-2.0
"""One packet that starts a request, as BPF_PROG_TEST_RUN takes it."""

import struct
from ipaddress import IPv4Address

CONTEXT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"


def request_packet(*, seq: int = 1, ack: int = 1, context: bytes = CONTEXT) -> bytes:
    """Ethernet, IPv4, TCP and `GET / HTTP/1.1` with `context` as one of its header lines."""
    payload = b"GET / HTTP/1.1\r\nhost: reviews\r\n" + context + b"accept: */*\r\n\r\n"
    tcp = struct.pack("!HHIIBBHHH", 40000, 8080, seq, ack, 5 << 4, 0x18, 64240, 0, 0)
    addresses = IPv4Address("10.244.1.2").packed + IPv4Address("10.244.2.3").packed
    total = 20 + len(tcp) + len(payload)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, total, 0, 0, 64, 6, 0) + addresses
    return b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0" + ip + tcp + payload
