# SPDX-License-Identifier: Apache-2.0
import pytest

from insight.series import Found, Series, slow_series, stored_series
from insight.trace import End
from store.query import Span, Where
from store.schema import HOP_1M
from tests.unit.memory_store import AT_NS, MemoryStore, S, sample, summary

FRONT, CART = End("shop", "", "front"), End("shop", "", "cart")
HOUR = Span(AT_NS - 3600 * S, AT_NS + S)
ANY = Where()
ONE_OF_1_US, ONE_OF_10_US, THREE_OF_10_US = "kQEB", "iAIB", "iAID"
"""Histograms: bucket 145 and 264 (docs/store.md)."""


def minutes(*rows: dict[str, int | str]) -> MemoryStore:
    return MemoryStore({"hop_1m": [summary(HOP_1M, **row) for row in rows]})


def test_stored_series_merges_rows_by_histogram() -> None:
    store = minutes(
        {"count": 3, "min_ns": 9_950, "max_ns": 10_000, "hist": THREE_OF_10_US, "retransmitted": 2},
        {"count": 1, "min_ns": 1_000, "max_ns": 1_000, "hist": ONE_OF_1_US, "context": "none"},
    )
    (one,) = stored_series(store, HOUR, ANY).series
    assert (one.node, one.kind, one.source, one.destination) == ("n1", "rx", FRONT, CART)
    assert (one.count, one.retransmitted, one.without_context) == (4, 2, 1)
    assert one.p50_ns == pytest.approx(10_000, rel=0.01)
    assert (one.p99_ns, one.max_ns) == (10_000, 10_000)


def test_stored_series_apart_by_ends_service_node_and_kind_most_hops_first() -> None:
    base: dict[str, int | str] = {"hist": ONE_OF_10_US}
    store = minutes(
        base,
        base | {"node": "n2"},
        base | {"kind": "tx"},
        base | {"service": "shop/cart"},
        base | {"dst_ns": "", "dst_workload": "external", "count": 3, "hist": THREE_OF_10_US},
        base | {"encap": "vxlan", "message": "response"},
    )
    found = stored_series(store, HOUR, ANY).series
    assert [(one.node, one.kind, one.destination.workload, one.service, one.count) for one in found] == [
        ("n1", "rx", "external", "", 3),
        ("n1", "rx", "cart", "", 2),
        ("n1", "rx", "cart", "shop/cart", 1),
        ("n1", "tx", "cart", "", 1),
        ("n2", "rx", "cart", "", 1),
    ]


def test_stored_series_of_retransmissions_only_has_no_latency() -> None:
    store = minutes({"count": 0, "retransmitted": 5, "min_ns": 0, "max_ns": 0, "hist": ""})
    (one,) = stored_series(store, HOUR, ANY).series
    assert (one.count, one.retransmitted, one.p50_ns, one.p99_ns, one.max_ns) == (0, 5, None, None, None)


def test_stored_series_rate_is_of_the_rows_after_the_first_of_the_node() -> None:
    early: dict[str, int | str] = {"time": HOUR.until_ns - 40 * S, "hist": ONE_OF_10_US, "count": 900}
    late: dict[str, int | str] = {"time": HOUR.until_ns - 10 * S, "hist": ONE_OF_10_US, "count": 80}
    other: dict[str, int | str] = {
        "time": HOUR.until_ns - 40 * S,
        "hist": ONE_OF_10_US,
        "dst_workload": "once",
    }
    lone: dict[str, int | str] = {"time": HOUR.until_ns - 20 * S, "hist": ONE_OF_10_US, "node": "n2"}
    found = stored_series(minutes(early, late, other, lone), HOUR, ANY).series
    assert {(one.node, one.destination.workload): one.per_s for one in found} == {
        ("n1", "cart"): 2.0,
        ("n1", "once"): 0.0,
        ("n2", "cart"): None,
    }


def test_stored_series_asks_for_the_span_and_what_is_wanted() -> None:
    store = minutes(
        {"hist": ONE_OF_10_US, "src_workload": "back", "count": 1},
        {"hist": ONE_OF_10_US, "time": AT_NS - 3601 * S},
        {"hist": ONE_OF_10_US, "node": "n2", "count": 1},
    )
    found = stored_series(store, HOUR, Where(namespace="shop", workload="front"))
    assert [(one.node, one.source, one.count) for one in found.series] == [("n2", FRONT, 1)]


def test_stored_series_of_an_empty_store_is_empty() -> None:
    assert stored_series(MemoryStore(), HOUR, ANY) == Found(())


def test_slow_series_are_of_samples_and_say_which_share_was_kept() -> None:
    ends: dict[str, int | str] = {
        "src_ns": "shop",
        "src_workload": "front",
        "dst_ns": "shop",
        "dst_workload": "cart",
    }
    store = MemoryStore.of(
        sample(**ends, latency_ns=100_000, kept_shift=3),
        sample(**ends, latency_ns=300_000, kept_shift=2, tail=1),
        sample(**ends, latency_ns=200_000, context="none"),
        sample(**ends, latency_ns=900_000, quality=1),
        sample(**ends, latency_ns=99_999),
    )
    found = slow_series(store, HOUR, ANY, 100_000, 100)
    assert found.series == (
        Series("n1", "rx", FRONT, CART, "", 3, 1, 1, 200_000.0, 300_000.0, 300_000, kept_shift=3, tail=1),
    )
    assert not found.is_cut


def test_slow_series_beyond_the_limit_are_cut() -> None:
    store = MemoryStore.of(*(sample(latency_ns=latency) for latency in (5_000, 7_000, 6_000)))
    found = slow_series(store, HOUR, ANY, 1, 2)
    assert (found.is_cut, found.series[0].count, found.series[0].p50_ns) == (True, 2, 6_000)
