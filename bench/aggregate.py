# SPDX-License-Identifier: Apache-2.0
"""How fast records are named, summed up and sampled: `./dev bench aggregate [--json]`.

Records as they come from the ring: 5,000 flows in 200 series, every record from another port with another
trace id. A round is ten seconds: a batch every 20 ms, the samples of every second, at the end the rows
of the finest table. The cost is CPU time of this thread. Budget: 200,000 hops/s on one core.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np

from agent.clock import ClockOffset
from agent.hops.intake import Intake
from agent.hops.records import Records, taken, words_of
from agent.network.links import Link
from agent.plan.model import Plan, VportPlan
from agent.plan.names import NamesPlan, PodName, ServiceName
from bench.machine import environment
from bpf.record import RECORD, ContextKind, Encap, Kind, Quality
from store.schema import HOP_10S, SUMMARIES

BUDGET_HOPS_PER_S = 200_000
POLL_S = 0.02
PODS_HERE, PODS_THERE, WORKLOADS = 20, 250, 10
SERVICE = IPv4Address("10.96.0.10")
NIC = 2
SECOND_NS = 1_000_000_000
ROUND_S = 10
SERIES = 2 * WORKLOADS * WORKLOADS
ENCAPS = (Encap.NONE, Encap.VXLAN, Encap.IPIP)
BATCHES = (4000, 2000, 200)
"""Records per poll at 200,000, 100,000 and 10,000 hops a second."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Hops per CPU second at one size of batches, over the rounds."""

    batch: int
    rounds: int
    hops: int
    median_per_s: float
    least_per_s: float
    greatest_per_s: float
    samples_ms: float
    """Median time to make the samples of one second."""
    summaries_ms: float
    """Median time to make the rows of HOP_10S."""


def packed(address: IPv4Address) -> np.void:
    """As records have it."""
    return np.void(bytes(10) + b"\xff\xff" + address.packed)


def here(pod: int) -> IPv4Address:
    """Address of a pod of this node."""
    return IPv4Address("10.244.1.1") + pod


def there(pod: int) -> IPv4Address:
    """Address of a pod of another node."""
    return IPv4Address("10.244.2.1") + pod


def plan() -> Plan:
    """Two pods of each workload here, 25 there."""
    vports = tuple(
        VportPlan(
            match=f"veth{pod}",
            namespace="shop",
            pod=f"web-{pod}",
            workload=f"web-{pod % WORKLOADS}",
            addresses=(here(pod),),
        )
        for pod in range(PODS_HERE)
    )
    pods = tuple(
        PodName(namespace="shop", pod=f"db-{pod}", workload=f"db-{pod % WORKLOADS}", addresses=(there(pod),))
        for pod in range(PODS_THERE)
    )
    service = ServiceName(namespace="shop", name="db", addresses=(SERVICE,), port=80)
    return Plan(nic=("eth0",), vports=vports, names=NamesPlan(pods=pods, services=(service,)))


def links() -> list[Link]:
    """The NIC and one vport per pod."""
    return [Link(NIC, "eth0"), *(Link(NIC + 1 + pod, f"veth{pod}") for pod in range(PODS_HERE))]


