# SPDX-License-Identifier: Apache-2.0
"""What the agent tells Prometheus, as text (docs/metrics.md).

Importing this costs 2.8 MB of RSS (prometheus_client): only an agent that has somebody to tell does it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from agent.hops.totals import BORDERS_NS, HopFacts
from agent.storing.output import OutputFacts
from agent.storing.store import StoreFacts
from store.schema import TABLES
from store.spool.facts import SpoolFacts

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_UPPER_BOUNDS: Final = (*(str(border / 1e9) for border in BORDERS_NS), "+Inf")


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """Everything about the agent at one moment; counts are since its start."""

    version: str
    spec: str
    source: str
    hops: HopFacts = field(default_factory=HopFacts)
    datapath: Mapping[str, int] = field(default_factory=dict)
    """By the names of bpf.counters.NAMES."""
    waiting: int = 0
    """Stamps that wait for their pair."""
    ring_lag: float = 0.0
    """Share of the ring that waits to be read, 0 to 1."""
    output: OutputFacts | None = None
    """None: nothing is stored."""
    sampling_shift: int = 0
    time_ns: int = 0
    """Of this moment, ns since 1970."""
    control: "ControlFacts | None" = None
    """None: the agent is of no cluster."""


@dataclass(frozen=True, slots=True)
class ControlFacts:
    """An agent of a cluster and its controller."""

    has_answer: bool
    """The controller answered the last question for a plan."""
    ahead_s: float
    """By how much its clock is ahead of this node's; 0: by less than can be told (1.5 s)."""
    counts: Mapping[str, int]
    """Since the start, by what happened."""
    pods: int
    """Of this node, that are known."""
    knows_pods: bool
    """Whoever tells this node's pods could be asked."""


def text(snapshot: MetricsSnapshot) -> bytes:
    """Prometheus' text format, version 0.0.4."""
    return generate_latest(_Snapshot(snapshot))


