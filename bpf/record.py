# SPDX-License-Identifier: Apache-2.0
"""Layout of the record, the slots and the map keys, as numpy structured types (docs/datapath.md §3, §5).

The C side is bpf/hop.bpf.c; tests/kernel/test_layout.py compares both through the compiler.
"""

from enum import IntEnum, IntFlag
from ipaddress import IPv6Address

import numpy as np

from bpf.point import Point as Point  # noqa: PLC0414  re-exported: a number of records and slots

RECORD = np.dtype(
    [
        ("second_ns", "<u8"),
        ("trace_id", "V16"),
        ("span_id", "V8"),
        ("src", "V16"),
        ("dst", "V16"),
        ("dst_before_nat", "V16"),
        ("latency_ns", "<u4"),
        ("seq", "<u4"),
        ("ack", "<u4"),
        ("vni", "<u4"),
        ("first_ifindex", "<u4"),
        ("second_ifindex", "<u4"),
        ("payload_len", "<u4"),
        ("first_wait_ns", "<u4"),
        ("sport", "<u2"),
        ("dport", "<u2"),
        ("sport_before_nat", "<u2"),
        ("dport_before_nat", "<u2"),
        ("context_offset", "<u2"),
        ("segments", "<u2"),
        ("kind_message", "u1"),
        ("encap_context", "u1"),
        ("trace_flags", "u1"),
        ("quality", "u1"),
    ]
)
RECORD_BYTES = 128
RING_STRIDE = 136
"""A ring record: 8 bytes of header (length, busy, discard) and the record."""

WAY = np.dtype(
    [
        ("key", "<u8"),
        ("time_vni", "<u8"),
        ("dst", "V4"),
        ("ifindex", "<u4"),
        ("sport", "<u2"),
        ("dport", "<u2"),
        ("src_hash", "<u2"),
        ("meta", "<u2"),
    ]
)
WAYS = 2
WAY_EMPTY = 0
WAY_LOCKED = 1
WAY_TAKEN = 1 << 63
EXPIRY_NS = 2_000_000_000


class Kind(IntEnum):
    """Hop kinds: low nibble of kind_message."""

    RX = 1
    TX = 2
    LOCAL = 3
    FORWARD = 4

    @property
    def label(self) -> str:
        """As people and docs write it."""
        return self.name.lower()


class Encap(IntEnum):
    """Encapsulation at the NIC point: low nibble of encap_context."""

    NONE = 0
    VXLAN = 1
    IPIP = 2
    GENEVE = 3
    GRE = 4

    @property
    def label(self) -> str:
        """As people and docs write it."""
        return self.name.lower()


class ContextKind(IntEnum):
    """Kind of trace context found: high nibble of encap_context."""

    NONE = 0
    W3C = 1
    B3_SINGLE = 2
    B3_MULTI = 3

    @property
    def label(self) -> str:
        """As people and docs write it."""
        return self.name.lower().replace("_", "-")


class Quality(IntFlag):
    """Quality bits of one hop."""

    RETRANSMIT = 1
    WINDOW_EXCEEDED = 2
    BAD_CONTEXT = 4
    DNAT = 8
    SNAT = 16


def address_text(packed: bytes) -> str:
    """16 bytes of a record as text; IPv4 without its mapping."""
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)
