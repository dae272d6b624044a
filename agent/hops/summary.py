# SPDX-License-Identifier: Apache-2.0
"""What a set of raw records says, exactly: counts, quantiles and quality, per kind or other group.

Pure, and without Python per record. Quantiles are nearest rank: the least measured latency that at least the
given share of hops does not exceed. Retransmitted hops are counted apart and are in no latency.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.hops.records import Records
from bpf.record import Kind, Quality


@dataclass(frozen=True, slots=True)
class Distribution:
    """Hops of one kind or series. Latencies in microseconds, None if `count` is 0."""

    count: int
    """Hops in the latency distribution."""
    retransmitted: int
    """Hops apart from them."""
    p50_us: float | None
    p99_us: float | None
    max_us: float | None
    quality: Mapping[str, int]
    """How many of all hops have each mark; marks that none has are left out."""


def by_kind(records: Records) -> dict[str, Distribution]:
    """One distribution per kind that occurs, in the order rx, tx, local, forward."""
    kinds = records["kind_message"] & 0x0F
    present, groups = np.unique(kinds, return_inverse=True)
    found = distributions(records, groups, len(present))
    return {Kind(int(kind)).label: hops for kind, hops in zip(present, found, strict=True)}


def marks(records: Records) -> dict[str, npt.NDArray[np.bool_]]:
    """For each mark of quality, which records have it; `merged` and `no_context` are derived."""
    bits = {
        flag.name.lower(): (records["quality"] & flag.value) != 0 for flag in Quality if flag.name is not None
    }
    return bits | {"merged": records["segments"] > 1, "no_context": (records["encap_context"] >> 4) == 0}


def distributions(records: Records, groups: npt.NDArray[np.intp], count: int) -> list[Distribution]:
    """One distribution for each of `count` groups; `groups` says of each record in which it is."""
    again = is_again(records)
    marked = {
        name: np.bincount(groups[which], minlength=count)
        for name, which in marks(records).items()
        if which.any()
    }
    keyed = keyed_latencies(records[~again], groups[~again])
    return of_keyed(keyed, np.bincount(groups[again], minlength=count), marked)


def is_again(records: Records) -> npt.NDArray[np.bool_]:
    """Which are of retransmitted packets."""
    again: npt.NDArray[np.bool_] = (records["quality"] & Quality.RETRANSMIT.value) != 0
    return again


def keyed_latencies(records: Records, groups: npt.NDArray[np.intp]) -> npt.NDArray[np.uint64]:
    """The group in the upper half, the latency in ns in the lower one."""
    keyed: npt.NDArray[np.uint64] = groups.astype(np.uint64) << np.uint64(32) | records["latency_ns"]
    return keyed


def of_keyed(
    keyed: npt.NDArray[np.uint64],
    retransmitted: npt.NDArray[np.intp],
    marked: Mapping[str, npt.NDArray[np.intp]],
) -> list[Distribution]:
    """One distribution per group. Sorts `keyed` in place; the other numbers are by group."""
    keyed.sort()
    groups = np.arange(len(retransmitted) + 1, dtype=np.uint64) << np.uint64(32)
    starts = np.searchsorted(keyed, groups)
    sizes = np.diff(starts)
    return [
        Distribution(
            count=int(sizes[group]),
            retransmitted=int(retransmitted[group]),
            p50_us=_quantile_us(keyed, starts[group], sizes[group], 50),
            p99_us=_quantile_us(keyed, starts[group], sizes[group], 99),
            max_us=_quantile_us(keyed, starts[group], sizes[group], 100),
            quality={name: int(counts[group]) for name, counts in marked.items() if counts[group]},
        )
        for group in range(len(retransmitted))
    ]


def _quantile_us(keyed: npt.NDArray[np.uint64], start: np.intp, size: np.intp, percent: int) -> float | None:
    if not size:
        return None
    rank = -(-int(size) * percent // 100)
    return (int(keyed[int(start) + rank - 1]) & 0xFFFFFFFF) / 1_000
