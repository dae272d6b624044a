# SPDX-License-Identifier: Apache-2.0
import pytest

from insight.series import Found, Series, slow_series, stored_series
from insight.trace import End
from store.query import Span, Where
from store.schema import HOP_1M, HOP_10M, HOP_10S
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


def test_stored_series_fills_in_what_the_coarse_table_does_not_have_yet() -> None:
    def row(ago_s: int, count: int) -> dict[str, int | str]:
        return {"time": AT_NS - ago_s * S, "count": count, "hist": ONE_OF_10_US}

    store = MemoryStore(
        {
            "hop_1m": [summary(HOP_1M, **row(90, 100)), summary(HOP_1M, **row(30, 200))],
            "hop_10s": [
                summary(HOP_10S, **row(90, 40)),  # in the row of a minute, written with it
                summary(HOP_10S, **row(30, 50)),
                summary(HOP_10S, **row(20, 3)),
                summary(HOP_10S, **row(10, 4)),
                summary(HOP_10S, **row(10, 5), node="n2"),  # a node that has no minute yet
            ],
        }
    )
    found = stored_series(store, HOUR, ANY)
    assert [(one.node, one.count) for one in found.series] == [("n1", 307), ("n2", 5)]
    assert found.tables == ("hop_1m", "hop_10s")
    assert found.first_ns == AT_NS - 90 * S


@pytest.mark.parametrize(
    ("hours", "expected"),
    [(0.1, ["hop_10s"]), (1, ["hop_1m", "hop_10s"]), (48, ["hop_10m", "hop_1m", "hop_10s"])],
)
def test_stored_series_reads_the_coarsest_table_with_sixty_points(hours: float, expected: list[str]) -> None:
    store = MemoryStore()
    stored_series(store, Span(AT_NS - int(hours * 3600) * S, AT_NS), ANY)
    assert store.asked == expected


def test_stored_series_of_days_counts_no_hop_twice() -> None:
    def row(ago_s: int, count: int) -> dict[str, int | str]:
        return {"time": AT_NS - ago_s * S, "count": count, "hist": ONE_OF_10_US}

    store = MemoryStore(
        {
            "hop_10m": [summary(HOP_10M, **row(900, 1000))],
            "hop_1m": [summary(HOP_1M, **row(ago, 1)) for ago in (960, 900, 840, 60)],
            "hop_10s": [summary(HOP_10S, **row(ago, 10)) for ago in (70, 60, 50)],
        }
    )
    (one,) = stored_series(store, Span(AT_NS - 48 * 3600 * S, AT_NS), ANY).series
    assert one.count == 1000 + 2 + 10


def test_stored_series_of_an_empty_store_is_empty() -> None:
    assert stored_series(MemoryStore(), HOUR, ANY) == Found((), (), None)


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
    assert (found.tables, found.is_cut) == (("hop_sample",), False)


def test_slow_series_beyond_the_limit_are_cut() -> None:
    store = MemoryStore.of(*(sample(latency_ns=latency) for latency in (5_000, 7_000, 6_000)))
    found = slow_series(store, HOUR, ANY, 1, 2)
    assert (found.is_cut, found.series[0].count, found.series[0].p50_ns) == (True, 2, 6_000)
