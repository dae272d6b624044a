# SPDX-License-Identifier: Apache-2.0
"""Requests by vport, and counters, whatever becomes of the flows that were remembered."""

import numpy as np
import pytest

from agent.hops.records import joined
from agent.naming import namer as namer_module
from agent.naming.flows import MAX_FLOWS
from agent.naming.namer import Namer
from agent.network.links import Link
from agent.plan.model import parse_plan
from bpf.record import Kind
from tests.unit.agent.made_records import SECOND_NS, made, traced

PLAN = parse_plan("nic: eth0\nvports: [{match: veth-a, pod: a}, {match: veth-b, pod: b}]")
LINKS = [Link(2, "eth0"), Link(11, "veth-a"), Link(12, "veth-b")]


def namer() -> Namer:
    found = Namer()
    found.update(PLAN, LINKS, 0)
    return found


def hops(kind: Kind, first: int, second: int, count: int) -> np.ndarray:
    return made(kind, first_ifindex=first, second_ifindex=second, latencies_ns=(1000,) * count)


def some() -> np.ndarray:
    """3 from 11, 5 to 12, 7 from 11 to 12."""
    return joined([hops(Kind.TX, 11, 2, 3), hops(Kind.RX, 2, 12, 5), hops(Kind.LOCAL, 11, 12, 7)])


def test_requests_of_counts_new_and_known_flows() -> None:
    one = namer()
    for _ in range(3):
        one.codes(some())
    assert [one.requests_of(ifindex) for ifindex in (2, 11, 12)] == [0, 30, 36]
    one.codes(some())
    assert [one.requests_of(ifindex) for ifindex in (2, 11, 12)] == [0, 40, 48]


def test_requests_of_does_not_count_who_only_asks_for_names() -> None:
    one = namer()
    one.rows(some())
    one.codes(some())
    one.rows(some())
    assert (one.requests_of(11), one.requests_of(12)) == (10, 12)


def test_requests_of_counts_flows_whose_names_change_and_are_numbered_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(namer_module, "MAX_NAMES", 3)
    one = namer()
    for turn in range(6):
        one.update(PLAN, LINKS if turn % 2 else LINKS[:2], turn * SECOND_NS)
        one.codes(some())
        one.codes(some())
    assert (one.requests_of(11), one.requests_of(12)) == (120, 144)


def test_requests_of_counts_flows_that_fell_out_of_the_table() -> None:
    one = namer()
    flows = traced(MAX_FLOWS + 5_000, kind_message=Kind.TX, first_ifindex=11)
    flows["dst"] = np.frombuffer(
        b"".join(bytes(10) + b"\xff\xff" + number.to_bytes(4) for number in range(len(flows))), "V16"
    )
    one.codes(flows)
    one.codes(flows)
    assert one.requests_of(11) == 50_000
    assert one.counters()["flows_rebuilt"] == 2
    assert one.counters()["unknown_destination"] == 50_000


def test_keep_requests_forgets_the_others() -> None:
    one = namer()
    one.codes(some())
    one.keep_requests({12})
    assert (one.requests_of(11), one.requests_of(12)) == (0, 12)
