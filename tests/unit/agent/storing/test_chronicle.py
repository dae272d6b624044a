# SPDX-License-Identifier: Apache-2.0
from agent.hooks.points import Hook
from agent.plan.model import Plan
from agent.storing.child import ChildStatus
from agent.storing.chronicle import Chronicle
from agent.storing.presence import Predecessor
from bpf.record import Point

COUNTERS = {"slot_busy": 0, "overwritten": 0, "slot_busy_second": 0, "ring_full": 0, "scratch_busy": 0}


class Told:
    """A chronicle whose clock stands at `now_ns`."""

    def __init__(self) -> None:
        self.now_ns = 100
        self.chronicle = Chronicle(lambda: self.now_ns)

    def rows(self, mono_ns: int = 0) -> list[tuple[str, str, str, int]]:
        return [
            (event.what, event.state, event.detail, event.since_ns) for event in self.chronicle.take(mono_ns)
        ]


def test_chronicle_started_then_runs_then_stopped() -> None:
    told = Told()
    told.chronicle.started("program abc")
    first = told.rows()
    assert first[0][:2] == ("agent", "started")
    assert first[0][2].endswith(", program abc")
    assert told.rows(600_000_000_000)[0][:2] == ("agent", "running")
    told.now_ns = 200
    told.chronicle.stopped()
    assert [(what, state, since) for what, state, _, since in told.rows()] == [("agent", "stopped", 200)]


def test_chronicle_gap_is_since_the_last_sign() -> None:
    told = Told()
    told.chronicle.gap(Predecessor(pid=7, last_sign_ns=42))
    assert told.rows() == [("gap", "agent killed", "pid 7 did not end by itself", 42)]


def test_chronicle_plan_refused_and_followed_again() -> None:
    told = Told()
    plan = Plan(nic=("eth0", "eth1"))
    told.chronicle.plan_followed(plan, "abc")
    told.chronicle.plan_refused("plan.yaml:1:1: nik: unknown key")
    told.now_ns = 200
    told.chronicle.plan_followed(plan, "abc")
    assert told.rows() == [
        ("plan", "followed", "nic eth0, eth1, program abc", 100),
        ("plan", "refused", "plan.yaml:1:1: nik: unknown key", 100),
        ("plan", "followed", "nic eth0, eth1, program abc", 200),
    ]


def test_chronicle_lost_counts_what_is_new_since_the_last_look() -> None:
    told = Told()
    told.chronicle.counters(COUNTERS)
    told.now_ns = 200
    told.chronicle.counters(COUNTERS | {"ring_full": 5, "slot_busy": 1})
    told.now_ns = 300
    told.chronicle.counters(COUNTERS | {"ring_full": 5, "slot_busy": 1})
    told.now_ns = 400
    told.chronicle.counters(COUNTERS | {"ring_full": 7, "slot_busy": 1})
    assert told.rows() == [
        ("lost", "6", "slot_busy 1, ring_full 5", 100),
        ("lost", "2", "ring_full 2", 300),
    ]


def test_chronicle_states_of_the_node() -> None:
    told = Told()
    told.chronicle.vports(2)
    told.chronicle.vports(2)
    told.chronicle.nics_missing(())
    told.chronicle.nics_missing(("eth1",))
    told.chronicle.not_traced({"veth1": "EPERM"})
    told.chronicle.shadows({Hook(3, Point.NIC_IN): "cil_from"}, {3: "eth0"})
    told.chronicle.shadows({}, {3: "eth0"})
    told.chronicle.clock_stepped(-1_500_000_000)
    assert [row[:3] for row in told.rows()] == [
        ("vports", "2", ""),
        ("nic", "there", ""),
        ("nic", "eth1 missing", ""),
        ("attach", "1 failed", "veth1: EPERM"),
        ("shadowed", "by cil_from", "eth0 nic-in: cil_from"),
        ("shadowed", "no", ""),
        ("clock", "stepped", "by -1.500000 s"),
    ]


def test_chronicle_store_and_writer() -> None:
    told = Told()
    told.chronicle.store(None, 0)
    told.chronicle.store("store /s: No space left", 0)
    told.chronicle.store(None, 12)
    told.chronicle.child("writer", ChildStatus(7, elsewhere=False, deaths=0))
    told.chronicle.child("writer", ChildStatus(0, elsewhere=False, deaths=1))
    told.chronicle.child("writer", ChildStatus(0, elsewhere=True, deaths=1))
    assert [row[:3] for row in told.rows()] == [
        ("store", "good", ""),
        ("store", "trouble", "store /s: No space left"),
        ("store", "good", "12 rows dropped since the start"),
        ("writer", "running", ""),
        ("writer", "ended", "ended 1 times"),
        ("writer", "elsewhere", "ended 1 times"),
    ]


def test_chronicle_row_times_ahead_of_the_clock_are_told_at_begin_and_end() -> None:
    told = Told()
    told.chronicle.row_times(0)
    assert told.rows() == []
    told.chronicle.row_times(7_200_000_000_000)
    told.chronicle.row_times(7_199_000_000_000)
    assert told.rows() == [("row times", "ahead", "by 7,200 s", 100)]
    told.now_ns = 200
    told.chronicle.row_times(0)
    assert told.rows() == [("row times", "good", "", 200)]
