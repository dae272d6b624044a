# SPDX-License-Identifier: Apache-2.0
"""How fast the ring is read, and what that costs at 100,000 hops a second: `./dev bench ring [--json]`.

The real program fills a real ring: BPF_PROG_TEST_RUN of `oh_bench_pair`, whose key moves on with every run,
so that each run is a hop. The reader's cost is CPU time of its own thread, sleeping and waking included; the
writer is another process. Budgets: 1 M records/s; 0.01 CPU s per 100 k at 100 k/s.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess

from agent.loading.loader import Loaded, load
from agent.reading.counters import CounterReader
from agent.reading.polling import next_wait_s
from agent.reading.ring import RingReader
from bench.machine import environment
from bench.request import request_packet
from bpf import syscall
from bpf.record import RING_STRIDE
from bpf.spec import ProgramSpec

SPEC = ProgramSpec(window=256)
RATE = 100_000
BURST_S = 0.01
BUDGET_RECORDS_PER_S = 1_000_000
BUDGET_CPU_S = 0.01


@dataclass(frozen=True, slots=True)
class Speed:
    """Full rings read at once: records per second of wall time, over the rounds."""

    rounds: int
    records_per_round: int
    median_per_s: float
    least_per_s: float
    greatest_per_s: float
    cpu_s_per_100k: float


@dataclass(frozen=True, slots=True)
class LoadRound:
    """One round of reading as the agent does beside a writer; the cost includes sleeping and waking."""

    records: int
    records_per_s: float
    polls: int
    lost: int
    cpu_s_per_100k: float


@dataclass(frozen=True, slots=True)
class Load:
    """All rounds: CPU seconds for 100 k records, and what the ring lost (0, or the rounds are void)."""

    rounds: int
    median_records_per_s: float
    median_cpu_s_per_100k: float
    least_cpu_s_per_100k: float
    greatest_cpu_s_per_100k: float
    lost: int


def fill(loaded: Loaded, count: int) -> None:
    """`count` hops into the ring."""
    syscall.prog_test_run(loaded.programs["oh_bench_pair"], request_packet(), repeat=count)


def measure_speed(loaded: Loaded, reader: RingReader, rounds: int) -> Speed:
    """Fills the ring and reads it, again and again."""
    size = (reader.ring_bytes - 8) // RING_STRIDE
    wall_s, cpu_s = [], 0.0
    for _ in range(rounds):
        fill(loaded, size)
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        records = reader.read()
        wall_s.append(time.perf_counter() - began_s)
        cpu_s += time.thread_time() - began_cpu_s
        if len(records) != size:
            raise RuntimeError(f"bench ring: {len(records)} of {size} records came back")
    rates = [size / seconds for seconds in wall_s]
    return Speed(rounds, size, statistics.median(rates), min(rates), max(rates), cpu_s / rounds / size * 1e5)


def measure_load(loaded: Loaded, reader: RingReader, rounds: int, seconds: float) -> Load:
    """Reads beside a writer that makes RATE hops a second, `rounds` times."""
    done = [one_round(loaded, reader, seconds) for _ in range(rounds)]
    costs = [one.cpu_s_per_100k for one in done]
    return Load(
        rounds=rounds,
        median_records_per_s=statistics.median(one.records_per_s for one in done),
        median_cpu_s_per_100k=statistics.median(costs),
        least_cpu_s_per_100k=min(costs),
        greatest_cpu_s_per_100k=max(costs),
        lost=sum(one.lost for one in done),
    )


def one_round(loaded: Loaded, reader: RingReader, seconds: float) -> LoadRound:
    """One round of `seconds`."""
    counters = CounterReader(loaded.maps["oh_counters"])
    before = counters.read()
    records = polls = 0
    began_s, began_cpu_s = time.perf_counter(), time.thread_time()
    last_s = began_s
    with writing(loaded, seconds) as writer:
        while writer.is_alive() or reader.pending_bytes:
            found, now_s = len(reader.read()), time.perf_counter()
            records += found
            polls += 1
            time.sleep(next_wait_s(found, now_s - last_s, SPEC.ring_bytes))
            last_s = now_s
    cpu_s, took_s = time.thread_time() - began_cpu_s, time.perf_counter() - began_s
    after = counters.read()
    return LoadRound(
        records=records,
        records_per_s=records / took_s,
        polls=polls,
        lost=after["ring_full"] - before["ring_full"] + after["records"] - before["records"] - records,
        cpu_s_per_100k=cpu_s / records * 1e5,
    )


@contextmanager
def writing(loaded: Loaded, seconds: float) -> Iterator[BaseProcess]:
    """A process that makes hops at a steady rate, and is over when the block is."""
    writer = multiprocessing.get_context("fork").Process(target=_write, args=(loaded, seconds))
    writer.start()
    try:
        yield writer
    finally:
        writer.kill()
        writer.join()


def _write(loaded: Loaded, seconds: float) -> None:
    began_s, written = time.perf_counter(), 0
    while (passed_s := time.perf_counter() - began_s) < seconds:
        due = int(passed_s * RATE) - written
        if due:
            fill(loaded, due)
            written += due
        time.sleep(BURST_S)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="./dev bench ring", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument(
        "--rounds", type=int, default=200, help="rings read for the speed (default %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one (default %(default)s)")
    parser.add_argument("--load-rounds", type=int, default=7, help="rounds of load (default %(default)s)")
    options = parser.parse_args()
    where = environment() | {"ring_bytes": SPEC.ring_bytes, "rate_per_s": RATE}
    with (
        load(SPEC, programs=("oh_bench_pair",), extra_defines=("-DBENCH",)) as loaded,
        RingReader(loaded.maps["oh_ring"], SPEC.ring_bytes) as reader,
    ):
        speed = measure_speed(loaded, reader, options.rounds)
        load_at_rate = measure_load(loaded, reader, options.load_rounds, options.seconds)
    result = {
        "environment": where,
        "speed": asdict(speed),
        "load": asdict(load_at_rate),
        "budgets": {
            "records_per_s": {
                "budget": BUDGET_RECORDS_PER_S,
                "met": speed.median_per_s >= BUDGET_RECORDS_PER_S,
            },
            "cpu_s_per_100k": {
                "budget": BUDGET_CPU_S,
                "met": load_at_rate.median_cpu_s_per_100k <= BUDGET_CPU_S,
            },
        },
    }
    print(json.dumps(result) if options.json else as_text(speed, load_at_rate, where))


def as_text(speed: Speed, load_at_rate: Load, where: dict[str, object]) -> str:
    """The result for people."""
    return "\n".join(
        (
            ", ".join(f"{name} {value}" for name, value in where.items()),
            f"full rings of {speed.records_per_round} records, {speed.rounds} rounds: "
            f"{speed.median_per_s / 1e6:.1f} M records/s ({speed.least_per_s / 1e6:.1f} to "
            f"{speed.greatest_per_s / 1e6:.1f}), {speed.cpu_s_per_100k:.4f} CPU s per 100 k; budget 1 M/s",
            f"at {load_at_rate.median_records_per_s:,.0f} records/s, {load_at_rate.rounds} rounds: "
            f"{load_at_rate.median_cpu_s_per_100k:.4f} CPU s per 100 k "
            f"({load_at_rate.least_cpu_s_per_100k:.4f} to {load_at_rate.greatest_cpu_s_per_100k:.4f}), "
            f"{load_at_rate.lost} lost; budget 0.01",
        )
    )


if __name__ == "__main__":
    main()
