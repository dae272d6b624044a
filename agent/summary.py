# SPDX-License-Identifier: Apache-2.0
"""What a set of raw records says, exactly: counts, quantiles and quality per kind and per series.

Pure, and without Python per record. Quantiles are nearest rank: the least measured latency that at least the
given share of hops does not exceed. Retransmitted hops are counted apart and are in no latency.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bpf.record import RECORD, Kind, Quality, address_text

Records = npt.NDArray[np.void]
"""An array of bpf.record.RECORD."""
_Words = npt.NDArray[np.uint64]
_WORDS = RECORD.itemsize // 8
_FIELDS: Mapping[str, tuple[Any, ...]] = RECORD.fields or {}  # Any: numpy types it so
_MIX = np.uint64(0x9E3779B97F4A7C15)


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


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One end of a hop: a vport of this node by its ifindex, or (ifindex 0) an address."""

    ifindex: int = 0
    address: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Hops of one kind between two ends."""

    kind: str
    source: Endpoint
    destination: Endpoint
    hops: Distribution


def by_kind(records: Records) -> dict[str, Distribution]:
    """One distribution per kind that occurs, in the order rx, tx, local, forward."""
    kinds = records["kind_message"] & 0x0F
    present, groups = np.unique(kinds, return_inverse=True)
    found = _distributions(records, groups, len(present))
    return {Kind(int(kind)).label: hops for kind, hops in zip(present, found, strict=True)}


def by_series(records: Records) -> list[Series]:
    """One distribution per (kind, source, destination), most hops first.

    The source of tx and local is the vport first_ifindex, the destination of rx and local the vport
    second_ifindex; the others are the addresses at the second point.
    """
    keys = _series_keys(np.ascontiguousarray(records))
    representatives, groups = _group(keys)
    found = _distributions(records, groups, len(representatives))
    series = [_series(keys[row], hops) for row, hops in zip(representatives, found, strict=True)]
    return sorted(series, key=_most_hops_first)


def _most_hops_first(series: Series) -> tuple[int, str, Endpoint, Endpoint]:
    return -series.hops.count - series.hops.retransmitted, series.kind, series.source, series.destination


def marks(records: Records) -> dict[str, npt.NDArray[np.bool_]]:
    """For each mark of quality, which records have it; `merged` and `no_context` are derived."""
    bits = {
        flag.name.lower(): (records["quality"] & flag.value) != 0 for flag in Quality if flag.name is not None
    }
    return bits | {"merged": records["segments"] > 1, "no_context": (records["encap_context"] >> 4) == 0}


def _distributions(records: Records, groups: npt.NDArray[np.intp], count: int) -> list[Distribution]:
    again = (records["quality"] & Quality.RETRANSMIT.value) != 0
    latencies, starts, sizes = _sorted_latencies(records["latency_ns"][~again], groups[~again], count)
    retransmitted = np.bincount(groups[again], minlength=count)
    marked = {
        name: np.bincount(groups[which], minlength=count)
        for name, which in marks(records).items()
        if which.any()
    }
    return [
        Distribution(
            count=int(sizes[group]),
            retransmitted=int(retransmitted[group]),
            p50_us=_quantile_us(latencies, starts[group], sizes[group], 50),
            p99_us=_quantile_us(latencies, starts[group], sizes[group], 99),
            max_us=_quantile_us(latencies, starts[group], sizes[group], 100),
            quality={name: int(counts[group]) for name, counts in marked.items() if counts[group]},
        )
        for group in range(count)
    ]


def _sorted_latencies(
    latencies_ns: npt.NDArray[np.uint32], groups: npt.NDArray[np.intp], count: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Latencies in ns sorted within their group, where each group begins, and how many it has."""
    keyed = groups.astype(np.uint64) << np.uint64(32) | latencies_ns
    keyed.sort()
    sizes = np.bincount(groups, minlength=count)
    return keyed & np.uint64(0xFFFFFFFF), np.cumsum(sizes) - sizes, sizes


def _quantile_us(
    latencies: npt.NDArray[np.uint64], start: np.intp, size: np.intp, percent: int
) -> float | None:
    if not size:
        return None
    rank = -(-int(size) * percent // 100)
    return int(latencies[int(start) + rank - 1]) / 1_000


def _series_keys(records: Records) -> _Words:
    """One row of six words per record: kind and source ifindex, destination ifindex, source, destination."""
    kinds = records["kind_message"] & 0x0F
    from_vport = (kinds == Kind.TX) | (kinds == Kind.LOCAL)
    to_vport = (kinds == Kind.RX) | (kinds == Kind.LOCAL)
    words = records.view(np.uint64).reshape(len(records), _WORDS)
    keys = np.zeros((len(records), 6), np.uint64)
    keys[:, 0] = kinds.astype(np.uint64) << np.uint64(32) | np.where(from_vport, records["first_ifindex"], 0)
    keys[:, 1] = np.where(to_vport, records["second_ifindex"], 0)
    for column, name, is_vport in ((2, "src", from_vport), (4, "dst", to_vport)):
        at = _FIELDS[name][1] // 8
        keys[:, column : column + 2] = np.where(is_vport[:, None], np.uint64(0), words[:, at : at + 2])
    return keys


def _group(keys: _Words) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """A row of each distinct key, and for each row the number of its group.

    By a hash of the row, which sorts five times faster than rows; a collision (checked) takes the slow way.
    """
    mixed = np.zeros(len(keys), np.uint64)
    for column in range(keys.shape[1]):
        mixed = (mixed ^ keys[:, column]) * _MIX
        mixed ^= mixed >> np.uint64(29)
    _, representatives, groups = np.unique(mixed, return_index=True, return_inverse=True)
    if not np.array_equal(keys[representatives][groups], keys):
        _, representatives, groups = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return representatives, groups.reshape(-1)


def _series(key: _Words, hops: Distribution) -> Series:
    packed = key.astype("<u8").tobytes()
    kind = Kind(int(key[0]) >> 32)
    return Series(
        kind=kind.label,
        source=_endpoint(int(key[0]) & 0xFFFFFFFF, packed[16:32], kind in (Kind.TX, Kind.LOCAL)),
        destination=_endpoint(int(key[1]), packed[32:48], kind in (Kind.RX, Kind.LOCAL)),
        hops=hops,
    )


def _endpoint(ifindex: int, packed: bytes, is_vport: bool) -> Endpoint:
    return Endpoint(ifindex=ifindex) if is_vport else Endpoint(address=address_text(packed))
