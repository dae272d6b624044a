# SPDX-License-Identifier: Apache-2.0
"""A store full of invented hops, for tests of speed: `./dev bench store_data DIRECTORY [--hops N]`.

Rows go the real way, through appender and compactor, only the clock is ours: the last minutes are still in
segments. Summaries are of the same hops as the samples, which are all kept; every trace is on all nodes.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from store.appender import Appender
from store.batch import Batch, Labels, Numbers
from store.compactor import Compactor
from store.hist_text import encode
from store.histogram import BUCKETS, bucket_of, quantiles, quarter_octaves
from store.merging import Surroundings
from store.schema import HOP_SAMPLE, QUARTER_OCTAVES, SUMMARIES, TEXT, Table

STEP_S = 5
"""One append of samples."""
COMPACT_S = 60
_S_NS = 1_000_000_000
_SHARES = {"p50_ns": 0.5, "p90_ns": 0.9, "p95_ns": 0.95, "p99_ns": 0.99, "p999_ns": 0.999}
_KINDS = ("rx", "tx", "local")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the store shall hold; `until_ns`: when the last row was written, ns since 1970."""

    hops: int = 10_000_000
    nodes: int = 2
    series: int = 200
    span_s: int = 3600
    until_ns: int = field(default_factory=time.time_ns)
    seed: int = 1

    @property
    def hops_per_step(self) -> int:
        """Of one node."""
        return max(1, self.hops * STEP_S // (self.nodes * self.span_s))


class Node:
    """Hops of one node, in order of time; `now_ns` is its clock."""

    def __init__(self, store: Path, number: int, shape: Shape) -> None:
        self.now_ns = 0
        self._shape = shape
        self._appender = Appender(
            store, "bench", f"n{number + 1}", clock=lambda: self.now_ns, monotonic=lambda: self.now_ns / _S_NS
        )
        self._random = np.random.default_rng((shape.seed, number))
        self._median_ns = self._random.uniform(8_000, 60_000, shape.series)
        self._counts = {table.name: Sums(shape.series) for table in SUMMARIES}
        self._hops = 0

    def step(self, now_ns: int, elapsed_s: int) -> None:
        """Hops of the last STEP_S seconds; summaries whose interval is over."""
        self.now_ns = now_ns
        rows = self._shape.hops_per_step
        series = self._random.integers(0, self._shape.series, rows)
        latency = self._median_ns[series] * self._random.lognormal(0, 0.5, rows)
        latency_ns = np.minimum(latency, 2e9).astype(np.uint32)
        self._appender.append(self.samples(series, latency_ns))
        for table in SUMMARIES:
            sums = self._counts[table.name]
            sums.add(series, latency_ns)
            if elapsed_s % table.interval_s == 0:
                self._appender.append(summaries(table, sums, self._shape.series))
                self._counts[table.name] = Sums(self._shape.series)
        self._appender.poll()

    def close(self) -> None:
        """End the segments."""
        self._appender.close()

    def samples(self, series: Ints, latency_ns: npt.NDArray[np.uint32]) -> Batch:
        """Hops of the STEP_S seconds before the clock, as rows."""
        rows = len(series)
        first = self._hops
        self._hops += rows
        at_ns = self.now_ns - np.sort(self._random.integers(0, STEP_S * _S_NS, rows))[::-1]
        hi, lo = trace_halves(np.arange(first, first + rows, dtype=np.uint64))
        client = self._random.integers(0, 250, rows).astype(np.uint64)
        given: dict[str, Numbers | Labels] = {
            "at_ns": at_ns,
            "mono_ns": (at_ns - at_ns.min()).astype(np.uint64),
            "latency_ns": latency_ns,
            "trace_hi": hi,
            "trace_lo": lo,
            "span": self._random.integers(1, 1 << 63, rows, dtype=np.uint64),
            "src_lo": np.uint64(0xFFFF0AF40000) + client,
            "dst_lo": np.uint64(0xFFFF0AF40100) + series.astype(np.uint64),
            "seq": self._random.integers(0, 1 << 32, rows, dtype=np.uint32),
            "ack": self._random.integers(0, 1 << 32, rows, dtype=np.uint32),
            "sport": self._random.integers(32768, 60999, rows, dtype=np.uint16),
            "src_pod": Labels([f"client-{number}" for number in range(250)], client.astype(np.uint32)),
            "boot_id": Labels.same("00000000-0000-4000-8000-000000000001", rows),
        }
        return Batch(HOP_SAMPLE, _filled(HOP_SAMPLE, {**given, **_series(series)}, rows))


class Sums:
    """Latencies of each series since the last row."""

    def __init__(self, series: int) -> None:
        self.counts = np.zeros((series, BUCKETS), np.uint32)
        self.sum_ns = np.zeros(series, np.uint64)
        self.min_ns = np.full(series, np.iinfo(np.uint32).max, np.uint32)
        self.max_ns = np.zeros(series, np.uint32)

    def add(self, series: Ints, latency_ns: npt.NDArray[np.uint32]) -> None:
        """Further hops."""
        np.add.at(self.counts, (series, bucket_of(latency_ns)), 1)
        np.add.at(self.sum_ns, series, latency_ns)
        np.minimum.at(self.min_ns, series, latency_ns)
        np.maximum.at(self.max_ns, series, latency_ns)


def summaries(table: Table, sums: Sums, series: int) -> Batch:
    """A row of each series."""
    given: dict[str, Numbers | Labels] = dict(_series(np.arange(series)))
    count = sums.counts.sum(axis=1, dtype=np.uint64)
    given |= {"count": count, "sum_ns": sums.sum_ns, "max_ns": sums.max_ns}
    given["min_ns"] = np.where(count > 0, sums.min_ns, 0).astype(np.uint32)
    found = quantiles(sums.counts, [*_SHARES.values()], sums.min_ns, sums.max_ns)
    for at, name in enumerate(_SHARES):
        given[name] = np.nan_to_num(found[:, at]).astype(np.uint32)
    quarters = quarter_octaves(sums.counts)
    given |= {f"q{number:02}": quarters[:, number].astype(np.uint32) for number in range(QUARTER_OCTAVES)}
    given["hist"] = Labels.of(encode(sums.counts))
    return Batch(table, _filled(table, given, series))


def _series(numbers: Ints) -> Mapping[str, Labels]:
    """The names that tell series from one another."""
    count = int(numbers.max()) + 1 if len(numbers) else 1
    codes = numbers.astype(np.uint32)

    def named(texts: Sequence[str]) -> Labels:
        return Labels([texts[number % len(texts)] for number in range(count)], codes)

    workloads = [f"workload-{number}" for number in range(count)]
    return {
        "kind": named(_KINDS),
        "src_workload": named([f"caller-{number % 20}" for number in range(count)]),
        "dst_workload": named(workloads),
        "src_ns": named(("shop", "bank")),
        "dst_ns": named(("shop", "bank", "mail")),
        "encap": named(("vxlan", "none")),
        "context": named(("w3c",)),
        "message": named(("request",)),
    }


def _filled(table: Table, given: Mapping[str, Numbers | Labels], rows: int) -> dict[str, Numbers | Labels]:
    """With nothing in the columns that are not given."""
    columns: dict[str, Numbers | Labels] = {}
    for column in table.columns[3:]:
        empty = Labels.same("", rows) if column.dtype == TEXT else np.zeros(rows, column.dtype)
        columns[column.name] = given.get(column.name, empty)
    return columns


def trace_halves(hops: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Upper and lower 64 bits of the trace of each hop, by their numbers: two hops have the same."""
    low = _mixed(hops // np.uint64(2))
    return _mixed(low), low


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Numbers that look random (Fibonacci hashing); 0 stays out, a trace id of zeros is none."""
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(mixed ^ (mixed >> np.uint64(29)))


def fill(store: Path, shape: Shape) -> Iterator[int]:
    """Write the store; gives the seconds that are done, in steps."""
    nodes = [Node(store, number, shape) for number in range(shape.nodes)]
    clock = Surroundings(clock_ns=lambda: nodes[0].now_ns, monotonic_s=lambda: nodes[0].now_ns / _S_NS)
    compactor = Compactor(store, around=clock)
    begin_ns = shape.until_ns - shape.span_s * _S_NS
    for elapsed_s in range(STEP_S, shape.span_s + 1, STEP_S):
        for node in nodes:
            node.step(begin_ns + elapsed_s * _S_NS, elapsed_s)
        if elapsed_s % COMPACT_S == 0:
            compactor.round()
            yield elapsed_s
    for node in nodes:
        node.close()


def main() -> None:
    """Write what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path)
    for name in ("hops", "nodes", "series", "span_s"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Shape(until_ns=0), name))
    parser.add_argument("--until", type=int, help="ns since 1970 (default: now)")
    given = parser.parse_args()
    shape = Shape(given.hops, given.nodes, given.series, given.span_s, given.until or time.time_ns())
    begin = time.monotonic()
    for done_s in fill(given.directory, shape):
        if sys.stderr.isatty():
            print(f"\r{done_s} of {shape.span_s} s", end="", file=sys.stderr)
    hops = shape.hops_per_step * shape.nodes * (shape.span_s // STEP_S)
    print(
        json.dumps({"hops": hops, "until_ns": shape.until_ns, "took_s": round(time.monotonic() - begin, 1)})
    )


if __name__ == "__main__":
    main()
