# SPDX-License-Identifier: Apache-2.0
"""The text that Prometheus gets: names, units, sums, hostile labels."""

import numpy as np
import pytest

from agent.hops.totals import HopFacts
from agent.metrics.snapshot import MetricsSnapshot, text
from agent.storing.child import ChildStatus
from agent.storing.output import OutputFacts, Totals
from agent.storing.store import StoreFacts
from tests.promtool import require_no_fault

BUCKETS = [1, 2, *[0] * 18, 3]
HOPS = HopFacts(
    (("rx", "shop/web", 'shop/"d\\b"\n'),),
    np.array([BUCKETS]),
    np.array([1_500_000_000]),
    {("rx", "vxlan", "w3c"): 7},
    {("rx", "vxlan", "w3c"): 1},
)
STORE = StoreFacts(
    "/store",
    {"hop_10s": 5, "hop_sample": 6},
    {"hop_10s": 2},
    {"hop_10s": 1},
    None,
    None,
    ChildStatus(7, False, 3),
)
SNAPSHOT = MetricsSnapshot(
    version="1.2.3",
    spec="0123456789ab",
    source="ba9876543210",
    hops=HOPS,
    datapath={"first": 9, "ring_full": 0},
    waiting=4,
    ring_lag=0.25,
    output=OutputFacts(STORE, Totals(6, 1, 5, 2), {"names_unknown": 8}),
    sampling_shift=3,
)

EXPECTED = """\
# HELP overhop_agent_info Release, and digests of program parameters and C file.
# TYPE overhop_agent_info gauge
overhop_agent_info{source="ba9876543210",spec="0123456789ab",version="1.2.3"} 1.0
# HELP overhop_hops_total Hops, retransmitted ones too.
# TYPE overhop_hops_total counter
overhop_hops_total{context="w3c",encap="vxlan",kind="rx"} 7.0
# HELP overhop_hops_retransmitted_total Hops of retransmitted packets.
# TYPE overhop_hops_retransmitted_total counter
overhop_hops_retransmitted_total{context="w3c",encap="vxlan",kind="rx"} 1.0
# HELP overhop_datapath_packets_total Packets by what the kernel programs did with them (docs/datapath.md, section 6).
# TYPE overhop_datapath_packets_total counter
overhop_datapath_packets_total{counter="first"} 9.0
overhop_datapath_packets_total{counter="ring_full"} 0.0
# HELP overhop_stamps_waiting Stamps that wait for their pair in the kernel.
# TYPE overhop_stamps_waiting gauge
overhop_stamps_waiting 4.0
# HELP overhop_ring_lag_ratio Share of the ring that waits to be read.
# TYPE overhop_ring_lag_ratio gauge
overhop_ring_lag_ratio 0.25
# HELP overhop_samples_total Hops that were kept in full.
# TYPE overhop_samples_total counter
overhop_samples_total 5.0
# HELP overhop_samples_not_kept_total Hops that were only summed up.
# TYPE overhop_samples_not_kept_total counter
overhop_samples_not_kept_total 2.0
# HELP overhop_naming_total Hops without a certain name or beyond the series of a row, and how often tables were emptied.
# TYPE overhop_naming_total counter
overhop_naming_total{event="names_unknown"} 8.0
# HELP overhop_store_rows_total Rows that are in the store.
# TYPE overhop_store_rows_total counter
overhop_store_rows_total{table="hop_10s"} 5.0
overhop_store_rows_total{table="hop_sample"} 6.0
# HELP overhop_store_rows_dropped_total Rows that were lost.
# TYPE overhop_store_rows_dropped_total counter
overhop_store_rows_dropped_total{table="hop_10s"} 1.0
# HELP overhop_store_rows_waiting Rows that the store does not take now.
# TYPE overhop_store_rows_waiting gauge
overhop_store_rows_waiting{table="hop_10s"} 2.0
# HELP overhop_store_up 1: the store takes rows.
# TYPE overhop_store_up gauge
overhop_store_up 1.0
# HELP overhop_store_writer_deaths_total Ends of the store's writer that nobody asked for.
# TYPE overhop_store_writer_deaths_total counter
overhop_store_writer_deaths_total 3.0
# HELP overhop_sampling_shift n, where one in 2^n traces is kept.
# TYPE overhop_sampling_shift gauge
overhop_sampling_shift 3.0
"""  # noqa: E501 (the text as it is)
LABELS = 'dst_workload="shop/\\"d\\\\b\\"\\n",kind="rx",'
BOUNDS = (
    "1e-06", "2e-06", "5e-06", "1e-05", "1.5e-05", "2e-05", "3e-05", "5e-05", "7.5e-05", "0.0001", "0.00015",
    "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1",
)  # fmt: skip


def lines(snapshot: MetricsSnapshot) -> list[str]:
    return text(snapshot).decode().splitlines()


def test_text_has_every_metric_by_name_and_unit() -> None:
    found = [line for line in lines(SNAPSHOT) if "overhop_hop_latency_seconds" not in line]
    assert found == EXPECTED.splitlines()


def test_text_of_the_histogram_is_cumulative_in_seconds_with_hostile_labels_escaped() -> None:
    bucket = f"overhop_hop_latency_seconds_bucket{{{LABELS}".replace('kind="rx",', 'kind="rx",le="')
    tail = '",src_workload="shop/web"} '
    plain = f'{{{LABELS}src_workload="shop/web"}} '
    cumulative = [1, *[3] * 19]
    assert [line for line in lines(SNAPSHOT) if line.startswith("overhop_hop_latency")] == [
        *(f"{bucket}{bound}{tail}{count}.0" for bound, count in zip(BOUNDS, cumulative, strict=True)),
        f"{bucket}+Inf{tail}6.0",
        f"overhop_hop_latency_seconds_count{plain}6.0",
        f"overhop_hop_latency_seconds_sum{plain}1.5",
    ]


def test_text_without_a_store_says_nothing_of_it() -> None:
    said = text(MetricsSnapshot("1", "2", "3")).decode()
    assert "store" not in said
    assert "sampl" not in said


def test_text_of_a_store_in_trouble_says_it_is_down() -> None:
    broken = StoreFacts("/store", error="No space left on device")
    said = lines(MetricsSnapshot("1", "2", "3", output=OutputFacts(broken, Totals(), {})))
    assert "overhop_store_up 0.0" in said


@pytest.mark.parametrize("snapshot", [SNAPSHOT, MetricsSnapshot("1", "2", "3")], ids=["full", "empty"])
def test_promtool_finds_no_fault(snapshot: MetricsSnapshot) -> None:
    require_no_fault(text(snapshot))
