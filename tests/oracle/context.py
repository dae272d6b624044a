# SPDX-License-Identifier: Apache-2.0
"""Model of docs/datapath.md §4: the payload of a request -> its trace context.

Sources: W3C Trace Context (traceparent, §3.2), openzipkin/b3-propagation (single and multiple headers),
RFC 9112 §5 (field syntax). Only CR LF ends a line here: stricter than RFC 9112 §2.2, which allows a bare LF.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from bpf.record import ContextKind, Quality
from bpf.spec import ProgramSpec

_W3C = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.DOTALL)
_B3 = re.compile(
    rb"([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32})-([0-9A-Fa-f]{16})(?:-([01d])(?:-[0-9A-Fa-f]{16})?)?", re.DOTALL
)
_HEX = re.compile(rb"[0-9A-Fa-f]+")
_W3C_BYTES = 55
_NAMES = {
    "w3c": (b"traceparent",),
    "b3-single": (b"b3",),
    "b3-multi": (b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled", b"x-b3-flags"),
}
_IDENTIFYING = (b"traceparent", b"b3", b"x-b3-traceid", b"x-b3-spanid")
_DECISIONS = (b"0", b"1", b"d")


class Context(NamedTuple):
    """Outcome of the search; `quality` holds WINDOW_EXCEEDED and BAD_CONTEXT only."""

    kind: int
    trace_id: bytes
    span_id: bytes
    trace_flags: int
    offset: int
    quality: int


class Field(NamedTuple):
    """The first complete field of a name."""

    offset: int
    """Of the first byte of the name, from the start of the payload."""
    value: bytes
    """Without leading and trailing white space."""


def names_of(spec: ProgramSpec) -> frozenset[bytes]:
    """The field names that exist for a program compiled from `spec`, in lower case."""
    return frozenset(name for kind in spec.contexts for name in _NAMES[kind])


def search(payload: bytes, window: int, names: frozenset[bytes]) -> Context:
    """What is found within the first `window` bytes of `payload`."""
    fields, has_empty_line = _fields(payload[:window], names)
    found = _w3c(fields) or _b3_single(fields) or _b3_multi(fields)
    if found:
        return found
    quality = 0 if has_empty_line else Quality.WINDOW_EXCEEDED
    if any(_is_bad(name, fields) for name in _IDENTIFYING):
        quality |= Quality.BAD_CONTEXT
    return Context(ContextKind.NONE, bytes(16), bytes(8), 0, 0, int(quality))


def _fields(searched: bytes, names: frozenset[bytes]) -> tuple[dict[bytes, Field], bool]:
    """First occurrence of each complete field up to the empty line, and whether that is there."""
    fields: dict[bytes, Field] = {}
    for offset, line in _lines(searched):
        if not line:
            return fields, True
        name, colon, value = line.partition(b":")
        name = name.lower()
        if colon and name in names and name not in fields:
            fields[name] = Field(offset, value.strip(b" \t"))
    return fields, False


def _lines(searched: bytes) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each complete line behind the request line."""
    if searched.endswith(b"\r"):
        searched += b"\n"  # a CR in the last byte ends a line: the window may cut between CR and LF
    lines = searched.split(b"\r\n")
    offset = len(lines[0]) + 2
    for line in lines[1:-1]:
        yield offset, line
        offset += len(line) + 2


def _w3c(fields: dict[bytes, Field]) -> Context | None:
    field = fields.get(b"traceparent")
    match = field and _W3C.match(field.value)
    if not field or not match:
        return None
    version, trace_id, span_id, flags = match.groups()
    extra = field.value[_W3C_BYTES:]
    if version == b"ff" or (version == b"00" and extra) or (extra and extra[:1] != b"-"):
        return None
    return _context(ContextKind.W3C, trace_id, span_id, int(flags, 16), field.offset)


def _b3_single(fields: dict[bytes, Field]) -> Context | None:
    field = fields.get(b"b3")
    match = field and _B3.fullmatch(field.value)
    if not field or not match:
        return None
    trace_id, span_id, state = match.groups()
    return _context(ContextKind.B3_SINGLE, trace_id, span_id, int(state in (b"1", b"d")), field.offset)


def _b3_multi(fields: dict[bytes, Field]) -> Context | None:
    trace, span = fields.get(b"x-b3-traceid"), fields.get(b"x-b3-spanid")
    if not trace or not span or len(trace.value) not in (16, 32) or len(span.value) != 16:
        return None
    if not _HEX.fullmatch(trace.value) or not _HEX.fullmatch(span.value):
        return None
    deciding = (fields.get(b"x-b3-sampled"), fields.get(b"x-b3-flags"))
    flags = int(any(field and field.value == b"1" for field in deciding))
    return _context(ContextKind.B3_MULTI, trace.value, span.value, flags, min(trace.offset, span.offset))


def _context(kind: int, trace_hex: bytes, span_hex: bytes, flags: int, offset: int) -> Context | None:
    trace_id = bytes.fromhex(trace_hex.decode()).rjust(16, b"\0")
    span_id = bytes.fromhex(span_hex.decode())
    if not any(trace_id) or not any(span_id):
        return None
    return Context(kind, trace_id, span_id, flags, offset, 0)


def _is_bad(name: bytes, fields: dict[bytes, Field]) -> bool:
    field = fields.get(name)
    return bool(field) and not (name == b"b3" and field is not None and field.value in _DECISIONS)
