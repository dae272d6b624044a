# SPDX-License-Identifier: Apache-2.0
"""What it costs the agent to store rows: `./dev bench append [--json]`.

Appends of 500 summary rows (200 to 4,000 hops each) and of 1,000 samples into a store in the temporary
directory. The cost is CPU time of the process, fsync's thread included; caches are made cold before each
append, as they are for an agent that sleeps between polls. Aim: 10 ms each.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.machine import environment
from store.appender import Appender
from store.batch import Batch, Labels, Numbers
from store.hist_text import encode
from store.histogram import BUCKETS, bucket_of, quarter_octaves
from store.schema import HOP_10S, HOP_SAMPLE, QUARTER_OCTAVES, TEXT, Table
from store.segment import SegmentReader

SUMMARIES, SAMPLES = 500, 1000
_COLD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one append, over the rounds."""

    rows: int
    rounds: int
    median_ms: float
    least_ms: float
    greatest_ms: float
    bytes: float
    """In the segment."""
    read_ms: float
    """Mean time to read it back."""


def summaries(random: np.random.Generator) -> Batch:
    """One row a series."""
    counts = np.zeros((SUMMARIES, BUCKETS), np.uint32)
    for number in range(SUMMARIES):
        hops = int(random.integers(200, 4000))
        latency_ns = random.lognormal(np.log(random.uniform(8e3, 60e3)), 0.5, hops).astype(np.uint32)
        counts[number] = np.bincount(bucket_of(latency_ns), minlength=BUCKETS)
    quarters = quarter_octaves(counts).astype(np.uint32)
    given: dict[str, Numbers | Labels] = {f"q{at:02}": quarters[:, at] for at in range(QUARTER_OCTAVES)}
    given["hist"] = Labels.of(encode(counts))
    given["count"] = counts.sum(axis=1, dtype=np.uint64)
    return filled(HOP_10S, given, SUMMARIES, random)


def samples(random: np.random.Generator) -> Batch:
    """Hops of two hundred pods."""
    given: dict[str, Numbers | Labels] = {}
    for name in ("trace_hi", "trace_lo", "span"):
        given[name] = random.integers(1, 1 << 63, SAMPLES, dtype=np.uint64)
    for name in ("seq", "ack"):
        given[name] = random.integers(0, 1 << 32, SAMPLES, dtype=np.uint32)
    for name in ("src_lo", "dst_lo", "dst_before_lo"):
        given[name] = np.uint64(0xFFFF0AF40000) + random.integers(0, 200, SAMPLES, dtype=np.uint64)
    given["at_ns"] = 1_700_000_000_000_000_000 + np.sort(random.integers(0, 1_000_000_000, SAMPLES))
    given["mono_ns"] = np.sort(random.integers(0, 1_000_000_000, SAMPLES, dtype=np.uint64))
    given["sport"] = random.integers(32768, 60999, SAMPLES, dtype=np.uint16)
    return filled(HOP_SAMPLE, given, SAMPLES, random)


def filled(table: Table, given: dict[str, Numbers | Labels], rows: int, random: np.random.Generator) -> Batch:
    """With twenty names in text columns and small numbers in the others that are not given."""
    names = [f"name-of-something-{number}" for number in range(20)]
    columns: dict[str, Numbers | Labels] = {}
    for column in table.columns[3:]:
        if column.name in given:
            columns[column.name] = given[column.name]
        elif column.dtype == TEXT:
            columns[column.name] = Labels(names, random.integers(0, 20, rows, dtype=np.uint32))
        else:
            columns[column.name] = random.integers(0, 100, rows).astype(column.dtype)
    return Batch(table, columns)


def measure(make: Callable[[np.random.Generator], Batch], rounds: int) -> Cost:
    """Appends of new rows into a store of their own."""
    random, cold = np.random.default_rng(1), np.zeros(_COLD_BYTES, np.uint8)
    taken_ms = []
    with tempfile.TemporaryDirectory() as directory:
        with Appender(Path(directory) / "store", "bench", "n1") as appender:
            for _ in range(rounds):
                batch = make(random)
                cold += 1
                begin_s = time.process_time()
                appender.append(batch)
                taken_ms.append(1e3 * (time.process_time() - begin_s))
        paths = list(Path(directory).rglob("*.seg"))
        size = sum(path.stat().st_size for path in paths)
        begin_s = time.process_time()
        for path in paths:
            for _ in SegmentReader(path):
                cold[0] += 1
        read_ms = 1e3 * (time.process_time() - begin_s)
    return Cost(
        rows=len(batch),
        rounds=rounds,
        median_ms=statistics.median(taken_ms),
        least_ms=min(taken_ms),
        greatest_ms=max(taken_ms),
        bytes=size / rounds,
        read_ms=read_ms / rounds,
    )


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=100)
    given = parser.parse_args()
    where = environment() | {"rounds": given.rounds}
    costs = {"summaries": measure(summaries, given.rounds), "samples": measure(samples, given.rounds)}
    if given.json:
        print(json.dumps({"environment": where, **{name: asdict(cost) for name, cost in costs.items()}}))
        return
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    for name, cost in costs.items():
        print(
            f"{cost.rows} {name}: {cost.median_ms:.2f} ms ({cost.least_ms:.2f} to {cost.greatest_ms:.2f}), "
            f"{cost.bytes / 1e3:.0f} KB; reading back {cost.read_ms:.2f} ms"
        )


if __name__ == "__main__":
    main()
