# SPDX-License-Identifier: Apache-2.0
"""Where the trace context of a request is, and the smallest window in which the tracer finds it.

The rules are those of docs/datapath.md §4; the kernel program answers for one window, this for all of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

KINDS: Mapping[str, tuple[bytes, ...]] = {
    "w3c": (b"traceparent",),
    "b3-single": (b"b3",),
    "b3-multi": (b"x-b3-traceid", b"x-b3-spanid"),
}
"""The fields that make a context, by kind as the program spec calls it."""
ALL_KINDS = frozenset(KINDS)

_W3C = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?=-|\Z)")
_W3C_BYTES = 55
_B3_SPAN = rb"(?!0{16})[0-9A-Fa-f]{16}"
_B3_TRACE = rb"(?!0{32}(?:-|\Z)|0{16}(?:-|\Z))(?:[0-9A-Fa-f]{32}|[0-9A-Fa-f]{16})"
_B3 = re.compile(_B3_TRACE + rb"-" + _B3_SPAN + rb"(?:-[01d](?:-[0-9A-Fa-f]{16})?)?")
_TRACE_ID = re.compile(_B3_TRACE)
_SPAN_ID = re.compile(_B3_SPAN)
_DECISIONS = (b"0", b"1", b"d")
"""Values of `b3` that say whether a trace is sampled and name none: no context, and not a bad one."""
_INITIALS = frozenset(b"tTbBxX")


class Field(NamedTuple):
    """The first complete field of a name."""

    offset: int
    """Of the first byte of the name, from the start of the payload."""
    value: bytes
    """Without leading and trailing white space."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the first context is that becomes complete."""

    kind: str
    offset: int
    """Of the first byte of its (first) name: what the record of a hop calls context_offset."""
    window: int
    """The smallest window in which the tracer finds it, and in every larger one."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What the tracer finds in a payload."""

    place: Place | None = None
    lucky: tuple[int, ...] = ()
    """Smaller windows in which it finds one by chance: they end at a bare CR, which then ends a line."""
    is_bad: bool = False
    """There is no context, but a field of one with a value that is none."""

    def is_found(self, window: int) -> bool:
        """Whether the tracer finds a context within `window` bytes."""
        return window in self.lucky or (self.place is not None and self.place.window <= window)


def search(payload: bytes, kinds: frozenset[str] = ALL_KINDS) -> Searched:
    """All that windows of any size find in the payload of one packet, which begins with a request line."""
    names = {name for kind in kinds for name in KINDS[kind]}
    fields: dict[bytes, Field] = {}
    lucky: list[int] = []
    for offset, line, is_complete in _lines(payload):
        if not line:
            break
        if line[0] not in _INITIALS:
            continue
        if b"\r" in line:
            lucky += _lucky(offset, line, names, fields)
        if not is_complete or not _take(offset, line, names, fields):
            continue
        if kind := _kind(fields):
            offset_of_first = min(fields[name].offset for name in KINDS[kind])
            return Searched(Place(kind, offset_of_first, offset + len(line) + 1), tuple(lucky))
    return Searched(None, tuple(lucky), _is_bad(fields))


def _lines(payload: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Offset and content of each line behind the request line, and whether its end is there.

    A CR in the last byte ends a line.
    """
    start = payload.find(b"\r\n") + 2
    if start < 2:
        return
    while (end := payload.find(b"\r\n", start)) >= 0:
        yield start, payload[start:end], True
        start = end + 2
    if start < len(payload):
        is_complete = payload.endswith(b"\r")
        yield start, payload[start : len(payload) - is_complete], is_complete


def _take(offset: int, line: bytes, names: set[bytes], fields: dict[bytes, Field]) -> bool:
    """Whether the line is the first field of one of the names; then it is among the fields."""
    name, colon, value = line.partition(b":")
    name = name.lower()
    if not colon or name not in names or name in fields:
        return False
    fields[name] = Field(offset, value.strip(b" \t"))
    return True


def _lucky(offset: int, line: bytes, names: set[bytes], fields: Mapping[bytes, Field]) -> Iterator[int]:
    """The windows that end at a bare CR of the line and find a context for that reason."""
    at = line.find(b"\r")
    while at >= 0:
        tried = dict(fields)
        if _take(offset, line[:at], names, tried) and _kind(tried):
            yield offset + at + 1
        at = line.find(b"\r", at + 1)


def _kind(fields: Mapping[bytes, Field]) -> str:
    """The kind of the first valid context, in the tracer's order; empty: none is valid."""
    if (w3c := fields.get(b"traceparent")) and _is_w3c(w3c.value):
        return "w3c"
    if (b3 := fields.get(b"b3")) and _B3.fullmatch(b3.value):
        return "b3-single"
    trace, span = fields.get(b"x-b3-traceid"), fields.get(b"x-b3-spanid")
    if trace and span and _TRACE_ID.fullmatch(trace.value) and _SPAN_ID.fullmatch(span.value):
        return "b3-multi"
    return ""


def _is_w3c(value: bytes) -> bool:
    if not _W3C.match(value):
        return False
    return len(value) == _W3C_BYTES or value[:2] != b"00"


def _is_bad(fields: Mapping[bytes, Field]) -> bool:
    return any(name != b"b3" or field.value not in _DECISIONS for name, field in fields.items())