def flows() -> Records:
    """One record of each flow: half of the pairs of pods receive, half send by the service."""
    found = np.zeros(PODS_HERE * PODS_THERE, RECORD)
    found["encap_context"] = ContextKind.W3C << 4 | Encap.VXLAN
    found["segments"] = 1
    for row in range(len(found)):
        near, far = row % PODS_HERE, row // PODS_HERE
        # The quotient mixes in, so that each pair of workloads has both directions.
        if (near // WORKLOADS + far // WORKLOADS) % 2:
            found[row]["kind_message"] = Kind.RX
            found[row]["first_ifindex"], found[row]["second_ifindex"] = NIC, NIC + 1 + near
            found[row]["src"], found[row]["dst"] = packed(there(far)), packed(here(near))
            found[row]["dst_before_nat"] = found[row]["dst"]
        else:
            found[row]["kind_message"] = Kind.TX
            found[row]["first_ifindex"], found[row]["second_ifindex"] = NIC + 1 + near, NIC
            found[row]["src"], found[row]["dst"] = packed(here(near)), packed(there(far))
            found[row]["dst_before_nat"], found[row]["dport_before_nat"] = packed(SERVICE), 80
            found[row]["quality"] = Quality.DNAT
    return found


def batch_of(known: Records, size: int, rng: np.random.Generator) -> Records:
    """Records of any of the flows, each of a connection and a trace of its own."""
    found = taken(known, rng.integers(0, len(known), size))
    words_of(found)[:, 1:4] = rng.integers(1, 1 << 63, (size, 3), dtype=np.uint64)
    found["latency_ns"] = rng.lognormal(9.5, 0.8, size)
    found["sport"] = found["sport_before_nat"] = rng.integers(1024, 65536, size)
    found["dport"] = rng.integers(1024, 65536, size)
    found["seq"], found["ack"] = rng.integers(0, 1 << 32, (2, size))
    return found


def measure(size: int, rounds: int) -> Speed:
    """`rounds` rounds, after one that does not count."""
    rng = np.random.default_rng(1)
    known = flows()
    batches = [batch_of(known, size, rng) for _ in range(round(1 / POLL_S))]
    intake = Intake()
    intake.update(plan(), links(), 0)
    costs = [one_round(intake, batches, number) for number in range(rounds + 1)][1:]
    hops = size * len(batches) * ROUND_S
    rates = [hops / cost.total_s for cost in costs]
    return Speed(
        batch=size,
        rounds=rounds,
        hops=hops * rounds,
        median_per_s=statistics.median(rates),
        least_per_s=min(rates),
        greatest_per_s=max(rates),
        samples_ms=statistics.median(cost.samples_s for cost in costs) / ROUND_S * 1e3,
        summaries_ms=statistics.median(cost.summaries_s for cost in costs) * 1e3,
    )


@dataclass(slots=True)
class Cost:
    """CPU seconds of one round, by what they went to."""

    adding_s: float = 0.0
    samples_s: float = 0.0
    summaries_s: float = 0.0

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.adding_s + self.samples_s + self.summaries_s


def one_round(intake: Intake, batches: Sequence[Records], number: int) -> Cost:
    """ROUND_S seconds of records and samples, then the rows of HOP_10S."""
    clock = ClockOffset(0, 0, 0, 0, 0)
    cost = Cost()
    for second in range(number * ROUND_S, (number + 1) * ROUND_S):
        for turn, batch in enumerate(batches):
            records = fresh(batch, second * SECOND_NS + turn * int(POLL_S * SECOND_NS))
            began_s = time.thread_time()
            intake.add(records)
            cost.adding_s += time.thread_time() - began_s
        began_s = time.thread_time()
        intake.samples(clock, "boot", (second + 1) * SECOND_NS)
        cost.samples_s += time.thread_time() - began_s
    began_s = time.thread_time()
    [found] = intake.summaries(HOP_10S, clock, 0)
    rows = len(found)
    cost.summaries_s = time.thread_time() - began_s
    if rows != SERIES:
        raise RuntimeError(f"bench aggregate: {rows} series instead of {SERIES}")
    return cost


def fresh(batch: Records, now_ns: int) -> Records:
    """As the ring's reader gives it: just copied."""
    words = words_of(batch).copy()
    words[:, 0] = now_ns
    found: Records = words.reshape(-1).view(RECORD)
    return found


@dataclass(frozen=True, slots=True)
class Memory:
    """What naming and aggregation hold, by the growth of RSS; all tables as full as they get."""

    series: int
    flows: int
    mb: float


def measure_memory() -> Memory:
    """As many series as there may be with all buckets in use, and three times the flows of the speed."""
    known = flows()
    rng = np.random.default_rng(2)
    clock = ClockOffset(0, 0, 0, 0, 0)
    before = rss_bytes()
    intake = Intake()
    intake.update(plan(), links(), 0)
    for second in range(60):
        batch = batch_of(known, BATCHES[0], rng)
        batch["latency_ns"] = np.exp2(rng.uniform(5, 31, len(batch))).astype(np.uint32)
        batch["encap_context"] = ContextKind.W3C << 4 | second % len(ENCAPS)
        intake.add(batch)
        intake.samples(clock, "boot", second * SECOND_NS)
    rows = [len(one) for table in SUMMARIES for one in intake.summaries(table, clock, 0)]
    return Memory(max(rows), len(ENCAPS) * len(known), (rss_bytes() - before) / 1e6)


def rss_bytes() -> int:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="./dev bench aggregate", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each size (default %(default)s)")
    options = parser.parse_args()
    where = environment() | {"flows": PODS_HERE * PODS_THERE, "poll_s": POLL_S}
    memory = measure_memory()
    speeds = [measure(size, options.rounds) for size in BATCHES]
    result = {
        "environment": where,
        "aggregate_hops_per_s": speeds[0].median_per_s,
        "speeds": [asdict(speed) for speed in speeds],
        "memory": asdict(memory),
        "budgets": {
            "hops_per_s": {
                "budget": BUDGET_HOPS_PER_S,
                "met": speeds[0].median_per_s >= BUDGET_HOPS_PER_S,
            }
        },
    }
    print(json.dumps(result) if options.json else as_text(speeds, memory, where))


def as_text(speeds: Sequence[Speed], memory: Memory, where: dict[str, object]) -> str:
    """The result for people."""
    lines = [", ".join(f"{name} {value}" for name, value in where.items())]
    lines += [
        f"batches of {one.batch} every {POLL_S * 1e3:.0f} ms, {one.rounds} rounds of {ROUND_S} s: "
        f"{one.median_per_s / 1e6:.2f} M hops/s ({one.least_per_s / 1e6:.2f} to "
        f"{one.greatest_per_s / 1e6:.2f}), {1e9 / one.median_per_s:.0f} ns per hop; "
        f"samples of a second {one.samples_ms:.1f} ms, rows of ten seconds {one.summaries_ms:.1f} ms"
        for one in speeds
    ]
    lines.append(f"memory with {memory.series} series and {memory.flows} flows: {memory.mb:.1f} MB")
    lines.append(f"budget: {BUDGET_HOPS_PER_S:,} hops/s")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
