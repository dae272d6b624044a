# SPDX-License-Identifier: Apache-2.0
"""From named records to summary rows: one per series and interval (docs/store.md, "Tables")."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.hops.records import Records
from agent.naming.namer import Namer
from agent.naming.names import Codes, Names, Row
from bpf.record import Quality
from store.batch import Batch, Labels, Numbers
from store.hist_text import encode
from store.histogram import BUCKETS, bucket_of, quantiles, quarter_octaves
from store.schema import QUARTER_OCTAVES, SERIES, SUMMARIES, Table

MAX_SERIES = 500
MORE_WITH_MARKS = 4
"""So many more series there may be while each pod elsewhere has its own."""
OTHERS = 8
"""Places for what is beyond the bound: one per kind and message."""
_SHARES = {"p50_ns": 0.5, "p90_ns": 0.9, "p95_ns": 0.95, "p99_ns": 0.99, "p999_ns": 0.999}
_NO_PLACE = -1
_GREATEST = np.iinfo(np.uint32).max


@dataclass(slots=True)
class Interval:
    """The series of one interval that is not over, each in a place of its own."""

    max_series: int
    places: dict[Row, int] = field(default_factory=dict)
    others: dict[Row, int] = field(default_factory=dict)
    counts: npt.NDArray[np.uint32] = field(init=False)
    """Per place and bucket: 1.8 MB for 500 series, touched as far as it is used."""
    retransmitted: npt.NDArray[np.uint64] = field(init=False)
    sum_ns: npt.NDArray[np.uint64] = field(init=False)
    min_ns: npt.NDArray[np.uint32] = field(init=False)
    max_ns: npt.NDArray[np.uint32] = field(init=False)

    def __post_init__(self) -> None:
        size = self.max_series + OTHERS
        self.counts = np.zeros((size, BUCKETS), np.uint32)
        self.retransmitted = np.zeros(size, np.uint64)
        self.sum_ns = np.zeros(size, np.uint64)
        self.min_ns = np.full(size, _GREATEST, np.uint32)
        self.max_ns = np.zeros(size, np.uint32)

    def place(self, series: Row) -> int:
        """The place of a series; beyond the bound, of its kind's and message's others."""
        if series in self.places:
            return self.places[series]
        if len(self.places) < self.max_series:
            return self.places.setdefault(series, len(self.places))
        other = _other(series)
        number = min(len(self.others), OTHERS - 1)
        return self.others.setdefault(other, self.max_series + number)

    def merge(self, finer: "Interval", named: Callable[[Row], Row] = lambda series: series) -> None:
        """Adds everything that is in `finer`, under the names that `named` gives its series."""
        for series, at in (*finer.places.items(), *finer.others.items()):
            to = self._place_of_other(series) if at >= finer.max_series else self.place(named(series))
            self.counts[to] += finer.counts[at]
            self.retransmitted[to] += finer.retransmitted[at]
            self.sum_ns[to] += finer.sum_ns[at]
            self.min_ns[to] = min(self.min_ns[to], finer.min_ns[at])
            self.max_ns[to] = max(self.max_ns[to], finer.max_ns[at])

    def _place_of_other(self, other: Row) -> int:
        number = min(len(self.others), OTHERS - 1)
        return self.others.setdefault(other, self.max_series + number)

    def hops(self) -> npt.NDArray[np.uint64]:
        """Hops of each place, retransmitted ones too."""
        found: npt.NDArray[np.uint64] = self.counts.sum(axis=1, dtype=np.uint64) + self.retransmitted
        return found

    def clear(self) -> None:
        """The next interval begins."""
        for numbers in (self.counts, self.retransmitted, self.sum_ns, self.max_ns):
            for used in (slice(len(self.places)), slice(self.max_series, None)):
                numbers[used] = 0
        self.min_ns[:] = _GREATEST
        self.places.clear()
        self.others.clear()


class Aggregator:
    """Sums up records per series and interval, exactly: each record is in one row of each table.

    One thread. `take` in the order of store.schema.SUMMARIES: a coarser row gets what a finer one has given.
    """

    def __init__(self, namer: Namer, max_series: int = MAX_SERIES, *, asks: bool = False) -> None:
        """`asks`: series may have marks for names; `take` of the finest table is not for them, `part` is."""
        self.max_series = max_series * MORE_WITH_MARKS if asks else max_series
        self._namer = namer
        self._intervals = {table.name: Interval(max_series) for table in SUMMARIES}
        self._open = Interval(self.max_series) if asks else self._intervals[SUMMARIES[0].name]
        self._other_hops = dict.fromkeys(self._intervals, 0)
        self._names: Names | None = None
        self._place_of = np.zeros(0, np.intp)

    @property
    def places(self) -> int:
        """One more than the greatest place of a series."""
        return self.max_series + OTHERS

    def add(self, records: Records, codes: Codes | None = None) -> Codes:
        """Adds named records; `codes` of the namer's last call. Returns the place of each one's series.

        Places hold until the finest interval is taken.
        """
        places = self._places(self._namer.codes(records) if codes is None else codes)
        latencies = np.ascontiguousarray(records["latency_ns"])
        again = (records["quality"] & Quality.RETRANSMIT) != 0
        if not again.any():
            self._count(places, latencies)
            return places
        np.add.at(self._open.retransmitted, places[again], np.uint64(1))
        self._count(places[~again], latencies[~again])
        return places

    def take(self, table: Table) -> Batch:
        """The rows of the interval that ends now, and begins the next one."""
        interval = self._intervals[table.name]
        batch = _rows(table, interval)
        self._other_hops[table.name] += int(interval.hops()[interval.max_series :].sum())
        coarser = SUMMARIES[SUMMARIES.index(table) + 1 :]
        if coarser:
            self._intervals[coarser[0].name].merge(interval)
        if interval is self._open:
            self._place_of[:] = _NO_PLACE
        interval.clear()
        return batch

    def part(self) -> Interval:
        """What was added since the last call, as it is named: the interval ends, and the next one begins."""
        done, self._open = self._open, Interval(self.max_series)
        self._place_of[:] = _NO_PLACE
        return done

    def named(self, part: Interval, named: Callable[[Row], Row]) -> Batch:
        """The rows of the finest table for a `part`, with these names."""
        self._intervals[SUMMARIES[0].name].merge(part, named)
        return self.take(SUMMARIES[0])

    def counters(self) -> dict[str, int]:
        """Hops beyond the bound of series, by table, in the rows taken so far."""
        finest, *coarser = SUMMARIES
        return {"series_other": self._other_hops[finest.name]} | {
            f"series_other_{table.name.removeprefix('hop_')}": self._other_hops[table.name]
            for table in coarser
        }

    def _places(self, codes: Codes) -> Codes:
        names = self._namer.names
        if names is not self._names:
            self._names, self._place_of = names, np.zeros(0, np.intp)
        if len(self._place_of) < len(names):
            more = np.full(max(len(names), 64), _NO_PLACE, np.intp)
            self._place_of = np.concatenate([self._place_of, more])
        places = self._place_of.take(codes, mode="clip")
        missing = places == _NO_PLACE
        if missing.any():
            new = np.flatnonzero(np.bincount(codes[missing]))  # np.unique imports numpy.ma: 13 ms, 1.3 MB
            present, groups = np.unique(names.series_of(new), return_inverse=True)
            found = [self._open.place(names.series[number]) for number in present.tolist()]
            self._place_of[new] = np.array(found, np.intp)[groups]
            places = self._place_of.take(codes, mode="clip")
        return places

    def _count(self, places: Codes, latencies_ns: npt.NDArray[np.uint32]) -> None:
        at = places * BUCKETS
        at += bucket_of(latencies_ns)
        # A count of the array's own type: with any other one ufunc.at is 30 times slower.
        np.add.at(self._open.counts.reshape(-1), at, np.uint32(1))
        np.add.at(self._open.sum_ns, places, latencies_ns.astype(np.uint64))
        np.minimum.at(self._open.min_ns, places, latencies_ns)
        np.maximum.at(self._open.max_ns, places, latencies_ns)


def _other(series: Row) -> Row:
    """The series of all that is beyond the bound, of the same kind and message."""
    kept = ("kind", "message")
    named = {"src_workload": "other", "dst_workload": "other"}
    return tuple(
        text if column in kept else named.get(column, "") for column, text in zip(SERIES, series, strict=True)
    )


def _rows(table: Table, interval: Interval) -> Batch:
    series = [*interval.places, *interval.others]
    used = slice(len(series))  # the others' places begin where the bound is reached
    counts = interval.counts[used]
    count = counts.sum(axis=1, dtype=np.uint64)
    max_ns = interval.max_ns[used].copy()
    min_ns = np.where(count > 0, interval.min_ns[used], max_ns)
    columns: dict[str, Numbers | Labels] = {
        column: Labels.of([row[number] for row in series]) for number, column in enumerate(SERIES)
    }
    columns |= {"count": count, "retransmitted": interval.retransmitted[used].copy()}
    columns |= {"sum_ns": interval.sum_ns[used].copy(), "min_ns": min_ns, "max_ns": max_ns}
    found = np.nan_to_num(quantiles(counts, tuple(_SHARES.values()), min_ns, max_ns)).round()
    columns |= {name: found[:, number].astype(np.uint32) for number, name in enumerate(_SHARES)}
    quarters = quarter_octaves(counts)
    columns |= {f"q{number:02}": quarters[:, number].copy() for number in range(QUARTER_OCTAVES)}
    columns["hist"] = Labels.of(encode(counts))
    return Batch(table, columns)
