# SPDX-License-Identifier: Apache-2.0
"""Histograms of summary rows added, and quantiles of the sums: quantiles are never averaged."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from store.hist_text import merged
from store.histogram import quantiles

FINE_ERROR: Final = 0.01
"""Of quantiles from histograms, as a share of them (docs/store.md, "Histogram")."""
COARSE_ERROR: Final = 0.09
"""Of quantiles from quarter octaves."""
_GROUPS_AT_ONCE: Final = 2048
"""Bounds the memory of merged histograms to 15 MB."""


def group_quantiles(
    texts: npt.NDArray[np.generic],
    groups: npt.NDArray[np.intp],
    shares: Sequence[float],
    least_ns: npt.NDArray[np.uint32],
    greatest_ns: npt.NDArray[np.uint32],
) -> npt.NDArray[np.float64]:
    """One row per group and one column per share; NaN where no hop is.

    Text i is a histogram of group `groups[i]`; `least_ns` and `greatest_ns` are of groups.
    """
    found = np.empty((len(least_ns), len(shares)))
    for start in range(0, len(least_ns), _GROUPS_AT_ONCE):
        some = slice(start, start + _GROUPS_AT_ONCE)
        is_some = (groups >= start) & (groups < start + _GROUPS_AT_ONCE)
        counts = merged(texts[is_some].tolist(), groups[is_some] - start, len(least_ns[some]))
        found[some] = quantiles(counts, shares, least_ns[some], greatest_ns[some])
    return found
