# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import ClockOffset
from agent.hops import sampling
from agent.hops.sampling import Sampler, trace_hashes
from agent.naming.names import Names
from bpf.record import ContextKind, Encap, Kind, Quality
from store.batch import Batch, Labels
from tests.unit.agent.made_records import SECOND_NS, made, traced

CLOCK = ClockOffset(
    offset_ns=1_700_000_000 * SECOND_NS,
    bound_ns=40,
    maxerror_ns=5_000,
    tai_offset_ns=0,
    taken_at_mono_ns=0,
)
NAMES = Names()
NAMES.code(("rx", "request", "shop", "far-0", "far", "shop", "web-1", "web", "shop/web", "vxlan", "w3c"))
NAMES.code(("tx", "request", "", "", "external", "shop", "db-0", "db", "", "none", "none"))


class Sampling:
    """A sampler whose records are of one series, and its time."""

    def __init__(self, places: int = 4) -> None:
        self.sampler = Sampler(places)
        self.now_ns = SECOND_NS

    def add(self, records: np.ndarray, place: int = 0) -> None:
        self.sampler.add(
            records, np.zeros(len(records), np.intp), np.full(len(records), place, np.intp), NAMES
        )

    def second(self, records: np.ndarray, parts: int = 1) -> Batch:
        for part in np.array_split(records, parts):
            self.add(part)
        return self.take()

    def take(self) -> Batch:
        self.now_ns += SECOND_NS
        return self.sampler.take(CLOCK, "boot-1", self.now_ns)


def numbers(batch: Batch, column: str) -> list[int]:
    found = batch.columns[column]
    assert not isinstance(found, Labels)
    return [int(number) for number in found.tolist()]


def test_take_is_every_column_of_a_sample() -> None:
    record = made(
        Kind.TX,
        "10.1.0.1",
        "fd00::7",
        first_ifindex=11,
        second_ifindex=2,
        dst_before="10.96.0.10",
        sport=40001,
        dport=8080,
        dport_before=80,
        quality=Quality.DNAT,
        latencies_ns=(2500,),
        at_ns=7 * SECOND_NS,
        trace=0x0AF7651916CD43DD8448EB211C80319C,
        context=ContextKind.W3C,
        encap=Encap.VXLAN,
    )
    record["span_id"] = np.void(bytes.fromhex("b7ad6b7169203331"))
    for name, value in (("seq", 5), ("ack", 6), ("vni", 9), ("payload_len", 134), ("first_wait_ns", 77),
                        ("context_offset", 62), ("segments", 2), ("trace_flags", 1)):  # fmt: skip
        record[name] = value
    one = Sampler(4)
    one.add(record, np.array([0]), np.array([0]), NAMES)
    batch = one.take(CLOCK, "boot-1", SECOND_NS)
    found = {
        name: column.texts()[0] if isinstance(column, Labels) else int(column[0])
        for name, column in batch.columns.items()
    }
    assert found == {
        "kind": "rx", "message": "request", "src_ns": "shop", "src_pod": "far-0", "src_workload": "far",
        "dst_ns": "shop", "dst_pod": "web-1", "dst_workload": "web", "service": "shop/web",
        "encap": "vxlan", "context": "w3c",
        "at_ns": 1_700_000_007 * SECOND_NS, "mono_ns": 7 * SECOND_NS, "boot_id": "boot-1",
        "clock_bound_ns": 40, "clock_maxerror_ns": 5_000,
        "trace_hi": 0x0AF7651916CD43DD, "trace_lo": 0x8448EB211C80319C, "span": 0xB7AD6B7169203331,
        "src_hi": 0, "src_lo": 0x0000FFFF0A010001, "dst_hi": 0xFD00000000000000, "dst_lo": 7,
        "dst_before_hi": 0, "dst_before_lo": 0x0000FFFF0A60000A,
        "sport": 40001, "dport": 8080, "sport_before": 40001, "dport_before": 80,
        "latency_ns": 2500, "seq": 5, "ack": 6, "vni": 9, "first_ifindex": 11, "second_ifindex": 2,
        "payload_bytes": 134, "first_wait_ns": 77, "context_offset": 62, "segments": 2,
        "trace_flags": 1, "quality": 8, "tail": 0, "kept_shift": 0,
    }  # fmt: skip


def test_take_of_nothing_is_a_batch_without_rows() -> None:
    assert len(Sampling().take()) == 0


