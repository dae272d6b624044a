# SPDX-License-Identifier: Apache-2.0
"""How many requests went through each vport, counted from its hops."""

from collections import Counter
from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from agent.reading.ring import Records
from bpf.record import RECORD, RECORD_BYTES, Kind

COUNT_RECORDS = 8192
"""How many records wait (1 MB) until they are counted: a call of numpy costs 10 us with cold caches, a record
next to nothing."""
_SMALL_IFINDEX = 1 << 16
_OPAQUE = np.dtype((np.void, RECORD_BYTES))
"""Copied as one piece, not field by field."""
_COLUMNS = (("first_ifindex", (Kind.TX, Kind.LOCAL)), ("second_ifindex", (Kind.RX, Kind.LOCAL)))
"""Where a hop's vports stand, by its kind."""


class RequestCounts:
    """Requests by ifindex of the vport; a local hop counts at both of its vports."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._waiting: list[Records] = []
        self._waiting_records = 0

    def add(self, records: Records) -> None:
        """Take the records of one read; the array must not be changed afterwards."""
        self._waiting.append(records)
        self._waiting_records += len(records)
        if self._waiting_records >= COUNT_RECORDS:
            self._count()

    def of(self, ifindex: int) -> int:
        """So far."""
        self._count()
        return self._counts[ifindex]

    def keep(self, vports: Container[int]) -> None:
        """Forget every interface that is none of `vports`."""
        self._count()
        for gone in [ifindex for ifindex in self._counts if ifindex not in vports]:
            del self._counts[gone]

    def _count(self) -> None:
        if not self._waiting:
            return
        records = np.concatenate([batch.view(_OPAQUE) for batch in self._waiting]).view(RECORD)
        self._waiting, self._waiting_records = [], 0
        kinds = records["kind_message"] & 0x0F
        for column, (one, other) in _COLUMNS:
            self._add(records[column][(kinds == one) | (kinds == other)])

    def _add(self, indices: NDArray[np.uint32]) -> None:
        """Sorting is 50 times slower than counting in an array, which wants small numbers."""
        if not len(indices):
            return
        if int(indices.max()) < _SMALL_IFINDEX:
            counts = np.bincount(indices)
            found = np.flatnonzero(counts)
            counts = counts[found]
        else:
            found, counts = np.unique(indices, return_counts=True)
        self._counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
