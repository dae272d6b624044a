# SPDX-License-Identifier: Apache-2.0
import math
from collections.abc import Sequence

import numpy as np
import pytest

from insight.distributions import FINE_ROWS, Order, Point, cdf, changed, heat_map, over_time, top
from store.hist_text import encode
from store.histogram import BUCKETS, bucket_of, quarter_octaves
from store.query import Span, Where
from store.schema import HOP_1M
from tests.unit.memory_store import AT_NS, MemoryStore, Row, S, summary

SPAN = Span(AT_NS, AT_NS + 3600 * S)
ANY = Where()
RANDOM = np.random.default_rng(20261126)


def row(latencies_ns: Sequence[int], **values: int | str) -> Row:
    """A summary of hops of these latencies."""
    array = np.array(latencies_ns, np.uint32)
    counts = np.zeros((1, BUCKETS), np.uint32)
    np.add.at(counts[0], bucket_of(array), 1)
    quarters = {f"q{at:02}": int(count) for at, count in enumerate(quarter_octaves(counts)[0])}
    edges = {"min_ns": int(array.min(initial=1 << 31)), "max_ns": int(array.max(initial=0))}
    given: dict[str, int | str] = {"count": len(array), "sum_ns": int(array.sum()), "hist": encode(counts)[0]}
    return summary(HOP_1M, **(given | quarters | edges | values))


def store(*rows: Row) -> MemoryStore:
    return MemoryStore({"hop_1m": list(rows)})


def large(*rows: Row) -> MemoryStore:
    """A store that says that it has more summaries than are read one by one."""
    return MemoryStore({"hop_1m": list(rows)}, rows_for_each=FINE_ROWS + 1)


