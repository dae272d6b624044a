# SPDX-License-Identifier: Apache-2.0
"""Trace ids as people have them at hand, and which of them a node keeps."""

import re

from store.query import TraceId

_MASK64 = 0xFFFF_FFFF_FFFF_FFFF
_PLAIN = r"(?P<plain>[0-9a-f]{32}|[0-9a-f]{16})"
_TRACEPARENT = r"[0-9a-f]{2}-(?P<w3c>[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
_B3 = r"(?P<b3>[0-9a-f]{32}|[0-9a-f]{16})-[0-9a-f]{16}(?:-[01d](?:-[0-9a-f]{16})?)?"
_FIELD = r"(?:(?:traceparent|b3|x-b3-traceid)\s*:\s*)?"
_FORMS = re.compile(f"{_FIELD}(?:{_PLAIN}|{_TRACEPARENT}|{_B3})", re.IGNORECASE)


def parse_trace_id(text: str) -> TraceId:
    """A trace id of 32 or 16 hex digits of either case, or a whole `traceparent` or `b3`.

    The name of the header field may stand before it. Ids of 16 digits are padded with zeros on the left, as
    the agent does. Raises ValueError.
    """
    found = _FORMS.fullmatch(text.strip())
    digits = "" if found is None else next(filter(None, found.groups()))
    if not digits:
        shown = text if len(text) <= 80 else f"{text[:80]}..."
        raise ValueError(f"{shown!r} is no trace id: give 32 hex digits or a traceparent (00-...)")
    number = int(digits, 16)
    if not number:
        raise ValueError("a trace id of zeros only means that there is none")
    return TraceId(number >> 64, number & _MASK64)


def trace_id_text(trace: TraceId) -> str:
    """32 hex digits."""
    return f"{trace.hi:016x}{trace.lo:016x}"


def is_kept(trace: TraceId, shift: int) -> bool:
    """Whether a node that keeps one in 2^shift traces keeps this one (docs/datapath.md §3, Filter)."""
    mixed = (trace.lo ^ trace.hi * 0x9E3779B97F4A7C15) * 0xC2B2AE3D27D4EB4F & _MASK64
    return mixed >> (64 - shift) == 0