def test_hash_of_a_trace_is_the_kernels() -> None:
    records = np.concatenate(
        [made(trace=0x0AF7651916CD43DD8448EB211C80319C), made(trace=7 << 64 | 9), made(trace=1)]
    )
    assert [hex(number) for number in trace_hashes(records).tolist()] == [
        "0xb62effd90a63cd53",
        "0x9c0df725cc76986",
        "0xc2b2ae3d27d4eb4f",
    ]


def test_hash_without_context_is_of_seq_and_ack() -> None:
    records = np.repeat(made(context=ContextKind.NONE), 2)
    records["seq"], records["ack"] = 3, 4
    records["vni"], records["latency_ns"] = (8, 9), (10, 11)
    assert [hex(number) for number in trace_hashes(records).tolist()] == ["0xab0c7b2b711e45ec"] * 2


def test_every_hop_is_kept_at_a_thousand_a_second() -> None:
    one = Sampling()
    for second in range(20):
        batch = one.second(traced(1000, second), parts=20)
        assert len(batch) == 1000
        assert set(numbers(batch, "kept_shift")) == {0}
    assert one.sampler.counters() == {"samples": 20_000, "samples_tail": 0, "samples_not_kept": 0}


def test_a_short_burst_is_kept_whole() -> None:
    one = Sampling()
    batch = one.second(traced(4500), parts=10)
    assert len(batch) == 4500
    assert set(numbers(batch, "tail")) == {0}


def test_every_hop_is_kept_if_rows_are_taken_late() -> None:
    one = Sampling()
    one.take()
    for _ in range(20):  # 900 a second; the credit alone would not do
        for _ in range(3):
            one.add(traced(900, second_ns=one.now_ns + 3 * SECOND_NS))
        one.now_ns += 2 * SECOND_NS
        batch = one.take()
        assert len(batch) == 2700
    assert one.sampler.shift == 0


@pytest.mark.parametrize("rate", [1_500, 8_000, 60_000])
def test_about_a_thousand_a_second_remain_under_load(rate: int) -> None:
    one = Sampling()
    batches = [one.second(traced(rate, second), parts=5) for second in range(16)]
    assert all(len(batch) <= 5_000 + 3 * 5 for batch in batches)
    settled = [numbers(batch, "tail").count(0) for batch in batches[8:]]
    assert all(400 <= kept <= 1_100 for kept in settled)
    counted = one.sampler.counters()
    assert sum(counted.values()) == 16 * rate
    assert counted["samples"] + counted["samples_tail"] == sum(len(batch) for batch in batches)


def test_shift_does_not_flap_under_steady_load() -> None:
    one = Sampling()
    shifts = []
    for second in range(40):
        one.second(traced(5_000, second), parts=5)
        shifts.append(one.sampler.shift)
    assert len(set(shifts[10:])) == 1


def test_shift_falls_step_by_step_once_there_is_room() -> None:
    one = Sampling()
    for second in range(6):
        one.second(traced(60_000, second), parts=5)
    assert one.sampler.shift >= 6
    shifts = []
    for second in range(10):
        one.second(traced(200, 100 + second))
        shifts.append(one.sampler.shift)
    assert shifts[-1] == 0
    assert all(before - after in (0, 1) for before, after in pairwise(shifts))


def test_kept_hops_are_whole_traces() -> None:
    one = Sampling()
    one.sampler.shift = 3
    records = traced(500)
    batch = one.second(np.concatenate([records, records, records]), parts=4)
    kept = [trace for trace, tail in zip(numbers(batch, "trace_lo"), numbers(batch, "tail"), strict=True)
            if not tail]  # fmt: skip
    assert kept
    assert {kept.count(trace) for trace in kept} == {3}


def test_a_larger_shift_keeps_a_part_of_what_a_smaller_keeps() -> None:
    kept = []
    for shift in (2, 4):
        one = Sampling()
        one.sampler.shift = shift
        batch = one.second(traced(900))
        kept.append({seq for seq, tail in zip(numbers(batch, "seq"), numbers(batch, "tail"), strict=True)
                     if not tail})  # fmt: skip
        assert set(numbers(batch, "kept_shift")) == {shift}
    assert kept[1] < kept[0]


def test_ids_made_to_be_kept_are_bounded_and_counted() -> None:
    one = Sampling()
    records = np.repeat(made(trace=1), 20_000)
    records["trace_id"] = np.void(bytes(16))  # its hash is 0
    batch = one.second(records, parts=10)
    assert numbers(batch, "tail").count(0) == 5_000
    assert one.sampler.counters()["samples_not_kept"] == 20_000 - len(batch)