class _Snapshot(Collector):
    def __init__(self, snapshot: MetricsSnapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield _agent(snapshot)
        yield _latencies(snapshot.hops)
        yield from _hops(snapshot.hops)
        yield _by(
            "overhop_datapath_packets",
            "Packets by what the kernel programs did with them (docs/datapath.md, section 6).",
            "counter",
            snapshot.datapath,
        )
        yield GaugeMetricFamily(
            "overhop_stamps_waiting", "Stamps that wait for their pair in the kernel.", snapshot.waiting
        )
        yield GaugeMetricFamily(
            "overhop_ring_lag_ratio", "Share of the ring that waits to be read.", snapshot.ring_lag
        )
        if snapshot.control is not None:
            yield from _control(snapshot.control)
        if snapshot.output is not None:
            yield from _output(snapshot.output)
            yield from _store(snapshot.output.store)
            if snapshot.output.store.spool is not None:
                yield from _spool(snapshot.output.store.spool, snapshot.time_ns)
            yield GaugeMetricFamily(
                "overhop_sampling_shift", "n, where one in 2^n traces is kept.", snapshot.sampling_shift
            )


def _control(control: ControlFacts) -> Iterable[Metric]:
    said = "1: the controller answered the last question for a plan."
    yield GaugeMetricFamily("overhop_controller_up", said, float(control.has_answer))
    said = "By how much the controller's clock is ahead of the node's; 0: less than 1.5 s."
    yield GaugeMetricFamily("overhop_controller_ahead_seconds", said, control.ahead_s)
    said = "Plans, inventories and names between agent and controller."
    yield _by("overhop_control", said, "event", control.counts)
    yield GaugeMetricFamily("overhop_pods", "Pods of this node that the agent knows.", control.pods)
    said = "1: the container runtime, or whoever tells pods, answered."
    yield GaugeMetricFamily("overhop_pods_up", said, float(control.knows_pods))


def _agent(snapshot: MetricsSnapshot) -> Metric:
    said = {"version": snapshot.version, "spec": snapshot.spec, "source": snapshot.source}
    return InfoMetricFamily("overhop_agent", "Release, and digests of program parameters and C file.", said)


def _latencies(hops: HopFacts) -> Metric:
    family = HistogramMetricFamily(
        "overhop_hop_latency_seconds",
        "Time between the two tracing points of a hop; without retransmitted ones.",
        labels=("kind", "src_workload", "dst_workload"),
    )
    for labels, counts, sum_ns in zip(hops.series, hops.buckets, hops.sum_ns.tolist(), strict=True):
        buckets = list(zip(_UPPER_BOUNDS, counts.cumsum().tolist(), strict=True))
        family.add_metric(labels, buckets, sum_ns / 1e9)
    return family


def _hops(hops: HopFacts) -> Iterable[Metric]:
    labels = ("kind", "encap", "context")
    everything = CounterMetricFamily("overhop_hops", "Hops, retransmitted ones too.", labels=labels)
    again = CounterMetricFamily("overhop_hops_retransmitted", "Hops of retransmitted packets.", labels=labels)
    for family, counts in ((everything, hops.hops), (again, hops.retransmitted)):
        for values, count in counts.items():
            family.add_metric(values, count)
    return everything, again


def _output(output: OutputFacts) -> Iterable[Metric]:
    totals = output.totals
    yield CounterMetricFamily("overhop_samples", "Hops that were kept in full.", totals.samples)
    yield CounterMetricFamily(
        "overhop_samples_not_kept", "Hops that were only summed up.", totals.samples_not_kept
    )
    said = "Hops without a certain name or beyond the series of a row, and how often tables were emptied."
    yield _by("overhop_naming", said, "event", output.naming)


def _store(store: StoreFacts) -> Iterable[Metric]:
    yield _by("overhop_store_rows", "Rows that are in the store.", "table", _all_tables(store.appended))
    yield _by("overhop_store_rows_dropped", "Rows that were lost.", "table", _all_tables(store.dropped))
    said = "Rows that the server has no place for."
    yield _by("overhop_store_rows_not_taken", said, "table", _all_tables(store.not_taken))
    waiting = GaugeMetricFamily(
        "overhop_store_rows_waiting", "Rows that the store does not take now.", labels=("table",)
    )
    for table, rows in _all_tables(store.waiting).items():
        waiting.add_metric((table,), rows)
    yield waiting
    yield GaugeMetricFamily("overhop_store_up", "1: the store takes rows.", float(store.error is None))
    yield CounterMetricFamily(
        "overhop_store_writer_deaths",
        "Ends of the store's writer, or of the forwarder, that nobody asked for.",
        store.writer.deaths,
    )


def _all_tables(rows: Mapping[str, int]) -> Mapping[str, int]:
    """Zeros too: rate() and increase() do not see a counter that begins with what was lost."""
    return {table.name: rows.get(table.name, 0) for table in TABLES}


def _spool(spool: SpoolFacts, now_ns: int) -> Iterable[Metric]:
    """Counts are those of the spool, which outlives agents."""
    yield _by("overhop_forwarded_rows", "Rows of the spool that the server has.", "table", spool.sent)
    yield _by("overhop_spool_dropped_rows", "Rows of the spool that are lost.", "reason", spool.dropped)
    waiting = GaugeMetricFamily("overhop_spool_rows", "Rows that wait in the spool.", labels=("table",))
    for table, rows in spool.waiting.items():
        waiting.add_metric((table,), rows)
    yield waiting
    yield GaugeMetricFamily("overhop_spool_bytes", "Size of the spool on disk.", spool.size_bytes)
    yield GaugeMetricFamily("overhop_spool_limit_bytes", "What the spool may hold.", spool.limit_bytes)
    age_s = 0.0 if spool.oldest_ns is None else max(0.0, (now_ns - spool.oldest_ns) / 1e9)
    yield GaugeMetricFamily("overhop_spool_oldest_seconds", "Age of the first row that waits.", age_s)
    yield GaugeMetricFamily("overhop_forwarder_up", "1: the server takes rows.", float(spool.error is None))
    yield GaugeMetricFamily(
        "overhop_store_clock_offset_seconds",
        "The server's clock minus the node's, where they differ by more than 2 s.",
        spool.clock_off_ns / 1e9,
    )


def _by(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
