# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from agent.clock import Clock, ClockOffset
from agent.hops.intake import Intake
from agent.storing.chronicle import Chronicle
from agent.storing.output import Output, Totals
from bpf.record import RECORD, Kind, Quality
from tests.unit.agent.memory_sink import MemorySink

S = 1_000_000_000
START = 1_000 * S
QUIET = {"slot_busy": 0, "overwritten": 0, "slot_busy_second": 0, "ring_full": 0, "scratch_busy": 0}


def records(count: int, latency_ns: int = 1_000, retransmitted: int = 0) -> np.ndarray:
    rows = np.zeros(count, RECORD)
    rows["kind_message"] = Kind.RX
    rows["latency_ns"] = latency_ns
    rows["second_ns"] = START
    rows["seq"] = np.arange(count)
    rows["quality"][:retransmitted] = Quality.RETRANSMIT
    return rows


class Rig:
    def __init__(self) -> None:
        self.sink = MemorySink()
        self.chronicle = Chronicle(lambda: 5)
        self.intake = Intake()
        clock = Clock(lambda: ClockOffset(10 * S, 1, 2, 0, 0))
        self.output = Output(self.sink, self.intake, self.chronicle, clock, "boot", START)

    def poll(self, after_s: float, **counters: int) -> None:
        self.output.poll(START + int(after_s * S), lambda: QUIET | counters)

    def rows(self) -> dict[str, int]:
        return {table: rows for table, rows in self.sink.facts().appended.items() if table != "event"}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_output_samples_are_stored_every_second(rig: Rig) -> None:
    rig.intake.add(records(3))
    rig.poll(0.9)
    assert rig.rows() == {}
    rig.poll(1.0)
    assert rig.rows() == {"hop_sample": 3}
    assert rig.sink.column("hop_sample", "at_ns") == [START + 10 * S] * 3
    rig.intake.add(records(2))
    rig.poll(1.9)
    assert rig.rows() == {"hop_sample": 3}
    rig.poll(2.0)
    assert rig.rows() == {"hop_sample": 5}
    assert rig.sink.polled == [START + S, START + 2 * S]


def test_output_summaries_are_stored_when_their_interval_ends(rig: Rig) -> None:
    tables = []
    for second in range(1, 601):
        rig.intake.add(records(1))
        rig.poll(second)
        found = rig.rows()
        tables.append((found.get("hop_10s", 0), found.get("hop_1m", 0), found.get("hop_10m", 0)))
    assert tables[8] == (0, 0, 0)
    assert tables[9] == (1, 0, 0)
    assert tables[58] == (5, 0, 0)
    assert tables[59] == (6, 1, 0)
    assert tables[599] == (60, 10, 1)
    assert rig.sink.column("hop_10s", "count") == [10] * 60
    assert rig.sink.column("hop_1m", "count") == [60] * 10
    assert rig.sink.column("hop_10m", "count") == [600]


def test_output_intervals_that_were_slept_through_are_one(rig: Rig) -> None:
    rig.intake.add(records(4))
    rig.poll(35)
    rig.intake.add(records(1))
    rig.poll(39.9)
    assert rig.sink.column("hop_10s", "count") == [4]
    rig.poll(40)
    assert rig.sink.column("hop_10s", "count") == [4, 1]


def test_output_finish_stores_everything_and_adds_up(rig: Rig) -> None:
    rig.chronicle.started("program x")
    rig.intake.add(records(5, retransmitted=2))
    rig.poll(10)
    rig.intake.add(records(7))
    rig.output.finish(START + 11 * S, QUIET)
    assert rig.sink.closed == 1
    assert rig.output.facts().totals == Totals(hops=10, retransmitted=2, samples=12, samples_not_kept=0)
    assert rig.sink.column("hop_10s", "count") == [3, 7]
    assert rig.sink.column("hop_10s", "retransmitted") == [2, 0]
    assert rig.sink.column("hop_1m", "count") == [10]
    assert rig.sink.column("hop_10m", "count") == [10]
    events = list(zip(rig.sink.column("event", "what"), rig.sink.column("event", "state"), strict=True))
    assert events[0] == ("agent", "started")
    assert events[-1] == ("agent", "stopped")


def test_output_close_after_finish_does_nothing(rig: Rig) -> None:
    rig.output.finish(START + 11 * S, QUIET)
    rig.output.close(START + 12 * S)
    assert rig.sink.closed == 1


def test_output_close_without_finish_keeps_what_there_is_and_says_so(rig: Rig) -> None:
    rig.chronicle.started("program x")
    rig.intake.add(records(5))
    rig.output.close(START + 12 * S)
    assert rig.sink.column("hop_10s", "count") == [5]
    assert rig.sink.column("event", "state")[-1] == "failed"


def test_output_under_load_samples_and_the_rest_add_up(rig: Rig) -> None:
    rows = records(20_000)
    rows["seq"] = np.arange(20_000) * 2_654_435_761 % (1 << 32)
    rig.intake.add(rows)
    rig.output.finish(START + 11 * S, QUIET)
    totals = rig.output.facts().totals
    assert totals.hops == 20_000
    assert totals.samples + totals.samples_not_kept == 20_000
    assert 0 < totals.samples == rig.rows()["hop_sample"] < 20_000


def test_output_lost_hops_are_an_event_at_the_end_of_10_s(rig: Rig) -> None:
    rig.poll(9, ring_full=3)
    rig.poll(10, ring_full=3)
    rig.poll(20, ring_full=3)
    whats = rig.sink.column("event", "what")
    assert whats.count("lost") == 1
    assert rig.sink.column("event", "detail")[whats.index("lost")] == "ring_full 3"


def test_output_trouble_of_the_store_is_an_event(rig: Rig) -> None:
    rig.sink.error = "store /s: No space left on device"
    rig.poll(1)
    rig.sink.error = None
    rig.poll(2)
    states = [
        state
        for what, state in zip(
            rig.sink.column("event", "what"), rig.sink.column("event", "state"), strict=True
        )
        if what == "store"
    ]
    assert states == ["trouble", "good"]


def test_output_facts_have_what_naming_counted(rig: Rig) -> None:
    rig.intake.add(records(5))
    rig.poll(1)
    assert rig.output.facts().naming["unknown_source"] == 5


def test_output_row_times_ahead_of_the_clock_are_an_event(rig: Rig) -> None:
    rig.sink.ahead_ns = 60 * S
    rig.poll(1.0)
    rig.poll(2.0)
    assert rig.sink.column("event", "what").count("row times") == 1
