# SPDX-License-Identifier: Apache-2.0
import pytest

from bpf.record import ContextKind, Kind
from overhop.demo.found import Sent, find, shares, typical_trace
from overhop.trace import NodeRecords
from tests.unit.demo_records import CACHE, OTHER, TRACE, WEB, node, record

W3C = ContextKind.W3C


def found_of(sent: Sent, *nodes: NodeRecords) -> int:
    (one,) = find(nodes, [sent])
    return one.found


def test_find_trace_with_both_hops_is_found() -> None:
    n1, n2 = node("n1", record(Kind.TX, TRACE, context=W3C)), node("n2", record(Kind.RX, TRACE, context=W3C))
    (one,) = find([n1, n2], [Sent(WEB, W3C, 1, (TRACE,))])
    assert (one.found, one.trace_ids) == (1, (TRACE,))


def test_find_trace_without_its_second_hop_is_not_found() -> None:
    n1, n2 = node("n1", record(Kind.TX, TRACE, context=W3C)), node("n2", record(Kind.RX, OTHER, context=W3C))
    assert found_of(Sent(WEB, W3C, 2, (TRACE, OTHER)), n1, n2) == 0


def test_find_trace_on_the_wrong_node_is_not_found() -> None:
    n1 = node("n1", record(Kind.TX, TRACE, context=W3C), record(Kind.RX, TRACE, context=W3C))
    assert found_of(Sent(WEB, W3C, 1, (TRACE,)), n1, node("n2")) == 0


def test_find_trace_with_another_kind_of_context_is_not_found() -> None:
    n1 = node("n1", record(Kind.LOCAL, TRACE, context=ContextKind.B3_MULTI))
    assert found_of(Sent(CACHE, W3C, 1, (TRACE,)), n1, node("n2")) == 0
    assert found_of(Sent(CACHE, ContextKind.B3_MULTI, 1, (TRACE,)), n1, node("n2")) == 1


def test_find_retransmitted_trace_counts_once() -> None:
    n1 = node("n1", *[record(Kind.TX, TRACE, context=W3C)] * 2)
    n2 = node("n2", record(Kind.RX, TRACE, context=W3C))
    assert found_of(Sent(WEB, W3C, 1, (TRACE,)), n1, n2) == 1


def test_find_request_without_context_is_found_by_its_connection() -> None:
    n1 = node("n1", record(Kind.TX, seq=1), record(Kind.TX, seq=135), record(Kind.TX, sport=50000))
    n2 = node("n2", record(Kind.RX, seq=1), record(Kind.RX, seq=135), record(Kind.RX, sport=50000))
    assert found_of(Sent(WEB, ContextKind.NONE, 2, (), (40000,)), n1, n2) == 2


def test_find_request_without_context_needs_every_hop() -> None:
    n1 = node("n1", record(Kind.TX, seq=1), record(Kind.TX, seq=135))
    n2 = node("n2", record(Kind.RX, seq=135))
    assert found_of(Sent(WEB, ContextKind.NONE, 2, (), (40000,)), n1, n2) == 1


def test_find_request_without_context_that_called_another_address_is_not_found() -> None:
    n1 = node("n1", record(Kind.TX, called="10.96.0.11:80"), record(Kind.TX, seq=3, called="10.96.0.10:81"))
    n2 = node("n2", record(Kind.RX), record(Kind.RX, seq=3))
    assert found_of(Sent(WEB, ContextKind.NONE, 2, (), (40000,)), n1, n2) == 0


def test_find_masqueraded_connection_is_found_by_its_port_before_nat() -> None:
    n1 = node("n1", record(Kind.TX, sport=61000, sport_before_nat=40000))
    n2 = node("n2", record(Kind.RX, sport=61000))
    assert found_of(Sent(WEB, ContextKind.NONE, 1, (), (40000,)), n1, n2) == 1


def test_find_hops_with_a_context_are_no_requests_without_one() -> None:
    n1 = node("n1", record(Kind.LOCAL, TRACE, context=W3C, called="10.244.1.3:8080"))
    assert found_of(Sent(CACHE, ContextKind.NONE, 1, (), (40000,)), n1, node("n2")) == 0


@pytest.mark.parametrize(
    ("requests", "parts", "expected"),
    [(400, 4, [100, 100, 100, 100]), (10, 4, [3, 3, 2, 2]), (1, 3, [1, 0, 0])],
)
def test_shares_are_equal_and_complete(requests: int, parts: int, expected: list[int]) -> None:
    assert shares(requests, parts) == expected


def test_typical_trace_is_the_one_with_the_median_time_over_all_nodes() -> None:
    slow, quick, middle = "aa" * 16, "bb" * 16, "cc" * 16
    n1 = node(
        "n1",
        record(Kind.TX, slow, latency_ns=10),
        record(Kind.TX, quick, latency_ns=200),
        record(Kind.TX, middle, latency_ns=100),
    )
    n2 = node(
        "n2",
        record(Kind.RX, slow, latency_ns=900),
        record(Kind.RX, quick, latency_ns=10),
        record(Kind.RX, middle, latency_ns=400),
    )
    assert typical_trace([n1, n2], [slow, quick, middle]) == middle


def test_typical_trace_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no trace to choose from"):
        typical_trace([node("n1")], [])
