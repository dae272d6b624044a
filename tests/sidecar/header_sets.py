# SPDX-License-Identifier: Apache-2.0
"""Random requests of HTTP/1.1: what clients, proxies and tracers send, and what only a fuzzer does (pure)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_letters, digits

from overhop.sidecar.contexts import DEFAULT_HEADERS

LARGEST_BYTES = 60_000
_CONTEXTS = tuple(name.encode() for name in DEFAULT_HEADERS)
_KNOWN = (
    b"Accept",
    b"accept-encoding",
    b"Authorization",
    b"cache-control",
    b"Content-Type",
    b"cookie",
    b"Cookie",
    b"grpc-timeout",
    b"If-None-Match",
    b"Origin",
    b"proxy-authorization",
    b"Referer",
    b"TE",
    b"User-Agent",
    b"via",
    b"X-Forwarded-For",
    b"x-client-trace-id",
    b"X-Request-Id",
    b"b3x",
    b"x-b3",
    b"traceparent-old",
)
"""Some of them Envoy keeps in a place of their own, some it merges, some end like a context."""
_TOKEN = (ascii_letters + digits + "!#$%&'*+-.^_`|~").encode()
_TEXT = bytes(range(0x21, 0x7F)) + b" \t"
_STATUSES = (200, 200, 200, 204, 404, 503)


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes to send, and the status to answer with."""

    data: bytes
    status: int


def random_request(seed: str) -> Request:
    """The same for the same seed."""
    chosen = random.Random(seed)
    lines = _lines(chosen)
    status = chosen.choice(_STATUSES)
    path = b"/%d/%s" % (status, _letters(chosen, chosen.choice((0, 5, 60))))
    if chosen.random() < 0.8:
        return Request(_request(b"GET", path, lines, b""), status)
    body = chosen.randbytes(chosen.choice((0, 1, 500, 20_000)))
    lines.insert(chosen.randint(0, len(lines)), b"Content-Length: %d\r\n" % len(body))
    return Request(_request(b"POST", path, lines, body), status)


def _request(method: bytes, path: bytes, lines: Sequence[bytes], body: bytes) -> bytes:
    return b"%s %s HTTP/1.1\r\nhost: shop\r\n%s\r\n%s" % (method, path, b"".join(lines), body)


def _lines(chosen: random.Random) -> list[bytes]:
    limit = chosen.choice((300, 800, 800, 2_000, 2_000, 8_000)) if chosen.random() < 0.9 else LARGEST_BYTES
    count = chosen.randint(0, 40) if limit < LARGEST_BYTES else chosen.choice((20, 300, 1_500))
    contexts = chosen.choice((0.0, 0.05, 0.2, 0.6))
    has_empty = chosen.random() < 0.3
    lines: list[bytes] = []
    names: list[bytes] = []
    size = 0
    for _ in range(count):
        name = _name(chosen, names, contexts)
        empty = has_empty and chosen.random() < 0.15
        value = b"" if empty else _value(chosen, name, (limit - size) // 2)
        line = b"%s:%s%s\r\n" % (name, chosen.choice((b" ", b" ", b"", b"\t ")), value)
        size += len(line)
        if size > limit:
            break
        names.append(name)
        lines.append(line)
    return lines


def _name(chosen: random.Random, before: Sequence[bytes], contexts: float) -> bytes:
    if chosen.random() < contexts:
        name = chosen.choice(_CONTEXTS)
    elif before and chosen.random() < 0.25:
        name = chosen.choice(before)
    elif chosen.random() < 0.5:
        name = chosen.choice(_KNOWN)
    else:
        name = b"x-" + bytes(chosen.choices(_TOKEN, k=chosen.choice((1, 4, 9, 30))))
    return name if chosen.random() < 0.7 else chosen.choice((name.upper(), name.title(), name.swapcase()))


def _value(chosen: random.Random, name: bytes, longest: int) -> bytes:
    """Not empty, and no space at the ends, which no proxy keeps."""
    if name.lower() in _CONTEXTS and chosen.random() < 0.7:
        return _context(chosen, name.lower())
    if name.lower() == b"te":
        return b"trailers"
    kind = chosen.random()
    length = chosen.choice((1, 3, 12, 40, 150)) if chosen.random() < 0.95 else max(1, min(longest, 16_000))
    if kind < 0.8:
        middle = bytes(chosen.choices(_TEXT, k=length))
    elif kind < 0.9:
        middle = "".join(chosen.choices("aé中🐱Ω ", k=length)).encode()
    else:
        middle = bytes(chosen.choices(range(0x80, 0x100), k=length))  # obs-text, RFC 9110 section 5.5
    return middle.strip() or b"v"


def _context(chosen: random.Random, name: bytes) -> bytes:
    trace, span = chosen.randbytes(16).hex(), chosen.randbytes(8).hex()
    flag = chosen.choice("01")
    values = {
        b"traceparent": f"00-{trace}-{span}-0{flag}",
        b"tracestate": f"vendor={span}",
        b"b3": f"{trace}-{span}-{flag}",
        b"x-b3-traceid": trace,
        b"x-b3-sampled": flag,
        b"x-b3-flags": flag,
    }
    return values.get(name, span).encode()


def _letters(chosen: random.Random, count: int) -> bytes:
    return "".join(chosen.choices(ascii_letters, k=count)).encode()
