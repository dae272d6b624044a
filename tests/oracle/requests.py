# SPDX-License-Identifier: Apache-2.0
"""Random HTTP/1 requests: legal header blocks, and whatever could mislead a search for the trace context."""

from random import Random

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")
NO_REQUESTS = (
    b"get / HTTP/1.1\r\n", b"GETX / HTTP/1.1\r\n", b"GET\t/ HTTP/1.1\r\n", b" GET / HTTP/1.1\r\n",
    b"Get / ", b"HTTP/1.1 200 OK\r\n", b"MERGE / HTTP/1.1\r\n", b"CONNEC ", b"OPTION ", b"OPTIONSX",
    b"DELETED ", b"PATCH\r\n", b"POST", b"PUTT / ", b"TRACE", b"HEADER ", b"", b"\r\n\r\n", b"\0",
    b"G", b"GE", b"GET", b"\x16\x03\x01\x02\0\x01", b"\x17\x03\x03\0\x10", b"\x14\x03\x04",
    b"\x15\x03\x05", b"\x13\x03\x01", b"\x18\x03\x01", b"\x16\x03", b"\x16\x02\x01",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HT", b"PRI * H", b"PRI * HX", b"pri * ht",
)  # fmt: skip
TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"
NAMES = (b"traceparent", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled", b"x-b3-flags")
NEAR_NAMES = (
    b"tracestate", b"traceparen", b"traceparents", b"xtraceparent", b"trace-parent", b"b", b"b33",
    b"3b", b"b4", b"x-b3-traceids", b"x-b3-trace", b"x-b3-spani", b"x-b3-parentspanid", b"x-b3-flag",
    b"x-b3-sample", b"x_b3_traceid", b"x-b3-sampledx", b"tRaceparent\0", b"\rb3", b"traceparent\r",
    b"T2aceparent", b"\x42\x13", b"\x02\x33", b"b\x13", b"X\rB3-TraceId", b"x-b3-spaniD\x7f", b"",
)  # fmt: skip
PLAIN = (
    b"Host: reviews:9080", b"User-Agent: curl/7.88.1", b"Accept: */*", b"Content-Length: 0",
    b"Accept-Encoding: gzip", b"Content-Type: application/json",
    b"x-request-id: 9e3f7d52-5a8f-9d7e-b7d5-6f7f7c6a1b11", b"a:b", b"x:", b":", b"x", b"x:1", b"b3",
    b"traceparent", b"Connection: keep-alive", b"tracestate: vendor=1,b3=2",
)  # fmt: skip
NEAR_HEX = b":;<=>?@G`g/" * 3 + b"aAfF09-~\x00\x80\xff \t\x10\x30\xb0\xe1"
SPACE = (b"", b" ", b"  ", b"\t", b" \t ", b" " * 7, b" " * 40, b"\t" * 9, b" " * 64, b"\t " * 75)
SOUP = (b"\r\n",) * 6 + (
    b"\r", b"\n", b"\r\n\r\n", b":", b"b3", b"b3:", b"b3:0\r\n", b"B3: d\r\n", b"x", b"x:1\r\n", b" ", b"\t",
    b"0", b"1", b"traceparent:", b"Traceparent: ", b"x-b3-traceid:", b"X-B3-SpanId:", b"x-b3-flags: 1\r\n",
    b"abcdefg", TRACE, SPAN, b"00-" + TRACE + b"-" + SPAN + b"-01", TRACE + b"-" + SPAN + b"-1", b"\r\nb3:",
    b"\r\ntraceparent:\r\n",
)  # fmt: skip
ENDINGS = (b"\r\n",) * 24 + (b"\n", b"\r", b"\r\r\n", b"\r\n\r", b"\n\r\n", b"\r\n ", b"\r\n\t", b"\r\0\n")


class Requests:
    """Payloads for one search window, drawn from `rng`."""

    def __init__(self, rng: Random, window: int, max_bytes: int) -> None:
        self._rng, self._window, self._max_bytes = rng, window, max_bytes

    def draw(self) -> bytes:
        """One payload."""
        rng = self._rng
        roll = rng.random()
        if roll < 0.06:
            return rng.choice(NO_REQUESTS) + rng.choice((b"", b"x" * 30, self._context_line() + b"\r\n\r\n"))
        if roll < 0.2:
            return self._soup()[: self._max_bytes]
        lines = [self._line() for _ in range(rng.choice((0, 1, 2, 3, 5, 8, 13, 20)))]
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            lines.insert(rng.randrange(len(lines) + 1), self._context_line())
        if roll < 0.36:
            lines = self._multi(lines)
        payload = self._join(lines)
        if rng.random() < 0.35:
            payload = self._at_the_border(payload)
        return payload[: self._max_bytes]

    def _soup(self) -> bytes:
        """Line ends, names and values in any order: several ends within 8 bytes, at every alignment."""
        rng = self._rng
        tokens = rng.choices(SOUP, k=rng.choice((2, 4, 8, 16, 40)))
        for _ in range(rng.choice((0, 1, 2))):
            tokens.insert(rng.randrange(len(tokens) + 1), b"\r\n" + self._context_line() + b"\r\n")
        return b"GET " + b"/" * rng.randrange(9) + b"\r\n" + b"".join(tokens)

    def _request_line(self) -> bytes:
        rng = self._rng
        target = rng.choice(
            (b"/", b"/productpage?u=1", b"*", b"/a?traceparent: b3: 0", b"/" + b"p" * rng.randrange(90))
        )
        return (
            rng.choice(METHODS) + b" " + target + rng.choice((b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b""))
        )

    def _line(self) -> bytes:
        rng = self._rng
        roll = rng.random()
        if roll < 0.7:
            return rng.choice(PLAIN)
        if roll < 0.85:
            return b"Cookie: " + b"c" * rng.randrange(200)
        decoy = self._context_line()
        return rng.choice((b"X-Copy: ", b" ", b"\t", b"x", b"\n", b"\0", b"traceparent ", b"b3 : ")) + decoy

    def _context_line(self) -> bytes:
        rng = self._rng
        names = NAMES[:2] if rng.random() < 0.6 else NAMES
        name = rng.choice(names if rng.random() < 0.94 else NEAR_NAMES)
        colon = b":" if rng.random() < 0.98 else rng.choice((b" :", b"", b"::", b";", b"=", b"\t:"))
        return self._cased(name) + colon + self._spaced(self._value(name))

    def _spaced(self, value: bytes) -> bytes:
        rng = self._rng
        if rng.random() < 0.6:
            return b" " + value
        before, behind = rng.choice(SPACE), rng.choice(SPACE)
        if rng.random() < 0.03:
            before = b" " * rng.randrange(self._max_bytes)
        return before + value + behind

    def _cased(self, name: bytes) -> bytes:
        roll = self._rng.random()
        if roll < 0.5:
            return name
        if roll < 0.65:
            return name.upper()
        if roll < 0.8:
            return name.title()
        return bytes(self._rng.choice((char, char ^ 0x20)) if chr(char).isalpha() else char for char in name)

    def _value(self, name: bytes) -> bytes:
        if name == b"traceparent":
            value = self._w3c()
        elif name == b"b3":
            value = self._b3()
        elif name == b"x-b3-traceid":
            value = self._hex(self._rng.choice((16, 32, 32)))
        elif name == b"x-b3-spanid":
            value = self._hex(16)
        else:
            value = self._rng.choice((b"1", b"1", b"0", b"d", b"true", b"", b"11", b"01", b"1 1"))
        return self._broken(value) if self._rng.random() < 0.15 else value

    def _hex(self, digits: int) -> bytes:
        rng = self._rng
        roll = rng.random()
        if roll < 0.08:
            return rng.choice(
                (b"0" * digits, b"0" * (digits - 1) + b"1", b"1" + b"0" * (digits - 1), b"f" * digits)
            )
        text = b"%0*x" % (digits, rng.getrandbits(4 * digits))
        return text.upper() if roll > 0.9 else text

    def _w3c(self) -> bytes:
        rng = self._rng
        version = b"00" if rng.random() < 0.7 else rng.choice((b"01", b"fe", b"ff", b"0F", b"cc"))
        flags = rng.choice((b"00", b"01", b"01", b"03", b"ff", b"80", b"0A"))
        extra = b""
        if rng.random() < (0.1 if version == b"00" else 0.5):
            extra = rng.choice((b"-", b"-what-ever", b"-" + b"0" * 60, b"x", b" x", b"\r", b"\n"))
        return b"-".join((version, self._hex(32), self._hex(16), flags)) + extra

    def _b3(self) -> bytes:
        rng = self._rng
        if rng.random() < 0.1:
            return rng.choice((b"0", b"1", b"d", b"D", b"2", b"", b"true", b"00", b"-", b"0-", b"d\r"))
        parts = [self._hex(rng.choice((16, 32, 32))), self._hex(16)]
        if rng.random() < 0.6:
            parts.append(rng.choice((b"0", b"1", b"d") * 5 + (b"D", b"2", b"", b"11", b"\r")))
            if rng.random() < 0.5:
                parent = self._hex(16)
                parts.append(rng.choice((parent,) * 6 + (b"0" * 16, b"", parent + b"-", parent + parent)))
        return b"-".join(parts)

    def _broken(self, value: bytes) -> bytes:
        """The value with a byte changed, lost, doubled or added."""
        rng = self._rng
        at = rng.randrange(len(value) + 1)
        kind = rng.choice((0, 0, 0, 1, 2, 3))
        if kind == 0:
            return value[:at] + bytes([rng.choice(NEAR_HEX)]) + value[at + 1 :]
        if kind == 1:
            return value[:at] + value[at + 1 :]
        if kind == 2:
            return value[:at] + value[at - 1 : at] + value[at:]
        return value[:at] + bytes([rng.choice(NEAR_HEX)]) + value[at:]

    def _multi(self, lines: list[bytes]) -> list[bytes]:
        """The lines with all four B3 fields among them, in any order."""
        rng = self._rng
        for name in rng.sample(NAMES[2:], rng.choice((2, 3, 4))):
            wanted = rng.choice((NAMES[2], name, name, name))
            line = self._cased(wanted) + b":" + self._spaced(self._value(wanted))
            lines.insert(rng.randrange(len(lines) + 1), line)
        return lines

    def _join(self, lines: list[bytes]) -> bytes:
        """Request line, lines, perhaps an empty line too early or never, and a body."""
        rng = self._rng
        if rng.random() < 0.07:
            lines.insert(rng.randrange(len(lines) + 1), b"")
        if rng.random() < 0.75:
            parts = [self._request_line(), *lines]
            block = b"\r\n".join(parts) + b"\r\n"
        else:
            parts = [self._request_line()]
            for line in lines:
                parts += (rng.choice(ENDINGS), line)
            block = b"".join(parts) + rng.choice(ENDINGS)
        roll = rng.random()
        if roll < 0.75:
            block += b"\r\n"
        elif roll < 0.8:
            block += rng.choice((b"\r", b"\n", b"\r\r\n", b"\n\n"))
        return block + (self._context_line() + b"\r\n\r\n" if rng.random() < 0.3 else b"")

    def _at_the_border(self, payload: bytes) -> bytes:
        """Pad the first header so that some CR falls on or near the window's last byte, or cut there."""
        rng = self._rng
        target = self._window + rng.choice((-3, -2, -1, -1, 0, 1, 2))
        ends = [at for at in range(len(payload)) if payload[at] == 13]
        if not ends:
            return payload
        missing = target - rng.choice(ends)
        if missing < 0:
            return payload[: rng.choice((target, target + 1))]
        if len(payload) + missing > self._max_bytes:
            return payload
        first = payload.find(b"\r\n")
        return (
            payload[: first + 2]
            + (b"a" * (missing - 2) + b"\r\n" if missing > 2 else b"")
            + payload[first + 2 :]
        )
