# SPDX-License-Identifier: Apache-2.0
"""Names of the kernel counters, in the order of `struct counters` in hop.bpf.c.

tests/kernel/test_layout.py compares the order with the C file through the compiler.
"""

from collections.abc import Mapping

NAMES: tuple[str, ...] = (
    "first",
    "taken",
    "refreshed",
    "slot_busy",
    "overwritten",
    "expired",
    "second",
    "not_for_this_vport",
    "unmatched_local",
    "unmatched_taken",
    "unmatched",
    "slot_busy_second",
    "records",
    "ring_full",
    "sampled_out",
    "filtered",
    "fragment",
    "ext_headers",
    "malformed",
    "looks_tls",
    "looks_h2",
    "scratch_busy",
)

IDENTITIES: Mapping[str, tuple[str, ...]] = {
    "first": ("taken", "refreshed", "slot_busy", "overwritten", "expired", "waiting"),
    "second": (
        "taken",
        "not_for_this_vport",
        "unmatched_local",
        "unmatched_taken",
        "unmatched",
        "slot_busy_second",
    ),
    "taken": ("records", "ring_full", "sampled_out", "filtered"),
}


def imbalances(counters: Mapping[str, int]) -> dict[str, int]:
    """Total minus parts for each identity of docs/datapath.md §6; all zero once traffic has stopped.

    `counters` holds every name of NAMES and `waiting` (slots scanned at the same moment).
    """
    return {
        total: counters[total] - sum(counters[part] for part in parts) for total, parts in IDENTITIES.items()
    }
