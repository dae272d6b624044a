# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from store.appender import Appender, Limits
from store.batch import Labels
from store.schema import EVENT, TABLES
from store.spool.lane import Lane, Piece, largest
from store.spool.position import Locked, Position, PositionFile, positions
from tests.unit.store.rows import events, segments

S = 1_000_000_000
MANY = 6000


DAMAGES = [lambda data: data[:0], lambda data: data[:20], lambda data: b"x" * len(data)]


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_700_000_000 * S

    def ns(self) -> int:
        self.now_ns += S
        return self.now_ns

    def s(self) -> float:
        return self.now_ns / S


@pytest.fixture
def clock() -> Clock:
    return Clock()


def appender(spool: Path, clock: Clock, segment_bytes: int = 16 << 20) -> Appender:
    limits = Limits(segment_bytes=segment_bytes, segment_age_s=1e9)
    return Appender(spool, "c", "n1", clock.ns, clock.s, limits)


def lane(spool: Path, position: Position | None = None) -> Lane:
    made = Lane(spool, EVENT, "n1", position or Position())
    made.look()
    return made


def details(piece: Piece | None) -> list[str]:
    assert piece is not None
    found: list[str] = []
    for frame in piece.frames:
        column = frame.columns["detail"]
        assert isinstance(column, Labels)
        found += column.texts().tolist()
    return found


def test_lane_gives_rows_of_an_open_segment_and_waits_for_more(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock) as rows:
        rows.append(events("a", "b"))
        one = lane(tmp_path / "s")
        piece = one.read()
        assert details(piece) == ["a", "b"]
        assert one.rows == 2
        assert piece is not None
        one.advance(piece)
        assert (one.read(), one.rows) == (None, 0)
        rows.append(events("c"))
        one.look()
        assert details(one.read()) == ["c"]
        assert one.rows == 1


def test_lane_gives_the_same_again_until_it_is_done_with(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock) as rows:
        rows.append(events("a"))
        one = lane(tmp_path / "s")
        assert details(one.read()) == details(one.read()) == ["a"]


def test_lane_removes_segments_that_were_sent_and_nobody_appends_to(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock, segment_bytes=1) as rows:
        for each in ("a", "b", "c"):
            rows.append(events(each))
        one = lane(tmp_path / "s")
        assert len(segments(tmp_path / "s")) == 3
        sent = []
        while (piece := one.read()) is not None:
            sent += details(piece)
            one.advance(piece)
        assert sent == ["a", "b", "c"]
        assert len(segments(tmp_path / "s")) == 1  # the appender has it open
    one.look()
    assert one.read() is None
    assert segments(tmp_path / "s") == []
    assert one.oldest_ns is None


def test_lane_goes_on_behind_its_position(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock) as rows:
        rows.append(events("a"))
        one = lane(tmp_path / "s")
        piece = one.read()
        assert piece is not None
        one.advance(piece)
        rows.append(events("b", "c"))
        two = lane(tmp_path / "s", Position(one.position.number, one.position.offset))
        assert details(two.read()) == ["b", "c"]
        assert two.rows == 2


def test_lane_removes_what_a_killed_forwarder_had_sent(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock, segment_bytes=1) as rows:
        rows.append(events("a"))
        rows.append(events("b"))
        one = lane(tmp_path / "s", Position(number=2))
        assert details(one.read()) == ["b"]
        assert [path.name for path in segments(tmp_path / "s")] == ["00000002.seg"]


