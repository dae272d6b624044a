# SPDX-License-Identifier: Apache-2.0
"""The formula of docs/sizing.md, and what is projected from what is there."""

from pathlib import Path

import pytest

from agent.hops.aggregate import MAX_SERIES, OTHERS
from agent.hops.sampling import TAILS, TARGET_PER_S
from agent.storing.events import REPEAT_NS
from store.influxdb import sizing
from store.influxdb.sizing import (
    Cluster,
    Growth,
    Used,
    estimate,
    project,
    rows_per_interval,
    series_of,
    shard_s,
    summary_bytes,
    together,
)
from store.schema import EVENT, HOP_1M, HOP_10M, HOP_10S, HOP_SAMPLE, TABLES, Table

ROOT = Path(__file__).parents[4]
DAY_S = 86_400
EXAMPLES = {
    "small": Cluster(nodes=10, workloads=30, calls=3, spread=3, hops_per_s=50),
    "medium": Cluster(nodes=50, workloads=100, calls=3, spread=3, hops_per_s=200),
    "busy": Cluster(nodes=100, workloads=200, calls=3, spread=10, variants=2, hops_per_s=1000),
}


def test_constants_are_the_agents() -> None:
    assert (sizing.MAX_SERIES, sizing.OTHERS) == (MAX_SERIES, OTHERS)
    assert (sizing.KEPT_PER_S, sizing.TAILS) == (TARGET_PER_S, TAILS)
    assert sizing.REPEAT_S * 1_000_000_000 == REPEAT_NS


def test_events_are_as_many_as_the_docs_know() -> None:
    lines = (ROOT / "docs" / "events.md").read_text().splitlines()
    whats = {line.split("`")[1] for line in lines if line.startswith("| `")}
    assert len(whats - {"writer"}) == sizing.STATES + sizing.HAPPENINGS  # with a server it is a forwarder


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (Cluster(nodes=1, workloads=5, calls=2, spread=1), 10),
        (Cluster(nodes=3, workloads=12, calls=2, spread=3), 216),
        (Cluster(nodes=16, workloads=8, calls=2, spread=4), 144),
        (Cluster(nodes=2, workloads=8, calls=2, spread=2, variants=2), 192),
        (Cluster(nodes=100, workloads=0, calls=2, spread=1), 0),
    ],
)
def test_series_of_summaries_by_pairs_and_places(cluster: Cluster, expected: int) -> None:
    assert {series_of(table, cluster) for table in (HOP_10S, HOP_1M, HOP_10M)} == {expected}


def test_rows_per_interval_are_bounded() -> None:
    assert [rows_per_interval(series) for series in (0, 499, 500, 501, 100_000)] == [0, 499, 500, 508, 508]


def test_estimate_of_samples_follows_the_hops_up_to_what_is_kept() -> None:
    few = Cluster(nodes=2, workloads=2, calls=1, spread=2, hops_per_s=300)
    many = Cluster(nodes=2, workloads=2, calls=1, spread=2, hops_per_s=50_000)
    assert estimate(HOP_SAMPLE, few).rows_per_s == 600
    # 6 series on each node
    assert estimate(HOP_SAMPLE, many).rows_per_s == pytest.approx(2 * (1000 + 6 * 3 / 10))


@pytest.mark.parametrize(
    ("kept_s", "length_s"),
    [
        (3600, 3600),
        (3 * DAY_S, DAY_S),
        (30 * DAY_S, DAY_S),
        (180 * DAY_S, 7 * DAY_S),
        (400 * DAY_S, 7 * DAY_S),
    ],
)
def test_shard_is_as_long_as_influxdb_makes_it(kept_s: int, length_s: int) -> None:
    assert shard_s(kept_s) == length_s


@pytest.mark.parametrize(
    ("hops", "measured"), [(3, 34.3), (18, 60.5), (100, 109.4), (180, 143.3), (600, 189.3), (6000, 348.7)]
)
def test_summary_bytes_are_those_that_were_measured(hops: float, measured: float) -> None:
    assert summary_bytes(hops) == pytest.approx(measured, rel=0.12)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_the_docs_are_those_of_the_formula(name: str) -> None:
    text = (ROOT / "docs" / "sizing.md").read_text()
    for table in TABLES:
        found = estimate(table, EXAMPLES[name])
        size, days = found.size_bytes / 1e9, table.retention_s / DAY_S
        line = f"| {name} | `{table.name}` | {found.series:,} | {found.rows_per_s:,.1f} "
        line += f"| {size / days:,.2f} | {size:,.1f} |"
        assert line in text


def used(
    series: int | None = 10, hour: int = 100, day: int = 500, rows: int = 10_000, size: int = 500_000
) -> Used:
    return Used(series, 2, hour, day, rows, size)


def test_projection_is_the_last_hour_if_that_is_more_than_the_last_day() -> None:
    assert project(HOP_10S, used(hour=100, day=500), 7 * DAY_S).rows_per_day == 2400
    assert project(HOP_10S, used(hour=10, day=5000), 7 * DAY_S).rows_per_day == 5000


def test_projection_of_full_shards_is_at_what_a_row_takes() -> None:
    found = project(HOP_10S, used(), 7 * DAY_S)
    assert (found.rows, found.size_bytes) == (16_800, 16_800 * 50)
    assert found.node == Growth(5, 1200, 8_400 * 50)


def test_projection_while_the_first_shard_fills_takes_series_apart() -> None:
    """Six rows of a series: nearly all of it is index, which a full week has once."""
    young = used(series=1000, hour=6000, day=6000, rows=6000, size=7_432_908)
    found = project(HOP_10M, young, 400 * DAY_S)
    assert found.rows == 57_600_000
    assert found.size_bytes == pytest.approx(1000 * 7000 * 400 / 7 + 57_600_000 * 432_908 / 6000)


def test_projection_of_more_pairs_is_bounded_by_what_an_agent_writes() -> None:
    per_day = 2 * 400 * 8640
    found = project(HOP_10S, Used(800, 2, 0, per_day, per_day, 100 * per_day), 7 * DAY_S)
    assert found.pairs.series == 800
    assert found.pairs.rows_per_day == 2 * (508 - 400) * 8640
    assert found.pairs.size_bytes == 2 * (508 - 400) * 8640 * 7 * 100


@pytest.mark.parametrize("table", [HOP_SAMPLE, EVENT])
def test_projection_of_more_pairs_is_no_more_samples(table: Table) -> None:
    assert project(table, used(), 7 * DAY_S).pairs == Growth(0, 0.0, 0.0)


def test_projection_of_what_is_not_known_is_not_known() -> None:
    nothing = project(HOP_1M, Used(0, 0, 0, 0, 0, None), 7 * DAY_S)
    assert (nothing.rows, nothing.size_bytes, nothing.node.size_bytes) == (0, None, None)
    uncounted = project(HOP_1M, Used(10, 2, 100, 500, None, 5000), 7 * DAY_S)
    assert (uncounted.rows, uncounted.size_bytes) == (16_800, None)
    embedded = project(HOP_1M, used(series=None), 7 * DAY_S)
    assert (embedded.node.series, embedded.pairs.series, embedded.size_bytes) == (None, None, 840_000)


def test_together_is_known_if_all_of_it_is() -> None:
    assert together([Growth(1, 2.0, 3.0), Growth(10, 20.0, 30.0)]) == Growth(11, 22.0, 33.0)
    assert together([Growth(1, 2.0, 3.0), Growth(None, 20.0, None)]) == Growth(None, 22.0, None)
