# SPDX-License-Identifier: Apache-2.0
"""The head of a request, as it came out of packets."""

from enum import StrEnum
from typing import NamedTuple


class Whole(StrEnum):
    """How much there is of a head."""

    WHOLE = "whole"
    CUT = "cut"
    """The capture kept less of a packet than it had."""
    INCOMPLETE = "incomplete"
    """A packet is missing, the capture ends, or 64 KiB are no end."""


class Head(NamedTuple):
    """A request up to its empty line, or what there is of it."""

    src: bytes
    dst: bytes
    seq: int
    ack: int
    data: bytes
    whole: Whole
    first_bytes: int
    """Bytes from its beginning to the end of the packet where it begins: no window reaches farther."""
    is_seen: bool
    """It begins a packet, so that the tracer sees it."""
