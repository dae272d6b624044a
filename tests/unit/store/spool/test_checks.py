# SPDX-License-Identifier: Apache-2.0
"""A spool as it is seen from outside."""

from pathlib import Path

import pytest

from store.appender import Appender
from store.influxdb.checks import Check, State
from store.schema import EVENT, TABLES
from store.spool.checks import Waiting, check_spool, spool_check, waiting
from store.spool.position import Position, PositionFile
from tests.unit.store.compactors import NOON, S, Town
from tests.unit.store.rows import events, segments

UNSENT = {table.name: Position() for table in TABLES}


def sent(**values: int) -> dict[str, Position]:
    return UNSENT | {"event": Position(**values)}


@pytest.mark.parametrize(
    ("found", "positions", "is_sent", "state", "seen"),
    [
        (Waiting(), sent(sent=1200), True, State.OK, "1,200 rows sent; none waits"),
        (Waiting(), sent(sent=1200), False, State.OK, "1,200 rows sent; none waits"),
        (
            Waiting(5, 4000, NOON - 2 * S),
            sent(sent=7),
            True,
            State.OK,
            "7 rows sent; 5 wait (4,000 bytes), the oldest for 2 s",
        ),
        (
            Waiting(5, 4000, NOON - 180 * S),
            sent(sent=7),
            True,
            State.WARNING,
            "7 rows sent; 5 wait (4,000 bytes), the oldest for 180 s",
        ),
        (
            Waiting(5, 4000, NOON - 2 * S),
            sent(sent=7),
            False,
            State.WARNING,
            "7 rows sent; 5 wait (4,000 bytes), the oldest for 2 s; nobody sends them",
        ),
        (
            Waiting(),
            sent(sent=7, rejected=1, no_room=2, too_old=3, damaged=4),
            True,
            State.WARNING,
            "7 rows sent, 1 refused by the server, 2 lost because the spool was full, "
            "3 lost because they waited too long, 4 that could not be read; none waits",
        ),
    ],
)
def test_spool_check_says_what_waits_and_what_was_lost(
    found: Waiting, positions: dict[str, Position], is_sent: bool, state: State, seen: str
) -> None:
    check = spool_check("n1", found, positions, NOON, is_sent=is_sent)
    assert (check.name, check.state, check.seen) == ("spool of n1", state, seen)


def test_waiting_counts_rows_behind_the_position(tmp_path: Path) -> None:
    town = Town(tmp_path / "s")
    town.append("a", "b")
    town.append("c", "d", "e")
    first, second = segments(town.path)
    everything = waiting(town.path, "n1", UNSENT)
    assert (everything.rows, everything.oldest_ns) == (5, NOON + S)
    behind_first = waiting(town.path, "n1", sent(number=int(second.name.removesuffix(".seg"))))
    assert (behind_first.rows, behind_first.oldest_ns) == (3, NOON + 2 * S)
    inside = sent(number=int(first.name.removesuffix(".seg")), offset=first.stat().st_size)
    assert waiting(town.path, "n1", inside).rows == 3
    assert 0 < behind_first.size_bytes < second.stat().st_size
    assert first.exists()


def test_check_spool_of_each_node_sees_who_sends(tmp_path: Path) -> None:
    town = Town(tmp_path / "s")
    town.append("a", node="n1")
    town.append("b", node="n2")
    sender = PositionFile(town.path, "n1")
    sender.positions["event"].sent = 12
    sender.keep(EVENT)
    try:
        one, two = check_spool(town.path, town.now_ns)
    finally:
        sender.close()
    assert (one.name, one.state) == ("spool of n1", State.OK)
    assert one.seen.startswith("12 rows sent; 1 wait (")
    assert (two.name, two.state, two.advice) == ("spool of n2", State.WARNING, "start the agent of that node")


def test_check_spool_changes_nothing(tmp_path: Path) -> None:
    town = Town(tmp_path / "s")
    town.append("a")
    before = {path: path.stat().st_mtime_ns for path in town.path.rglob("*")}
    [*check_spool(town.path, town.now_ns)]
    assert {path: path.stat().st_mtime_ns for path in town.path.rglob("*")} == before


def test_check_spool_of_an_embedded_store_or_of_nothing_says_nothing(tmp_path: Path) -> None:
    assert [*check_spool(tmp_path / "nothing", NOON)] == []
    with Appender(tmp_path / "s", "c", "n1") as appender:
        appender.append(events("a"))
    (tmp_path / "s" / "writer.lock").touch()
    assert [*check_spool(tmp_path / "s", NOON)] == []


def test_check_spool_that_is_a_file_is_skipped_and_said(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "appenders").touch()
    [check] = check_spool(tmp_path / "spool", NOON)
    expected = f"{tmp_path / 'spool'}: Not a directory"
    assert check == Check("spool", State.SKIPPED, expected, "run it as who runs the agent")
