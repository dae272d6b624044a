# SPDX-License-Identifier: Apache-2.0
"""Alternating rounds (design §14): the median of ratios, with a bootstrap interval. Pure."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 2000
SEED = 7


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median, and the interval in which 95 % of the medians of resampled rounds are."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.low:.4g} to {self.high:.4g})"


def estimate(values: Sequence[float], seed: int = SEED) -> Estimate:
    """Of one value for each round."""
    source = random.Random(seed)
    medians = sorted(statistics.median(source.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = medians[RESAMPLES * 25 // 1000], medians[RESAMPLES * 975 // 1000 - 1]
    return Estimate(statistics.median(values), low, high)


def ratios(values: Sequence[float], originals: Sequence[float]) -> list[float]:
    """Round by round."""
    return [value / original for value, original in zip(values, originals, strict=True)]
