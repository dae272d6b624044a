# SPDX-License-Identifier: Apache-2.0
"""The packets of `./dev bench datapath`: what a program sees, from a frame without IP to a long request."""

import struct
from ipaddress import IPv4Address

CLIENT = IPv4Address("10.244.1.2").packed
SERVER = IPv4Address("10.244.2.3").packed
NODES = IPv4Address("192.168.7.11").packed, IPv4Address("192.168.7.12").packed
ETHERNET = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01"
VXLAN_PORT = 8472

CONTEXT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
REQUEST_LINE = b"GET /p HTTP/1.1\r\nhost: reviews:9080\r\n"
"""With a path of nine more letters the context behind it is at 45, where a relocating sidecar puts it."""
LINES = (
    b"user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
    b"Safari/537.36\r\n",
    b"accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n",
    b"accept-encoding: gzip, deflate, br, zstd\r\n",
    b"accept-language: en-GB,en;q=0.9,de;q=0.8\r\n",
    b"x-forwarded-for: 203.0.113.7, 10.244.1.2\r\n",
    b"x-forwarded-proto: http\r\n",
    b"x-request-id: 3f2c1b8a-77b1-9f0e-8a53-0d9c7b6f1e22\r\n",
    b"x-envoy-attempt-count: 1\r\n",
    b"x-envoy-expected-rq-timeout-ms: 15000\r\n",
    b"cache-control: max-age=0\r\n",
    b"content-type: application/json\r\n",
    b"end-user: jason\r\n",
    b"upgrade-insecure-requests: 1\r\n",
    b"referer: http://bookinfo.example.com:9080/productpage?u=normal\r\n",
    b"x-envoy-decorator-operation: reviews.default.svc.cluster.local:9080/*\r\n",
    b"x-envoy-internal: true\r\n",
    b'sec-ch-ua-platform: "Linux"\r\n',
    b"sec-fetch-mode: navigate\r\n",
)
"""What browsers, proxies and sidecars send; of many lengths, so that line ends fall on any byte of a word."""
TAIL = b"accept-charset: utf-8\r\ncontent-length: 0\r\n\r\n"
LEAST_TOTAL_BYTES = 700
TOKEN_BYTES = 900
"""Of a bearer token, where the header block has room for one."""
_TCP = struct.Struct("!HHIIBBHHH")
_IPV4 = struct.Struct("!BBHHHBBH")


def non_ip() -> bytes:
    """An ARP request, padded to the shortest frame."""
    return ETHERNET + b"\x08\x06\0\1\x08\0\6\4\0\1" + bytes(38)


def ack() -> bytes:
    """A bare ACK with time stamps."""
    return segment(b"", options=b"\1\1\x08\x0a" + bytes(range(8)))


def tcp_not_http() -> bytes:
    """A full segment in the middle of a response."""
    return segment(bytes(range(1, 249)) * 5, options=b"\1\1\x08\x0a" + bytes(range(8)))


def request(context_at: int) -> bytes:
    """A request whose traceparent begins at this offset of the payload; lines follow up to 700 bytes."""
    head = header_block(context_at) + CONTEXT
    rest = LEAST_TOTAL_BYTES - len(head) - len(TAIL)
    return segment(head + (some_lines(rest) if rest > 0 else b"") + TAIL)


def request_without_context(header_bytes: int) -> bytes:
    """A request whose header, empty line included, has this size."""
    return segment(header_block(header_bytes - len(TAIL)) + TAIL)


def in_vxlan(inner: bytes) -> bytes:
    """The frame behind the headers of a VXLAN between two nodes, VNI 1."""
    vxlan = b"\x08\0\0\0\0\0\1\0"
    udp = struct.pack("!HHHH", 54321, VXLAN_PORT, 8 + len(vxlan) + len(inner), 0)
    return ETHERNET + b"\x08\0" + _ip(17, *NODES, udp + vxlan + inner)


def segment(payload: bytes, *, options: bytes = b"") -> bytes:
    """Ethernet, IPv4 and TCP around a payload."""
    data_offset = (_TCP.size + len(options)) // 4
    tcp = _TCP.pack(40000, 9080, 1, 1, data_offset << 4, 0x18, 64240, 0, 0) + options
    return ETHERNET + b"\x08\0" + _ip(6, CLIENT, SERVER, tcp + payload)


def _ip(protocol: int, source: bytes, destination: bytes, behind: bytes) -> bytes:
    return _IPV4.pack(0x45, 0, 20 + len(behind), 0, 0, 64, protocol, 0) + source + destination + behind


def header_block(size: int) -> bytes:
    """A request line, a host and further lines, of exactly `size` bytes."""
    if size < len(REQUEST_LINE):
        raise ValueError(f"header block of {size} bytes: request line and host take {len(REQUEST_LINE)}")
    rest = size - len(REQUEST_LINE)
    if rest < 64:
        return REQUEST_LINE.replace(b"/p", b"/" + b"p" * (1 + rest))
    return REQUEST_LINE + some_lines(rest)


def some_lines(size: int) -> bytes:
    """Lines of `size` bytes in all, at least 16: those of LINES, a token, and a cookie that fills up."""
    taken: list[bytes] = []
    left = size
    for line in (*LINES, b"authorization: Bearer " + b"eyJh" * (TOKEN_BYTES // 4) + b"\r\n"):
        if left - len(line) >= 16:
            taken.append(line)
            left -= len(line)
    return b"".join(taken) + b"cookie: s=" + b"7" * (left - 12) + b"\r\n"
