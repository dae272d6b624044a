# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.histogram import (
    BORDERS_NS,
    BUCKETS,
    bucket_of,
    quantiles,
    quarter_octaves,
    quarter_quantiles,
)

SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)
RAW: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "lognormal": lambda rng: rng.lognormal(9.2, 0.8, 20_000),
    "wide": lambda rng: rng.lognormal(12.0, 2.0, 20_000),
    "two humps": lambda rng: np.where(rng.random(20_000) < 0.93, rng.normal(8e3, 900, 20_000), 2.5e6),
    "exponential": lambda rng: rng.exponential(40_000, 20_000) + 1_200,
    "uniform": lambda rng: rng.uniform(2_000, 900_000, 20_000),
    "few": lambda rng: rng.lognormal(9.2, 0.8, 7),
    "one": lambda _: np.array([31_415.0]),
    "all alike": lambda _: np.full(5_000, 12_345.0),
    "long tail": lambda rng: (rng.pareto(1.3, 20_000) + 1) * 3_000,
}


def drawn(name: str) -> np.ndarray:
    raw = RAW[name](np.random.default_rng(20)).clip(1_200, 880e6)
    return raw.astype(np.uint32)


def histogram(latencies: np.ndarray) -> np.ndarray:
    return np.bincount(bucket_of(latencies), minlength=BUCKETS).astype(np.uint32)[None]


def exact(latencies: np.ndarray) -> list[float]:
    ordered = np.sort(latencies)
    return [float(ordered[max(-(-len(ordered) * round(share * 1000) // 1000), 1) - 1]) for share in SHARES]


def test_borders_are_the_documented_powers_rounded_up() -> None:
    assert [int(BORDERS_NS[at]) for at in (0, 1, 36, 72, 144, 153, 900)] == [
        63, 64, 125, 250, 1000, 1190, 2_097_152_000,
    ]  # fmt: skip
    # The least whole n with (n / 62.5)^36 >= 2^i, without rounding.
    for i, border in enumerate(BORDERS_NS.tolist()):
        power = 125**36 << i
        assert (2 * border) ** 36 >= power > (2 * border - 2) ** 36


def test_bucket_of_each_side_of_each_border_is_exact() -> None:
    borders = BORDERS_NS.astype(np.int64)
    assert bucket_of(BORDERS_NS).tolist() == list(range(1, BUCKETS))
    assert bucket_of((borders - 1).astype(np.uint32)).tolist() == list(range(BUCKETS - 1))


@pytest.mark.parametrize(
    ("latency_ns", "bucket"),
    [(0, 0), (62, 0), (63, 1), (64, 2), (1000, 145), (1189, 153), (2_097_151_999, 900),
     (2_097_152_000, 901), (4_294_967_295, 901)],
)  # fmt: skip
def test_bucket_of_known_latencies(latency_ns: int, bucket: int) -> None:
    assert bucket_of(np.array([latency_ns], np.uint32)).tolist() == [bucket]


@given(st.integers(0, 2**32 - 1))
def test_bucket_of_any_latency_holds_it(latency_ns: int) -> None:
    bucket = int(bucket_of(np.array([latency_ns], np.uint32))[0])
    assert bucket == 0 or BORDERS_NS[bucket - 1] <= latency_ns
    assert bucket == BUCKETS - 1 or latency_ns < BORDERS_NS[bucket]


def test_quarter_octaves_sum_nine_buckets_each() -> None:
    counts = np.ones((2, BUCKETS), np.uint32)
    quarters = quarter_octaves(counts)
    assert quarters[0].tolist() == [154] + [9] * 78 + [46]
    assert quarters.dtype == np.uint32


@pytest.mark.parametrize(
    ("latency_ns", "quarter"),
    [(62, 0), (1189, 0), (1190, 1), (1414, 1), (1415, 2), (2000, 4), (881_743_799, 78),
     (881_743_800, 79), (2**32 - 1, 79)],
)  # fmt: skip
def test_quarter_octaves_begin_at_powers_of_two_of_a_microsecond(latency_ns: int, quarter: int) -> None:
    counts = histogram(np.array([latency_ns], np.uint32))
    assert np.flatnonzero(quarter_octaves(counts)[0]).tolist() == [quarter]


@pytest.mark.parametrize("name", RAW)
def test_quantiles_are_within_two_percent_of_the_raw_ones(name: str) -> None:
    raw = drawn(name)
    found = quantiles(histogram(raw), SHARES, raw[None].min(axis=1), raw[None].max(axis=1))
    assert found[0] == pytest.approx(exact(raw), rel=0.02)


@pytest.mark.parametrize("name", RAW)
def test_quarter_quantiles_are_within_nine_percent_of_the_raw_ones(name: str) -> None:
    raw = drawn(name)
    quarters = quarter_octaves(histogram(raw))
    found = quarter_quantiles(quarters, SHARES, raw[None].min(axis=1), raw[None].max(axis=1))
    assert found[0] == pytest.approx(exact(raw), rel=0.09)


def test_quantiles_of_merged_histograms_are_those_of_all_values() -> None:
    parts = [drawn(name) for name in RAW]
    counts = np.stack([histogram(part) for part in parts]).sum(axis=0, dtype=np.uint64)
    raw = np.concatenate(parts)
    found = quantiles(counts, SHARES, raw[None].min(axis=1), raw[None].max(axis=1))
    assert found[0] == pytest.approx(exact(raw), rel=0.02)


def test_quantiles_of_one_value_are_that_value() -> None:
    raw = np.array([777], np.uint32)
    assert quantiles(histogram(raw), SHARES, raw, raw).tolist() == [[777.0] * 5]


def test_quantiles_of_nothing_are_not_a_number() -> None:
    zero = np.zeros(1, np.uint32)
    assert np.isnan(quantiles(np.zeros((1, BUCKETS), np.uint32), SHARES, zero, zero)).all()


def test_quantiles_beyond_the_last_border_stay_below_the_maximum() -> None:
    raw = np.array([3_000_000_000] * 3 + [4_000_000_000], np.uint32)
    found = quantiles(histogram(raw), (0.5, 1.0), raw[None].min(axis=1), raw[None].max(axis=1))
    assert 3e9 <= found[0, 0] <= 4e9
    assert found[0, 1] == 4e9


def test_quantiles_of_many_rows_are_those_of_each() -> None:
    rows = [drawn(name) for name in RAW] * 20
    counts = np.concatenate([histogram(raw) for raw in rows])
    low, high = (np.array([pick(raw) for raw in rows], np.uint32) for pick in (np.min, np.max))
    found = quantiles(counts, (0.5, 0.99), low, high)
    assert found.shape == (180, 2)
    assert np.array_equal(found[:9], found[-9:])
