# SPDX-License-Identifier: Apache-2.0
import logging
import os
import time
from pathlib import Path

import pytest

from agent.storing.child import ChildStatus, Supervisor
from agent.storing.events import Event, event_batch
from agent.storing.presence import Predecessor, Presence
from agent.storing.store import StoreFacts, StoreOutput
from store.appender import Appender
from store.query import StoreError
from store.segment import SegmentReader
from tests.accept.verdict import until

BATCH = event_batch([Event("vports", "2", "", 5)])


class QuietProcess:
    pid = 77
    ended_after_s = 0.0

    def poll(self) -> int | None:
        return None

    def said(self) -> str:
        return ""

    def told(self) -> str:
        return ""

    def end(self, timeout_s: float) -> None:
        self.ended_after_s = timeout_s

    def close(self) -> None:
        pass


def output(path: Path, process: QuietProcess | None = None) -> StoreOutput:
    return StoreOutput(path, "c", "n1", Supervisor(lambda: process or QuietProcess()))


def states(store: Path) -> list[str]:
    found: list[str] = []
    for path in sorted((store / "event" / "n1").glob("*.seg")):
        with SegmentReader(path) as reader:
            for frame in reader:
                column = frame.columns["state"]
                found += list(column.texts())  # type: ignore[union-attr]  # a text column
    return found


def test_store_output_rows_are_there_at_once(tmp_path: Path) -> None:
    sink = output(tmp_path / "s")
    sink.append(BATCH)
    assert states(tmp_path / "s") == ["2"]
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    sink.close()


def test_store_output_facts_before_and_after_the_end(tmp_path: Path) -> None:
    process = QuietProcess()
    sink = output(tmp_path / "s", process)
    sink.append(BATCH)
    sink.poll(0)
    before = StoreFacts(
        str(tmp_path / "s"), appended={"event": 1}, writer=ChildStatus(77, elsewhere=False, deaths=0)
    )
    assert sink.facts() == before
    sink.close()
    sink.close()
    assert process.ended_after_s == 5.0
    assert sink.facts() == StoreFacts(str(tmp_path / "s"), appended={"event": 1})


def test_store_output_good_end_leaves_no_predecessor(tmp_path: Path) -> None:
    output(tmp_path / "s").close()
    sink = output(tmp_path / "s")
    assert sink.predecessor is None
    sink.close()


def test_store_output_killed_agent_is_the_predecessor(tmp_path: Path) -> None:
    output(tmp_path / "s").close()
    Presence(tmp_path / "s", "n1").begin()
    os.utime(tmp_path / "s" / "agents" / "n1", ns=(9_000, 9_000))
    sink = output(tmp_path / "s")
    assert sink.predecessor == Predecessor(os.getpid(), 9_000)
    sink.close()


def test_store_output_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(StoreError, match="not empty and no store"):
        output(tmp_path)


def test_store_output_trouble_is_said_once_at_its_begin_and_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = tmp_path / "s"
    sink = output(store)
    (store / "event").write_text("in the way")
    sink.append(BATCH)
    for mono_ns in range(3):
        sink.poll(mono_ns)
    assert sink.facts().error is not None
    assert sink.facts().waiting == {"event": 1}
    (store / "event").unlink()
    sink.close()
    assert [record.message for record in caplog.records] == ["rows cannot be stored, they wait in memory"]
    assert sink.facts().appended == {"event": 1}


def test_store_output_rows_that_fell_out_are_named_when_trouble_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "s"
    sink = output(store)
    (store / "event").write_text("in the way")
    for _ in range(20):  # 1 MB each, half of that compressed; 8 MiB may wait
        sink.append(event_batch([Event("plan", "refused", os.urandom(500).hex(), 5) for _ in range(1000)]))
    sink.poll(0)
    dropped = sink.facts().dropped["event"]
    assert 0 < dropped < 20_000
    (store / "event").unlink()

    def look() -> bool:
        sink.poll(1)
        return sink.facts().error is None

    assert until(look, bool, 20.0)
    assert sink.facts().appended == {"event": 20_000 - dropped}
    assert [record.message for record in caplog.records] == [
        "rows cannot be stored, they wait in memory",
        "rows are stored again",
    ]
    assert caplog.records[1].__dict__["dropped"] == {"event": dropped}
    sink.close()
    assert len(caplog.records) == 2


def test_store_output_rows_that_wait_at_the_end_are_lost_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = output(tmp_path / "s")
    (tmp_path / "s" / "event").write_text("in the way")
    sink.append(BATCH)
    sink.poll(0)
    sink.close()
    assert caplog.records[-1].message == "rows were not stored"
    assert caplog.records[-1].__dict__["dropped"] == {"event": 1}
    assert sink.facts().dropped == {"event": 1}


def test_store_output_row_times_ahead_of_the_clock_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "s"
    until_ns = time.time_ns() + 3_600_000_000_000
    with Appender(store, "c", "n1", clock=lambda: until_ns) as early:
        early.append(BATCH)
    sink = output(store)
    for mono_ns in range(3):
        sink.poll(mono_ns)
    assert 3_500_000_000_000 < sink.facts().ahead_ns <= 3_600_000_000_000
    assert [record.message for record in caplog.records] == [
        "row times are ahead of the clock, which was set back"
    ]
    sink.close()