def test_lane_bounds_a_piece(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock) as rows:
        for _ in range(3):
            rows.append(events(*["x"] * (MANY // 2)))
        piece = lane(tmp_path / "s").read()
        assert piece is not None
        assert piece.rows == MANY


def test_lane_skips_a_damaged_frame_and_counts_its_rows(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock) as rows:
        rows.append(events("a"))
        size = segments(tmp_path / "s")[0].stat().st_size
        rows.append(events("b", "c"))
        rows.append(events("d"))
    [path] = segments(tmp_path / "s")
    data = bytearray(path.read_bytes())
    data[size + 40] ^= 0xFF
    path.write_bytes(data)
    one = lane(tmp_path / "s")
    piece = one.read()
    assert piece is not None
    assert (details(piece), piece.damaged_rows) == (["a", "d"], 2)
    one.advance(piece)
    assert one.position.damaged == 2
    assert one.rows == 0
    assert one.read() is None
    assert segments(tmp_path / "s") == []


def test_lane_counts_a_segment_that_ends_in_no_rows(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock) as rows:
        rows.append(events("a"))
    with segments(tmp_path / "s")[0].open("ab") as file:
        file.write(b"rows and no more")
    one = lane(tmp_path / "s")
    piece = one.read()
    assert details(piece) == ["a"]
    assert piece is not None
    one.advance(piece)
    assert one.read() is None
    assert (one.position.torn, segments(tmp_path / "s")) == (1, [])


def test_lane_drops_old_segments_and_says_how_many_rows(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock, segment_bytes=1) as rows:
        rows.append(events("a", "b"))
        border_ns = clock.now_ns + S
        rows.append(events("c"))
        one = lane(tmp_path / "s")
        assert one.drop_before(border_ns) == 2
        assert one.drop_before(border_ns + 3600 * S) == 0  # the appender has it open
        assert details(one.read()) == ["c"]
        assert one.position.number == 2


def test_lane_drops_only_the_rows_that_were_not_sent(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "s", clock) as rows:
        rows.append(events("a"))
        one = lane(tmp_path / "s")
        piece = one.read()
        assert piece is not None
        one.advance(piece)
        rows.append(events("b", "c"))
    one.look()
    assert one.can_drop
    assert one.drop_first() == 2
    assert one.read() is None


def test_largest_is_the_lane_that_has_most_and_can_give(tmp_path: Path, clock: Clock) -> None:
    with appender(tmp_path / "a", clock, segment_bytes=1) as small:
        small.append(events("x"))
        small.append(events("x"))
        with appender(tmp_path / "b", clock) as large:
            large.append(events(*["yz"] * 5000))
            held = lane(tmp_path / "b")
            free = lane(tmp_path / "a")
            assert held.size_bytes > free.size_bytes
            assert largest([held, free]) is free
            assert largest([held]) is None


def test_position_file_survives_and_is_one_forwarders(tmp_path: Path) -> None:
    kept = PositionFile(tmp_path, "n1")
    kept.positions["event"].sent = 5
    kept.positions["hop_10s"].number = 7
    kept.keep(EVENT)
    with pytest.raises(Locked, match="another forwarder sends the rows of node 'n1'"):
        PositionFile(tmp_path, "n1")
    kept.close()
    again = PositionFile(tmp_path, "n1")
    assert again.positions["event"] == Position(sent=5)
    assert again.positions["hop_10s"] == Position()  # nobody kept it
    again.close()
    assert positions(tmp_path, "n1")["event"] == Position(sent=5)
    assert list(again.positions) == [table.name for table in TABLES]


@pytest.mark.parametrize("damage", DAMAGES)
def test_position_that_is_damaged_begins_anew(tmp_path: Path, damage: object) -> None:
    kept = PositionFile(tmp_path, "n1")
    kept.positions["event"].sent = 5
    kept.keep(EVENT)
    kept.close()
    path = tmp_path / "forwarders" / "n1"
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    again = PositionFile(tmp_path, "n1")
    assert again.positions["event"] == Position()
    again.close()


def test_position_file_knows_that_it_was_removed(tmp_path: Path) -> None:
    kept = PositionFile(tmp_path, "n1")
    assert not kept.is_gone()
    (tmp_path / "forwarders" / "n1").unlink()
    assert kept.is_gone()
    kept.close()
