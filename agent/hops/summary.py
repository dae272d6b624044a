# SPDX-License-Identifier: Apache-2.0
"""What a set of raw records says, exactly: counts, quantiles and quality per kind and per series.

Pure, and without Python per record. Quantiles are nearest rank: the least measured latency that at least the
given share of hops does not exceed. Retransmitted hops are counted apart and are in no latency.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.hops.records import Records, words_of
from agent.naming.names import COLUMNS, Row
from bpf.record import RECORD, Kind, Quality, address_text

_Words = npt.NDArray[np.uint64]
_FIELDS: Mapping[str, tuple[Any, ...]] = RECORD.fields or {}  # Any: numpy types it so
UNKNOWN, AMBIGUOUS = "unknown", "ambiguous"
"""Workloads that say less than the address (agent/plan/names.py, BUCKETS)."""
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
    """Who is at one end of a hop. `address` only where nobody can say who has it."""

    namespace: str = ""
    pod: str = ""
    workload: str = ""
    """Without a pod: a bucket (docs/store.md)."""
    address: str = ""

    def __str__(self) -> str:
        if self.address:
            return self.address
        name = self.pod or self.workload
        return f"{self.namespace}/{name}" if self.namespace else name


@dataclass(frozen=True, slots=True)
class Series:
    """Hops of one kind between two ends, by the same service."""

    kind: str
    source: Endpoint
    destination: Endpoint
    service: str
    hops: Distribution


def by_kind(records: Records) -> dict[str, Distribution]:
    """One distribution per kind that occurs, in the order rx, tx, local, forward."""
    kinds = records["kind_message"] & 0x0F
    present, groups = np.unique(kinds, return_inverse=True)
    found = _distributions(records, groups, len(present))
    return {Kind(int(kind)).label: hops for kind, hops in zip(present, found, strict=True)}


def by_series(records: Records, name: Callable[[Records], Sequence[Row]]) -> list[Series]:
    """One distribution per (kind, source, destination, service), most hops first.

    `name` is asked once per distinct pair of ends, for the names of agent.names.COLUMNS.
    """
    keys = _series_keys(np.ascontiguousarray(records))
    representatives, groups = _group(keys)
    numbers: dict[tuple[str, Endpoint, Endpoint, str], int] = {}
    named = zip(records[representatives], name(records[representatives]), strict=True)
    series_of = [numbers.setdefault(_series(record, row), len(numbers)) for record, row in named]
    found = _distributions(records, np.array(series_of, np.intp)[groups], len(numbers))
    series = [Series(*key, hops) for key, hops in zip(numbers, found, strict=True)]
    return sorted(series, key=_most_hops_first)


def _most_hops_first(series: Series) -> tuple[int, str, Endpoint, Endpoint, str]:
    hops = series.hops
    return -hops.count - hops.retransmitted, series.kind, series.source, series.destination, series.service


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
    """What decides the names of each record, as a row of nine words.

    Kind and source ifindex, destination ifindex, source, destination, and what the destination was before
    where it was translated. Of an end that is a vport the address does not count.
    """
    kinds = records["kind_message"] & 0x0F
    from_vport = (kinds == Kind.TX) | (kinds == Kind.LOCAL)
    to_vport = (kinds == Kind.RX) | (kinds == Kind.LOCAL)
    translated = (records["quality"] & Quality.DNAT.value) != 0
    words = words_of(records)
    keys = np.zeros((len(records), 9), np.uint64)
    keys[:, 0] = kinds.astype(np.uint64) << np.uint64(32) | np.where(from_vport, records["first_ifindex"], 0)
    keys[:, 1] = np.where(to_vport, records["second_ifindex"], 0)
    parts = ((2, "src", ~from_vport), (4, "dst", ~to_vport), (6, "dst_before_nat", translated))
    for column, field, counts in parts:
        at = _FIELDS[field][1] // 8
        keys[:, column : column + 2] = np.where(counts[:, None], words[:, at : at + 2], np.uint64(0))
    marks = (records["quality"] & (Quality.DNAT | Quality.SNAT).value).astype(np.uint64)
    keys[:, 8] = np.where(translated, records["dport_before_nat"], 0) | marks << np.uint64(16)
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


def _series(record: np.void, row: Row) -> tuple[str, Endpoint, Endpoint, str]:
    named = dict(zip(COLUMNS, row, strict=True))
    return named["kind"], _end("src", record, named), _end("dst", record, named), named["service"]


def _end(which: str, record: np.void, named: Mapping[str, str]) -> Endpoint:
    namespace, pod, workload = (named[f"{which}_{part}"] for part in ("ns", "pod", "workload"))
    is_known = namespace or workload not in (UNKNOWN, AMBIGUOUS)
    return Endpoint(namespace, pod, workload, "" if is_known else address_text(record[which].tobytes()))
