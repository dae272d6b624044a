# SPDX-License-Identifier: Apache-2.0
import numpy as np

from agent.storing.events import Event, Events, event_batch

S = 1_000_000_000


def test_events_of_a_state_are_its_changes() -> None:
    events = Events()
    events.state("vports", "2", 10)
    events.state("vports", "2", 20)
    assert events.take(0) == [Event("vports", "2", "", 10)]
    events.state("vports", "3", 30)
    assert events.take(1) == [Event("vports", "3", "", 30)]
    assert events.take(2) == []


def test_events_new_detail_keeps_the_time_of_the_state() -> None:
    events = Events()
    events.state("store", "trouble", 10, "No space left")
    events.state("store", "trouble", 20, "Read-only file system")
    assert events.take(0) == [
        Event("store", "trouble", "No space left", 10),
        Event("store", "trouble", "Read-only file system", 10),
    ]


def test_events_every_ten_minutes_say_what_is_the_case() -> None:
    events = Events()
    events.state("agent", "started", 10, "pid 7")
    events.happened("clock", "stepped", 11, "by 5 s")
    events.state("vports", "2", 12)
    assert len(events.take(0)) == 3
    events.renamed("agent", "running")
    assert events.take(599 * S) == []
    events.state("vports", "3", 13)
    assert events.take(600 * S) == [Event("vports", "3", "", 13), Event("agent", "running", "pid 7", 10)]
    assert events.take(601 * S) == []
    assert events.take(1200 * S) == [Event("agent", "running", "pid 7", 10), Event("vports", "3", "", 13)]


def test_events_too_many_are_counted() -> None:
    events = Events()
    for number in range(1002):
        events.happened("clock", "stepped", number)
    taken = events.take(0)
    assert len(taken) == 1001
    assert taken[-1] == Event("events", "left out", "2", 999)


def test_events_long_detail_is_cut() -> None:
    events = Events()
    events.state("plan", "refused", 1, "x" * 5000)
    events.state("plan", "refused", 2, "x" * 5000)
    [event] = events.take(0)
    assert event.detail == "x" * 999 + "…"


def test_event_batch_has_a_row_for_each() -> None:
    batch = event_batch([Event("agent", "started", "pid 7", 5), Event("vports", "2", "", 6)])
    assert len(batch) == 2
    assert batch.table.name == "event"
    np.testing.assert_array_equal(batch.columns["since"], np.array([5, 6], np.int64))
