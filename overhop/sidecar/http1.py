# SPDX-License-Identifier: Apache-2.0
"""What the bytes of HTTP/1 say of themselves: where a request begins, how long its body is, what is none."""

import re

from overhop.sidecar.packets import Segment, Why

METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH ")
LONGEST_METHOD = max(map(len, METHODS))
_LONGEST_BODY = 1 << 30
"""Sequence numbers do not tell beyond that (RFC 9293 §3.4 compares within 2^31)."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,10})[ \t]*\r\n", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


def looks_like(segment: Segment) -> Why:
    """What a payload is that begins no request (docs/datapath.md §2, and answers)."""
    data = segment.data
    if len(data) >= 3 and 0x14 <= data[0] <= 0x17 and data[1] == 3 and data[2] <= 4:
        return Why.TLS
    if data.startswith(b"PRI * HT"):
        return Why.HTTP2
    if data.startswith(b"HTTP/1."):
        return Why.RESPONSE
    if len(data) < segment.length and begins_request(data):
        return Why.CUT
    return Why.NO_REQUEST


def begins_request(data: bytes) -> bool:
    """Whether a request begins there, or may: the bytes can end within the method."""
    return data.startswith(METHODS) or any(method.startswith(data) for method in METHODS)


def body_bytes(head: bytes | bytearray) -> int | None:
    """Length of the body; None: not known, it ends where a packet begins with a request."""
    if _CODED.search(head):
        return None
    if not (found := _LENGTH.search(head)):
        return 0
    length = int(found.group(1))
    return length if length < _LONGEST_BODY else None
