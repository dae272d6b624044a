# SPDX-License-Identifier: Apache-2.0
"""How many requests went through each vport, counted from its hops."""

from collections import Counter
from collections.abc import Container

import numpy as np
import numpy.typing as npt

from bpf.record import Kind

_FROM_VPORT, _TO_VPORT = (Kind.TX, Kind.LOCAL), (Kind.RX, Kind.LOCAL)


class RequestCounts:
    """Requests by ifindex of the vport; a local hop counts at both of its vports."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(
        self,
        kinds: npt.NDArray[np.uint64],
        first: npt.NDArray[np.uint64],
        second: npt.NDArray[np.uint64],
        hops: npt.NDArray[np.uint64],
    ) -> None:
        """So many hops of each kind between these interfaces."""
        for ifindexes, ours in ((first, _FROM_VPORT), (second, _TO_VPORT)):
            is_vport = (kinds == ours[0]) | (kinds == ours[1])
            found, groups = np.unique(ifindexes[is_vport], return_inverse=True)
            sums = np.zeros(len(found), np.uint64)
            np.add.at(sums, groups, hops[is_vport])
            self._counts.update(dict(zip(found.tolist(), sums.tolist(), strict=True)))

    def of(self, ifindex: int) -> int:
        """So far."""
        return self._counts[ifindex]

    def keep(self, vports: Container[int]) -> None:
        """Forget every interface that is none of `vports`."""
        for gone in [ifindex for ifindex in self._counts if ifindex not in vports]:
            del self._counts[gone]
