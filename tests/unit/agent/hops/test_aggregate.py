# SPDX-License-Identifier: Apache-2.0
from base64 import b64decode

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.hops.aggregate import Aggregator
from agent.naming.namer import Namer
from agent.network.links import Link
from agent.plan.model import parse_plan
from bpf.record import ContextKind, Encap, Kind, Quality
from store.batch import Batch, Labels
from store.hist_text import merged
from store.schema import HOP_1M, HOP_10M, HOP_10S, SERIES, SUMMARIES, Table
from tests.unit.agent.made_records import made, packed

PODS = ", ".join(
    f"{{namespace: shop, pod: far-{number}, workload: far-{number}, addresses: 10.2.0.{number}}}"
    for number in range(1, 60)
)
PLAN = parse_plan(
    "nic: eth0\nvports: [{match: veth-web, namespace: shop, pod: web-1, workload: web}]\n"
    f"names: {{pods: [{PODS}]}}"
)
WEB = 11


def aggregator(max_series: int = 500) -> Aggregator:
    namer = Namer()
    namer.update(PLAN, [Link(2, "eth0"), Link(WEB, "veth-web")], 0)
    return Aggregator(namer, max_series)


def from_far(number: int, *latencies_ns: int, quality: int = 0, kind: Kind = Kind.RX) -> np.ndarray:
    return made(
        kind, f"10.2.0.{number}", second_ifindex=WEB, latencies_ns=latencies_ns or (1000,), quality=quality
    )


def texts(batch: Batch, column: str) -> list[str]:
    labels = batch.columns[column]
    assert isinstance(labels, Labels)
    return [str(text) for text in labels.texts()]


def numbers(batch: Batch, column: str) -> list[int]:
    found = batch.columns[column]
    assert not isinstance(found, Labels)
    return [int(number) for number in found.tolist()]


def row(batch: Batch) -> dict[str, int | str]:
    """The only row, without the quarter octaves in which nothing is."""
    assert len(batch) == 1
    found: dict[str, int | str] = {}
    for name, column in batch.columns.items():
        found[name] = texts(batch, name)[0] if isinstance(column, Labels) else numbers(batch, name)[0]
    return {
        name: value
        for name, value in found.items()
        if not (name[1:].isdigit() and name[0] == "q" and not value)
    }


def test_take_of_one_series_is_every_column() -> None:
    one = aggregator()
    # Buckets: 1000 ns is the first of 145; 2000 of 181; 1,000,000 is in 503.
    one.add(np.concatenate([from_far(1, *[1000] * 98), from_far(1, 2000), from_far(1, 1_000_000)]))
    one.add(from_far(1, 5, 7, quality=Quality.RETRANSMIT))
    found = row(one.take(HOP_10S))
    hist = found.pop("hist")
    assert b64decode(str(hist) + "==") == bytes((0x91, 1, 98, 36, 1, 0xC2, 2, 1))
    assert found == {
        "kind": "rx", "message": "request", "src_ns": "shop", "src_workload": "far-1", "dst_ns": "shop",
        "dst_workload": "web", "service": "", "encap": "vxlan", "context": "w3c",
        "count": 100, "retransmitted": 2, "sum_ns": 98 * 1000 + 2000 + 1_000_000,
        "min_ns": 1000, "max_ns": 1_000_000,
        "p50_ns": 1009, "p90_ns": 1009, "p95_ns": 1009, "p99_ns": 2019, "p999_ns": 1_000_000,
        "q00": 98, "q04": 1, "q39": 1,
    }  # fmt: skip


def test_take_of_nothing_is_a_batch_without_rows() -> None:
    for table in SUMMARIES:
        assert len(aggregator().take(table)) == 0


def test_take_of_retransmitted_hops_only_has_no_latency() -> None:
    one = aggregator()
    one.add(from_far(1, 5000, quality=Quality.RETRANSMIT))
    found = row(one.take(HOP_10S))
    columns = ("count", "retransmitted", "sum_ns", "min_ns", "max_ns", "p50_ns", "p999_ns", "hist")
    assert [found[column] for column in columns] == [0, 1, 0, 0, 0, 0, 0, ""]


def test_take_begins_a_new_interval() -> None:
    one = aggregator()
    one.add(from_far(1, 1000, 9000))
    one.take(HOP_10S)
    assert len(one.take(HOP_10S)) == 0
    one.add(from_far(1, 3000))
    batch = one.take(HOP_10S)
    assert [numbers(batch, name) for name in ("count", "sum_ns", "min_ns", "max_ns")] == [
        [1], [3000], [3000], [3000],
    ]  # fmt: skip


def test_coarser_intervals_are_the_sum_of_finer_ones() -> None:
    one = aggregator()
    for latency_ns in (1000, 5000, 3000):
        one.add(from_far(1, latency_ns))
        one.add(from_far(2, latency_ns, quality=Quality.RETRANSMIT))
        one.take(HOP_10S)
    for table in (HOP_1M, HOP_10M):
        batch = one.take(table)
        assert texts(batch, "src_workload") == ["far-1", "far-2"]
        columns = ("count", "retransmitted", "sum_ns", "min_ns", "max_ns")
        assert [numbers(batch, column) for column in columns] == [
            [3, 0], [0, 3], [9000, 0], [1000, 0], [5000, 0],
        ]  # fmt: skip


