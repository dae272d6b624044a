# SPDX-License-Identifier: Apache-2.0
"""The text that Prometheus gets: names, units, sums, hostile labels."""

import numpy as np
import pytest

from agent.hops.totals import HopFacts
from agent.metrics.snapshot import ControlFacts, MetricsSnapshot, text
from agent.storing.child import ChildStatus
from agent.storing.output import OutputFacts, Totals
from agent.storing.store import StoreFacts
from store.spool.facts import SpoolFacts
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
    not_taken={"hop_1m": 7},
)
SPOOL = SpoolFacts(
    sent={"hop_10s": 40, "event": 2},
    rejected={"hop_10s": 1},
    no_room={"hop_10s": 2, "event": 3},
    waiting={"hop_10s": 4},
    size_bytes=4096,
    limit_bytes=1 << 20,
    oldest_ns=1_700_000_000_000_000_000,
    error="influxdb2://db:8086/net: it refuses",
    clock_off_ns=-3_500_000_000,
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
SPOOLED = MetricsSnapshot(
    version="1.2.3",
    spec="0123456789ab",
    source="ba9876543210",
    output=OutputFacts(StoreFacts("influxdb2://db:8086/net", spool=SPOOL), Totals(), {}),
    time_ns=1_700_000_090_000_000_000,
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
overhop_store_rows_total{table="hop_1m"} 0.0
overhop_store_rows_total{table="hop_10m"} 0.0
overhop_store_rows_total{table="hop_sample"} 6.0
overhop_store_rows_total{table="event"} 0.0
# HELP overhop_store_rows_dropped_total Rows that were lost.
# TYPE overhop_store_rows_dropped_total counter
overhop_store_rows_dropped_total{table="hop_10s"} 1.0
overhop_store_rows_dropped_total{table="hop_1m"} 0.0
overhop_store_rows_dropped_total{table="hop_10m"} 0.0
overhop_store_rows_dropped_total{table="hop_sample"} 0.0
overhop_store_rows_dropped_total{table="event"} 0.0
# HELP overhop_store_rows_not_taken_total Rows that the server has no place for.
# TYPE overhop_store_rows_not_taken_total counter
overhop_store_rows_not_taken_total{table="hop_10s"} 0.0
overhop_store_rows_not_taken_total{table="hop_1m"} 7.0
overhop_store_rows_not_taken_total{table="hop_10m"} 0.0
overhop_store_rows_not_taken_total{table="hop_sample"} 0.0
overhop_store_rows_not_taken_total{table="event"} 0.0
# HELP overhop_store_rows_waiting Rows that the store does not take now.
# TYPE overhop_store_rows_waiting gauge
overhop_store_rows_waiting{table="hop_10s"} 2.0
overhop_store_rows_waiting{table="hop_1m"} 0.0
overhop_store_rows_waiting{table="hop_10m"} 0.0
overhop_store_rows_waiting{table="hop_sample"} 0.0
overhop_store_rows_waiting{table="event"} 0.0
# HELP overhop_store_up 1: the store takes rows.
# TYPE overhop_store_up gauge
overhop_store_up 1.0
# HELP overhop_store_writer_deaths_total Ends of the store's writer, or of the forwarder, that nobody asked for.
# TYPE overhop_store_writer_deaths_total counter
overhop_store_writer_deaths_total 3.0
# HELP overhop_sampling_shift n, where one in 2^n traces is kept.
# TYPE overhop_sampling_shift gauge
overhop_sampling_shift 3.0
"""  # noqa: E501 (the text as it is)
EXPECTED_SPOOL = """\
# HELP overhop_forwarded_rows_total Rows of the spool that the server has.
# TYPE overhop_forwarded_rows_total counter
overhop_forwarded_rows_total{table="hop_10s"} 40.0
overhop_forwarded_rows_total{table="event"} 2.0
# HELP overhop_spool_dropped_rows_total Rows of the spool that are lost.
# TYPE overhop_spool_dropped_rows_total counter
overhop_spool_dropped_rows_total{reason="rejected"} 1.0
overhop_spool_dropped_rows_total{reason="no_room"} 5.0
overhop_spool_dropped_rows_total{reason="too_old"} 0.0
overhop_spool_dropped_rows_total{reason="damaged"} 0.0
# HELP overhop_spool_rows Rows that wait in the spool.
# TYPE overhop_spool_rows gauge
overhop_spool_rows{table="hop_10s"} 4.0
# HELP overhop_spool_bytes Size of the spool on disk.
# TYPE overhop_spool_bytes gauge
overhop_spool_bytes 4096.0
# HELP overhop_spool_limit_bytes What the spool may hold.
# TYPE overhop_spool_limit_bytes gauge
overhop_spool_limit_bytes 1.048576e+06
# HELP overhop_spool_oldest_seconds Age of the first row that waits.
# TYPE overhop_spool_oldest_seconds gauge
overhop_spool_oldest_seconds 90.0
# HELP overhop_forwarder_up 1: the server takes rows.
# TYPE overhop_forwarder_up gauge
overhop_forwarder_up 0.0
# HELP overhop_store_clock_offset_seconds The server's clock minus the node's, where they differ by more than 2 s.
# TYPE overhop_store_clock_offset_seconds gauge
overhop_store_clock_offset_seconds -3.5
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


def test_text_of_a_spool_says_what_waits_and_what_fell_out() -> None:
    said = lines(SPOOLED)
    wanted = EXPECTED_SPOOL.splitlines()
    first = said.index(wanted[0])
    assert said[first : first + len(wanted)] == wanted


def test_text_of_a_spool_with_nothing_in_it_has_no_age() -> None:
    output = OutputFacts(StoreFacts("influxdb2://db:8086/net", spool=SpoolFacts()), Totals(), {})
    said = lines(MetricsSnapshot("1", "2", "3", output=output, time_ns=1_700_000_090_000_000_000))
    assert "overhop_spool_oldest_seconds 0.0" in said
    assert "overhop_forwarder_up 1.0" in said


@pytest.mark.parametrize(
    "snapshot", [SNAPSHOT, SPOOLED, MetricsSnapshot("1", "2", "3")], ids=["full", "spool", "empty"]
)
def test_promtool_finds_no_fault(snapshot: MetricsSnapshot) -> None:
    require_no_fault(text(snapshot))


def test_text_of_an_agent_of_a_cluster_says_how_it_is_with_its_controller() -> None:
    control = ControlFacts(
        has_answer=False, ahead_s=-60.5, counts={"plans": 2, "expired": 1}, pods=7, knows_pods=True
    )
    said = lines(MetricsSnapshot("1", "2", "3", control=control))
    assert {
        "overhop_controller_up 0.0",
        "overhop_controller_ahead_seconds -60.5",
        'overhop_control_total{event="plans"} 2.0',
        'overhop_control_total{event="expired"} 1.0',
        "overhop_pods 7.0",
        "overhop_pods_up 1.0",
    } <= set(said)
