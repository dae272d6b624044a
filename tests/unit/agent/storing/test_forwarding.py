# SPDX-License-Identifier: Apache-2.0
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.storing.child import ChildStatus, Supervisor
from agent.storing.events import Event, event_batch
from agent.storing.forwarding import OVERFULL, ForwardConfig, Forwarding
from agent.storing.store import StoreFacts, StoreOutput, server_output
from store.query import StoreError
from store.schema import EVENT, HOP_10S
from store.spool.facts import SpoolFacts
from tests.unit.store.hops import batch
from tests.unit.store.rows import stored

S = 1_000_000_000
BATCH = event_batch([Event("vports", "2", "two", 5)])


class TellingProcess:
    """A forwarder that says what a test wants it to."""

    pid = 77

    def __init__(self) -> None:
        self.says = ""

    def poll(self) -> int | None:
        return None

    def said(self) -> str:
        return ""

    def told(self) -> str:
        text, self.says = self.says, ""
        return text

    def end(self, timeout_s: float) -> None:
        assert timeout_s >= 15

    def close(self) -> None:
        """Nothing is open."""


def config(spool: Path, target: str = "influxdb1://h/", spool_bytes: int = 1 << 30) -> ForwardConfig:
    return ForwardConfig(target, None, None, spool, spool_bytes, 1e6, 1e4)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> TellingProcess:
    """The process of every forwarder that is made."""
    process = TellingProcess()

    def supervised(_: object, what: str, hear: Callable[[str], None], timeout_s: float) -> Supervisor:
        return Supervisor(lambda: process, what, hear, timeout_s)

    monkeypatch.setattr("agent.storing.forwarding.Supervisor", supervised)
    return process


def output(spool: Path, told: TellingProcess, target: str = "influxdb1://h/") -> StoreOutput:
    assert told is not None
    made = config(spool, target)
    return StoreOutput(spool, "c", "n1", forwarding=Forwarding(made, "n1"), shown=str(made.parsed_target()))


def test_server_output_rows_are_in_the_spool_at_once(tmp_path: Path, told: TellingProcess) -> None:
    sink = output(tmp_path / "s", told)
    sink.append(BATCH)
    sink.poll(0)
    assert stored(tmp_path / "s") == ["two"]
    facts = sink.facts()
    assert (facts.path, facts.sends, facts.appended) == ("influxdb1://h:8086/", True, {"event": 1})
    assert facts.writer == ChildStatus(77, elsewhere=False, deaths=0)
    sink.close()


def test_server_output_tells_what_the_forwarder_tells(
    tmp_path: Path, told: TellingProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    sink = output(tmp_path / "s", told)
    sink.poll(0)
    facts = SpoolFacts(error="nobody answers", error_since_ns=5, waiting={"event": 3}, no_room={"event": 2})
    told.says = facts.as_text() + "\n"
    sink.poll(S)
    assert sink.facts().spool == facts
    assert (sink.facts().trouble, sink.facts().trouble_since_ns, sink.facts().lost) == (
        "nobody answers",
        5,
        2,
    )
    told.says = SpoolFacts(no_room={"event": 9}).as_text() + "\n"
    sink.poll(2 * S)
    assert sink.facts().trouble is None
    assert [record.message for record in caplog.records] == [
        "rows cannot be sent, they wait in the spool",
        "rows are sent again",
        "rows fell out of the spool",
    ]
    told.says = "nonsense\n"
    sink.poll(3 * S)
    assert caplog.records[-1].message == "the forwarder cannot be understood"
    assert sink.facts().lost == 9
    sink.close()


def test_server_output_of_victoriametrics_keeps_summaries_only_and_counts_the_rest(
    tmp_path: Path, told: TellingProcess
) -> None:
    sink = output(tmp_path / "s", told, target="victoriametrics://h/")
    sink.append(BATCH)
    sink.append(batch(HOP_10S, {"count": 1}))
    assert (sink.facts().appended, sink.facts().not_taken) == ({"hop_10s": 1}, {EVENT.name: 1})
    sink.close()


def test_server_output_whose_spool_nobody_empties_stops_writing_and_says_so(
    tmp_path: Path, told: TellingProcess
) -> None:
    limit = 500
    forwarding = Forwarding(config(tmp_path / "s", spool_bytes=limit), "n1")
    sink = StoreOutput(tmp_path / "s", "c", "n1", forwarding=forwarding)
    for _ in range(10):
        sink.append(BATCH)
    size = sum(path.stat().st_size for path in (tmp_path / "s" / "event" / "n1").iterdir())
    assert size > OVERFULL * limit
    sink.poll(0)
    sink.append(BATCH)
    assert "it is full and the forwarder makes no room" in str(sink.facts().error)
    assert sink.facts().waiting == {"event": 1}
    sink.close()


def test_forwarding_into_an_embedded_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "writer.lock").touch()
    with pytest.raises(StoreError, match="it is an embedded store: give another directory"):
        Forwarding(config(tmp_path), "n1")


def test_embedded_store_in_a_spool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "forwarders").mkdir()
    with pytest.raises(StoreError, match="it is a spool, whose rows go to a server"):
        StoreOutput(tmp_path, "c", "n1")


def test_server_output_with_a_token_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    missing = ForwardConfig("influxdb2://h/", tmp_path / "no", None, tmp_path / "s", 1 << 30, 1e6, 1e4)
    with pytest.raises(StoreError, match=r"token file .*/no: No such file or directory"):
        server_output(missing, "c", "n1")


def test_store_facts_without_a_server_have_their_own_trouble_only() -> None:
    facts = StoreFacts("/s", error="disk full", error_since_ns=3, dropped={"event": 4})
    assert (facts.trouble, facts.trouble_since_ns, facts.lost) == ("disk full", 3, 4)