def test_series_differ_by_kind_ends_encap_and_context_but_not_by_pod() -> None:
    plan = parse_plan(
        "names: {pods: [{namespace: a, pod: w-0, workload: w, addresses: 10.2.0.1},"
        " {namespace: a, pod: w-1, workload: w, addresses: 10.2.0.2},"
        " {namespace: b, pod: w-0, workload: w, addresses: 10.2.0.3}]}"
    )
    namer = Namer()
    namer.update(plan, [], 0)
    one = Aggregator(namer)
    for source in ("10.2.0.1", "10.2.0.2", "10.2.0.3"):
        for kind in (Kind.FORWARD, Kind.RX):
            for encap in (Encap.NONE, Encap.VXLAN):
                for context in (ContextKind.NONE, ContextKind.W3C):
                    one.add(made(kind, source, "10.2.0.1", encap=encap, context=context))
    batch = one.take(HOP_10S)
    assert len(batch) == 16
    assert sorted(numbers(batch, "count")) == [1] * 8 + [2] * 8


def test_series_beyond_the_bound_are_merged_per_kind_and_counted() -> None:
    one = aggregator(max_series=2)
    for number in (1, 2, 3, 4, 3, 1):
        one.add(from_far(number, 1000 * number))
    one.add(from_far(5, 8000, kind=Kind.FORWARD))
    batch = one.take(HOP_10S)
    columns = ("kind", "src_ns", "src_workload", "dst_ns", "dst_workload", "service", "encap")
    assert list(zip(*(texts(batch, column) for column in columns), strict=True)) == [
        ("rx", "shop", "far-1", "shop", "web", "", "vxlan"),
        ("rx", "shop", "far-2", "shop", "web", "", "vxlan"),
        ("rx", "", "other", "", "other", "", ""),
        ("forward", "", "other", "", "other", "", ""),
    ]
    assert numbers(batch, "count") == [2, 1, 3, 1]
    assert numbers(batch, "sum_ns") == [2000, 2000, 10_000, 8000]
    assert numbers(batch, "max_ns") == [1000, 2000, 4000, 8000]
    assert one.counters()["series_other"] == 4


def test_series_beyond_the_bound_get_their_name_in_the_next_interval() -> None:
    one = aggregator(max_series=1)
    for number in (1, 2):
        one.add(from_far(number))
    one.take(HOP_10S)
    one.add(from_far(2))
    assert texts(one.take(HOP_10S), "src_workload") == ["far-2"]


def test_coarser_interval_has_its_own_bound_of_series() -> None:
    one = aggregator(max_series=2)
    for number in (1, 2, 3, 4):
        one.add(from_far(number))
        one.take(HOP_10S)
    batch = one.take(HOP_1M)
    assert texts(batch, "src_workload") == ["far-1", "far-2", "other"]
    assert numbers(batch, "count") == [1, 1, 2]
    assert one.counters() == {"series_other": 0, "series_other_1m": 2, "series_other_10m": 0}


def test_others_of_a_finer_interval_stay_others_in_a_coarser_one() -> None:
    one = aggregator(max_series=2)
    for number in (1, 2, 3):
        one.add(from_far(number))
    one.take(HOP_10S)
    batch = one.take(HOP_1M)
    assert texts(batch, "src_workload") == ["far-1", "far-2", "other"]
    assert numbers(batch, "count") == [1, 1, 1]


def test_add_returns_the_place_of_each_records_series() -> None:
    one = aggregator(max_series=2)
    assert [one.add(from_far(number)).tolist() for number in (1, 2, 3)] == [[0], [1], [2]]
    records = np.concatenate([from_far(number) for number in (2, 1, 4, 3, 2)])
    assert one.add(records).tolist() == [1, 0, 2, 2, 1]
    assert one.places == 10


def test_names_numbered_anew_do_not_mix_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.naming.namer.MAX_NAMES", 2)
    one = aggregator()
    for number in (1, 2, 3, 1, 2, 3, 3):
        one.add(from_far(number))
    batch = one.take(HOP_10S)
    assert dict(zip(texts(batch, "src_workload"), numbers(batch, "count"), strict=True)) == {
        "far-1": 2,
        "far-2": 2,
        "far-3": 3,
    }


BATCHES = st.lists(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans()), max_size=30), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(BATCHES, st.integers(1, 10), st.sets(st.integers(0, 7)))
def test_rows_of_every_table_add_up_to_the_records(
    batches: list[list[tuple[int, int, bool]]], max_series: int, ends_after: set[int]
) -> None:
    one = aggregator(max_series)
    rows: dict[str, list[Batch]] = {table.name: [] for table in SUMMARIES}

    def take(table: Table) -> None:
        rows[table.name].append(one.take(table))

    for turn, batch in enumerate(batches):
        records = made(second_ifindex=WEB, latencies_ns=tuple(latency for _, latency, _ in batch))
        for record, (number, _, is_again) in enumerate(batch):
            records["src"][record] = packed(f"10.2.0.{number}")
            records["quality"][record] = Quality.RETRANSMIT if is_again else 0
        one.add(records)
        if turn in ends_after:
            take(HOP_10S)
        if turn in ends_after and turn % 3 == 0:
            take(HOP_1M)
    for table in SUMMARIES:
        take(table)
    hops = [latency for batch in batches for _, latency, is_again in batch if not is_again]
    again = sum(is_again for batch in batches for _, _, is_again in batch)
    for taken in rows.values():
        assert sum(sum(numbers(batch, "count")) for batch in taken) == len(hops)
        assert sum(sum(numbers(batch, "retransmitted")) for batch in taken) == again
        assert sum(sum(numbers(batch, "sum_ns")) for batch in taken) == sum(hops)
        for part in taken:
            assert len(part) <= max_series + 1
            assert len(set(zip(*(texts(part, column) for column in SERIES), strict=True))) == len(part)
            histograms = merged(texts(part, "hist"), np.arange(len(part)), len(part))
            assert histograms.sum(axis=1).tolist() == numbers(part, "count")
            quarters = [sum(numbers(part, f"q{number:02}")) for number in range(80)]
            assert sum(quarters) == sum(numbers(part, "count"))
