# SPDX-License-Identifier: Apache-2.0
"""Hops by series, a batch at a time and exactly: what the live view shows. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.hops.records import Records, joined, words_of
from agent.hops.summary import Distribution, is_again, keyed_latencies, marks, of_keyed
from agent.naming.names import COLUMNS, Row
from bpf.record import RECORD, Kind, Quality, address_text

GATHERED: Final = 2_048
"""Records that wait at most: a call of numpy costs as much for one as for a thousand."""
UNKNOWN, AMBIGUOUS = "unknown", "ambiguous"
"""Workloads that say less than the address (agent/plan/names.py, BUCKETS)."""
_FIELDS: Mapping[str, tuple[Any, ...]] = RECORD.fields or {}  # Any: numpy types it so
_MIX = np.uint64(0x9E3779B97F4A7C15)
_Words = npt.NDArray[np.uint64]


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


_Key = tuple[str, Endpoint, Endpoint, str]


class SeriesTally:
    """Counts hops per (kind, source, destination, service), and remembers 8 bytes of each.

    `name` is asked once per distinct pair of ends, for the names of agent.naming.names.COLUMNS. Hops beyond
    `max_hops`, and those between ends beyond `max_ends` pairs, only count as `left_out`.
    """

    def __init__(self, name: Callable[[Records], Sequence[Row]], max_hops: int, max_ends: int) -> None:
        self.left_out = 0
        """Exact after series()."""
        self._name = name
        self._max_ends = max_ends
        self._waiting: list[Records] = []
        self._waiting_count = 0
        self._room = max_hops
        self._keyed = np.empty(max_hops, np.uint64)  # takes memory as far as it is written
        self._count = 0
        self._again = np.zeros(max_ends, np.intp)
        self._marked: dict[str, npt.NDArray[np.intp]] = {}
        self._ends: dict[bytes, int] = {}
        """Number of the series of each pair of ends."""
        self._series: dict[_Key, int] = {}

    def add(self, records: Records) -> None:
        """Take over records (they must not change any more)."""
        taken = records[: self._room]
        self.left_out += len(records) - len(taken)
        if not len(taken):
            return
        self._room -= len(taken)
        self._waiting.append(taken)
        self._waiting_count += len(taken)
        if self._waiting_count >= GATHERED:
            self._work()

    def series(self) -> list[Series]:
        """One distribution per series, most hops first."""
        self._work()
        count = len(self._series)
        marked = {name: counts[:count] for name, counts in self._marked.items()}
        found = of_keyed(self._keyed[: self._count], self._again[:count], marked)
        series = [Series(*key, one) for key, one in zip(self._series, found, strict=True)]
        return sorted(series, key=_most_hops_first)

    def _work(self) -> None:
        if not self._waiting:
            return
        records = joined(self._waiting)
        self._waiting, self._waiting_count = [], 0
        keys = _series_keys(records)
        representatives, groups = _group(keys)
        numbers = self._numbers(keys[representatives], records[representatives])[groups]
        if numbers.min() < 0:
            has_room = numbers >= 0
            self.left_out += len(records) - int(np.count_nonzero(has_room))
            records, numbers = records[has_room], numbers[has_room]
        self._keep(records, numbers)

    def _keep(self, records: Records, series: npt.NDArray[np.intp]) -> None:
        again = is_again(records)
        keyed = keyed_latencies(records, series)[~again]
        self._keyed[self._count : self._count + len(keyed)] = keyed
        self._count += len(keyed)
        self._again += np.bincount(series[again], minlength=self._max_ends)
        for name, which in marks(records).items():
            if which.any():
                known = self._marked.setdefault(name, np.zeros(self._max_ends, np.intp))
                known += np.bincount(series[which], minlength=self._max_ends)

    def _numbers(self, keys: _Words, records: Records) -> npt.NDArray[np.intp]:
        """The series of each pair of ends; -1: there are too many pairs."""
        ends = [key.tobytes() for key in keys]
        new = [at for at, key in enumerate(ends) if key not in self._ends][: self._max_ends - len(self._ends)]
        for at, row in zip(new, self._name(records[new]) if new else (), strict=True):
            self._ends[ends[at]] = self._series.setdefault(_key(records[at], row), len(self._series))
        return np.array([self._ends.get(key, -1) for key in ends], np.intp)


def _most_hops_first(series: Series) -> tuple[int, str, Endpoint, Endpoint, str]:
    hops = series.hops
    return -hops.count - hops.retransmitted, series.kind, series.source, series.destination, series.service


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


def _key(record: np.void, row: Row) -> _Key:
    named = dict(zip(COLUMNS, row, strict=True))
    return named["kind"], _end("src", record, named), _end("dst", record, named), named["service"]


def _end(which: str, record: np.void, named: Mapping[str, str]) -> Endpoint:
    namespace, pod, workload = (named[f"{which}_{part}"] for part in ("ns", "pod", "workload"))
    is_known = namespace or workload not in (UNKNOWN, AMBIGUOUS)
    return Endpoint(namespace, pod, workload, "" if is_known else address_text(record[which].tobytes()))