def test_over_time_merges_series_and_nodes_and_never_averages() -> None:
    fast, slow = [10_000] * 99, [10_000_000] * 99
    found = over_time(store(row(fast), row(slow, node="n2"), row([500], time=AT_NS + 60 * S)), SPAN, ANY, 60)
    first, second = found.points
    assert (first.hops, second.hops) == (198, 1)
    assert first.quantiles_ns[0] == pytest.approx(10_000, rel=0.01)
    assert first.quantiles_ns[1] == pytest.approx(10_000_000, rel=0.01)
    assert second == Point((AT_NS + 60 * S) // (60 * S) * 60 * S, 1, 0, second.per_s, (500.0, 500.0, 500.0))
    assert (found.shares, found.error) == ((0.5, 0.9, 0.99), 0.01)


def test_over_time_of_retransmitted_hops_only_has_no_quantile() -> None:
    [point] = over_time(store(row([], retransmitted=7)), SPAN, ANY, 3600).points[:1]
    assert (point.hops, point.retransmitted, point.quantiles_ns) == (0, 7, (None, None, None))


def test_over_time_rate_is_of_the_part_of_the_step_in_the_span() -> None:
    begin_ns = AT_NS // (60 * S) * 60 * S
    span = Span(begin_ns + 30 * S, begin_ns + 600 * S)
    [point] = over_time(store(row([1000] * 60, time=begin_ns + 40 * S)), span, ANY, 60).points
    assert point.per_s == 2.0


def test_over_time_of_many_rows_is_from_quarter_octaves_and_says_so() -> None:
    latencies = RANDOM.lognormal(math.log(20_000), 0.8, 1000).astype(int).tolist()
    found = over_time(large(row(latencies[:300]), row(latencies[300:], node="n2")), SPAN, ANY, 3600)
    exact = np.quantile(np.array(latencies), (0.5, 0.9, 0.99), method="inverted_cdf")
    assert found.error == 0.09
    assert sum(point.hops for point in found.points) == 1000
    for value, right in zip(found.points[0].quantiles_ns, exact, strict=True):
        assert value == pytest.approx(right, rel=0.09)


def test_over_time_of_few_series_is_within_a_hundredth_of_the_raw_values() -> None:
    parts = [RANDOM.lognormal(math.log(9_000), 0.6, 3000).astype(int).tolist() for _ in range(20)]
    rows = [row(part, src_workload=f"w{at}", node=f"n{at % 3}") for at, part in enumerate(parts)]
    found = over_time(store(*rows), SPAN, ANY, 3600, (0.5, 0.9, 0.99, 0.999)).points[0]
    exact = np.quantile(np.concatenate(parts), (0.5, 0.9, 0.99, 0.999), method="inverted_cdf")
    for value, right in zip(found.quantiles_ns, exact, strict=True):
        assert value == pytest.approx(right, rel=0.01)


def test_heat_map_has_each_hop_in_its_cell() -> None:
    found = heat_map(store(row([500, 2_000, 2_050]), row([2_000], time=AT_NS + 3600 * S - 1)), SPAN, ANY, 600)
    assert found.borders_ns[:3] == (0, 1190, 1415)
    assert len(found.borders_ns) == 80
    assert [sum(step) for step in found.hops] == [3, 1]
    at = [index for index, count in enumerate(found.hops[0]) if count]
    assert at[0] == 0
    for index in at[1:]:
        assert found.borders_ns[index] <= 2_050
        assert found.borders_ns[index + 1] > 2_000
    assert found.times_ns[0] % (600 * S) == 0


def test_heat_map_of_many_rows_is_the_same() -> None:
    rows = [row([500, 2_000, 2_050]), row([2_000, 800_000], time=AT_NS + 3600 * S - 1, node="n2")]
    assert heat_map(large(*rows), SPAN, ANY, 600) == heat_map(store(*rows), SPAN, ANY, 600)


def test_cdf_is_exact_at_its_borders() -> None:
    latencies = sorted(RANDOM.lognormal(math.log(30_000), 1.0, 2000).astype(int).tolist())
    found = cdf(store(row(latencies[::2]), row(latencies[1::2], node="n2")), SPAN, ANY)
    assert (found.hops, found.min_ns, found.max_ns) == (2000, latencies[0], latencies[-1])
    assert found.shares[-1] == 1.0
    for below_ns, share in zip(found.below_ns, found.shares, strict=True):
        assert share == sum(1 for each in latencies if each < below_ns) / 2000


def test_cdf_of_many_rows_is_exact_at_quarter_octaves() -> None:
    found = cdf(large(row([100, 5_000, 6_000, 90_000]), row([100])), SPAN, ANY)
    assert (found.hops, found.min_ns, found.max_ns) == (5, 100, 90_000)
    assert (found.below_ns[0], found.below_ns[-1]) == (1190, 90_001)
    assert found.shares == (0.4, 0.6, 0.8, 1.0)


def test_cdf_of_nothing_is_empty() -> None:
    assert cdf(store(), SPAN, ANY).hops == 0
    assert cdf(store(row([], retransmitted=3)), SPAN, ANY).hops == 0


def test_top_is_by_quantile_among_those_with_enough_hops() -> None:
    rows = [
        row([10_000] * 300, dst_workload="fast"),
        row([20_000] * 290 + [900_000] * 10, dst_workload="slow"),
        row([1_000_000] * 10, dst_workload="few"),
        row([20_000] * 290 + [900_000] * 10, dst_workload="slow", node="n2"),
    ]
    found = top(store(*rows), SPAN, ANY, 5)
    assert [(each.labels[-1], each.hops) for each in found] == [("slow", 600), ("fast", 300)]
    assert found[0].quantile_ns == pytest.approx(900_000, rel=0.01)
    assert [each.labels for each in top(store(*rows), SPAN, ANY, 1, by=("node",))] == [("n1",)]
    assert top(store(*rows), SPAN, ANY, 5, least_hops=1)[0].labels[-1] == "few"


def test_top_by_hops_is_by_their_number() -> None:
    rows = [row([10_000] * count, dst_workload=f"w{count}") for count in (200, 400, 300)]
    found = top(store(*rows, row([], retransmitted=900, dst_workload="lost")), SPAN, ANY, 2, order=Order.HOPS)
    assert [(each.labels[-1], each.hops) for each in found] == [("w400", 400), ("w300", 300)]


def test_top_of_many_rows_is_within_its_error() -> None:
    rows = [row([9_000] * 99 + [40_000] * 201, node=f"n{at}", dst_workload="b") for at in range(3)]
    [found] = top(large(*rows), SPAN, ANY, 5)
    assert (found.labels, found.hops, found.error) == (("rx", "shop", "front", "shop", "b"), 900, 0.09)
    assert found.quantile_ns == pytest.approx(40_000, rel=0.09)


def test_changed_is_what_changed_most_either_way() -> None:
    before, after = Span(AT_NS, AT_NS + 600 * S), Span(AT_NS + 600 * S, AT_NS + 1200 * S)
    later = AT_NS + 700 * S
    rows = [
        row([10_000] * 300, dst_workload="same"),
        row([10_000] * 300, dst_workload="same", time=later),
        row([10_000] * 300, dst_workload="slower"),
        row([30_000] * 400, dst_workload="slower", time=later),
        row([90_000] * 300, dst_workload="faster"),
        row([10_000] * 300, dst_workload="faster", time=later),
        row([10_000] * 300, dst_workload="new", time=later),
        row([10_000] * 300, dst_workload="gone"),
    ]
    found = changed(store(*rows), before, after, ANY, 2)
    assert [each.labels[-1] for each in found] == ["faster", "slower"]
    assert found[0].ratio == pytest.approx(1 / 9, rel=0.02)
    assert (found[1].hops_before, found[1].hops_after) == (300, 400)
    assert found[1].ratio == pytest.approx(3, rel=found[1].error)
    assert found[1].error == pytest.approx(0.0201)
