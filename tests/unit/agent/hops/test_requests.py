# SPDX-License-Identifier: Apache-2.0
"""Requests by vport."""

import numpy as np

from agent.hops.requests import RequestCounts
from bpf.record import Kind


def counted(counts: RequestCounts, *flows: tuple[Kind, int, int, int]) -> RequestCounts:
    """With flows of (kind, first ifindex, second ifindex, hops) added at once."""
    kinds, first, second, hops = np.array(flows, np.uint64).T
    counts.add(kinds, first, second, hops)
    return counts


def test_of_counts_a_hop_at_its_vport_and_a_local_hop_at_both() -> None:
    flows = ((Kind.TX, 7, 2, 1), (Kind.RX, 2, 7, 10), (Kind.LOCAL, 7, 9, 100), (Kind.FORWARD, 2, 2, 1000))
    counts = counted(RequestCounts(), *flows)
    counted(counts, (Kind.TX, 9, 2, 5))
    assert [counts.of(ifindex) for ifindex in (2, 7, 9, 11)] == [0, 111, 105, 0]


def test_of_counts_large_interface_numbers() -> None:
    flows = ((Kind.TX, 3_000_000_000, 2, 1), (Kind.RX, 2, 3_000_000_000, 1), (Kind.RX, 2, 5, 1))
    counts = counted(RequestCounts(), *flows)
    assert (counts.of(3_000_000_000), counts.of(5)) == (2, 1)


def test_keep_forgets_the_others() -> None:
    counts = counted(RequestCounts(), (Kind.TX, 7, 2, 1), (Kind.TX, 9, 2, 1))
    counts.keep({9})
    assert (counts.of(7), counts.of(9)) == (0, 1)
