# SPDX-License-Identifier: Apache-2.0
"""Requests by vport."""

import numpy as np

from agent.hops import requests
from agent.hops.requests import RequestCounts
from agent.reading.ring import Records
from bpf.record import RECORD, Kind


def hops(*rows: tuple[Kind, int, int]) -> Records:
    """Records of (kind, first ifindex, second ifindex)."""
    records = np.zeros(len(rows), RECORD)
    for record, (kind, first, second) in zip(records, rows, strict=True):
        record["kind_message"] = kind | 0x10
        record["first_ifindex"], record["second_ifindex"] = first, second
    return records


def test_of_counts_a_hop_at_its_vport_and_a_local_hop_at_both() -> None:
    counts = RequestCounts()
    counts.add(hops((Kind.TX, 7, 2), (Kind.RX, 2, 7), (Kind.LOCAL, 7, 9), (Kind.FORWARD, 2, 2)))
    counts.add(hops((Kind.TX, 9, 2)))
    assert [counts.of(ifindex) for ifindex in (2, 7, 9, 11)] == [0, 3, 2, 0]


def test_of_counts_large_interface_numbers() -> None:
    counts = RequestCounts()
    counts.add(hops((Kind.TX, 3_000_000_000, 2), (Kind.RX, 2, 3_000_000_000), (Kind.RX, 2, 5)))
    assert (counts.of(3_000_000_000), counts.of(5)) == (2, 1)


def test_add_of_many_records_counts_them_all() -> None:
    counts = RequestCounts()
    for _ in range(3):
        counts.add(hops(*[(Kind.TX, 7, 2)] * (requests.COUNT_RECORDS - 1)))
    assert counts.of(7) == 24_573


def test_keep_forgets_the_others_and_their_uncounted_records() -> None:
    counts = RequestCounts()
    counts.add(hops((Kind.TX, 7, 2), (Kind.TX, 9, 2)))
    counts.keep({9})
    assert (counts.of(7), counts.of(9)) == (0, 1)