def loaded(latencies_ns: list[int], place: int = 0, sampler: Sampling | None = None) -> Sampling:
    """A sampler that keeps next to nothing by hash, with these hops."""
    one = sampler or Sampling()
    one.sampler.shift = 20
    records = traced(len(latencies_ns), seed=7)
    records["latency_ns"] = latencies_ns
    one.add(records, place)
    return one


def test_tails_are_the_slowest_of_each_series() -> None:
    one = loaded([5, 90, 20, 80, 70, 10])
    loaded([2, 1, 4, 3], place=1, sampler=one)
    batch = one.take()
    assert sorted(numbers(batch, "latency_ns")) == [2, 3, 4, 70, 80, 90]
    assert set(numbers(batch, "tail")) == {1}


def test_tails_of_several_batches_are_the_slowest_of_all() -> None:
    one = loaded([50, 60, 70, 80])
    loaded([65, 10, 20], sampler=one)
    loaded([75, 90], sampler=one)
    assert sorted(numbers(one.take(), "latency_ns")) == [75, 80, 90]


def test_tails_are_given_once_and_later_only_slower_ones() -> None:
    one = loaded([50, 60, 70])
    assert len(one.take()) == 3
    loaded([55, 65, 40], sampler=one)
    assert sorted(numbers(one.take(), "latency_ns")) == [65]
    loaded([55, 61], sampler=one)
    assert numbers(one.take(), "latency_ns") == [61]


def test_tails_begin_anew_with_each_interval() -> None:
    one = loaded([500, 600, 700, 10])
    one.sampler.new_interval()
    loaded([1, 2, 3, 4], sampler=one)
    assert sorted(numbers(one.take(), "latency_ns")) == [2, 3, 4, 500, 600, 700]


def test_tail_that_is_kept_by_hash_is_there_once_and_unflagged() -> None:
    one = Sampling()
    one.sampler.shift = 1
    records = traced(200)
    records["latency_ns"] = np.arange(200)
    batch = one.second(records, parts=3)
    assert len(set(numbers(batch, "seq"))) == len(batch)
    flagged = [seq for seq, tail in zip(numbers(batch, "seq"), numbers(batch, "tail"), strict=True) if tail]
    assert {197, 198, 199} <= set(numbers(batch, "seq"))
    assert set(flagged) < {197, 198, 199}


def test_retransmitted_hops_are_no_tails() -> None:
    one = Sampling()
    one.sampler.shift = 20
    one.add(traced(5, latency_ns=10**9, quality=Quality.RETRANSMIT))
    assert len(one.take()) == 0


def test_many_tails_are_bounded_while_nobody_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_PENDING_TAILS", 10)
    one = Sampling()
    for latency_ns in range(1, 100):
        loaded([latency_ns], sampler=one)
    assert sorted(numbers(one.take(), "latency_ns")) == [97, 98, 99]


def test_names_of_different_numberings_stay_with_their_records() -> None:
    other = Names()
    other.code(("forward", "request", "", "", "host", "", "", "external", "", "none", "none"))
    one = Sampler(4)
    both = np.array([1, 0])
    one.add(traced(2), both, np.zeros(2, np.intp), NAMES)
    one.add(traced(2), np.zeros(2, np.intp), np.zeros(2, np.intp), other)
    one.add(traced(1), np.array([1]), np.zeros(1, np.intp), NAMES)
    kinds = one.take(CLOCK, "boot-1", SECOND_NS).columns["kind"]
    assert isinstance(kinds, Labels)
    assert kinds.texts().tolist() == ["tx", "rx", "forward", "forward", "tx"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.booleans(), st.booleans()), max_size=12), st.integers(0, 9)
)
def test_every_hop_is_a_sample_once_or_counted(steps: list[tuple[int, bool, bool]], seed: int) -> None:
    one = Sampling()
    rng = np.random.default_rng(seed)
    found: list[int] = []
    seen = 0
    for hops, is_taken, is_new_interval in steps:
        records = traced(hops, seed + seen)
        records["seq"] = np.arange(seen, seen + hops)
        records["latency_ns"] = rng.integers(0, 5000, hops)
        seen += hops
        if hops:
            one.sampler.add(records, np.zeros(hops, np.intp), rng.integers(0, 4, hops), NAMES)
        if is_new_interval:
            one.sampler.new_interval()
        if is_taken:
            found += numbers(one.take(), "seq")
    found += numbers(one.take(), "seq")
    assert len(set(found)) == len(found)
    counted = one.sampler.counters()
    assert counted["samples"] + counted["samples_tail"] == len(found)
    assert sum(counted.values()) == seen
