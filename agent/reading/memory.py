# SPDX-License-Identifier: Apache-2.0
"""Memory for what is read from the ring: the same again and again, one read behind the other.

Memory that was just used is in the caches, and no page of it must be made. Reads that lie side by side are
joined without a copy (agent/hops/records.py).
"""

import sys
from typing import Final

import numpy as np
import numpy.typing as npt

ROWS: Final = 16_384
"""Records that fit, 2 MB; only what is used becomes resident."""
_OWN_REFERENCES: Final = 2
"""Ours, and that of the question."""


class RecordMemory:
    """Gives out rows of `dtype` to be filled. Who holds an array over them keeps them."""

    def __init__(self, dtype: npt.DTypeLike, rows: int = ROWS) -> None:
        self._rows: npt.NDArray[np.void] = np.empty(rows, dtype)
        self._used = 0

    def rows(self, count: int) -> npt.NDArray[np.void]:
        """So many rows side by side, behind the last ones if there is room, else from the beginning."""
        if count > len(self._rows):
            return np.empty(count, self._rows.dtype)
        if sys.getrefcount(self._rows) == _OWN_REFERENCES:
            self._used = 0
        elif self._used + count > len(self._rows):
            self._rows, self._used = np.empty(len(self._rows), self._rows.dtype), 0
        found = self._rows[self._used : self._used + count]
        self._used += count
        return found
