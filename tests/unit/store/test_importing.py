# SPDX-License-Identifier: Apache-2.0
"""An embedded store into a server that is only imagined."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from store.importing import import_store
from store.influxdb.http import Unreachable
from store.influxdb.target import parse_target
from store.query import Span
from store.schema import EVENT, Table
from tests.unit.store.compactors import EVER, NOON, S, Town

TARGET = parse_target("influxdb2://h/")
OTHER = parse_target("influxdb2://h/?prefix=over_hop")
DAY_S = 86_400


class Kept:
    """A sender that keeps lines by their tags and time, and fails or refuses as it is told."""

    clock_ns: int | None = None

    def __init__(
        self, fails_after: int | None = None, refuses: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        self.lines: dict[bytes, bytes] = {}
        self.sent = 0
        self._left, self._refuses = fails_after, refuses

    def send(self, table: Table, lines: Sequence[bytes]) -> int:
        assert table is EVENT
        if self._left is not None and self._left <= 0:
            raise Unreachable("gone")
        self._left = None if self._left is None else self._left - 1
        self.sent += len(lines)
        good = [line for line in lines if not self._refuses(line)]
        self.lines |= {line.split(b" ")[0] + line.rsplit(b" ", 1)[1]: line for line in good}
        return len(lines) - len(good)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """Events of two nodes, 61 s apart so that each is in a segment of its own."""
    town = Town(tmp_path / "s")
    for number in range(4):
        town.now_ns += 61 * S
        town.append(f"a{number}", node="n1")
        town.append(f"b{number}", node="n2")
    return town


def progress(town: Town) -> list[Path]:
    return sorted((town.path / "imports").iterdir())


def test_import_sends_each_row_with_its_time(town: Town) -> None:
    kept = Kept()
    done = import_store(town.path, TARGET, kept, EVER, town.now_ns)
    assert done.read == done.written == {"event": 8}
    assert len(kept.lines) == 8
    assert kept.lines[b"event,cluster=c,node=n1,what=agent" + str(NOON + 62 * S).encode()].startswith(
        b"event,"
    )
    assert progress(town) == []


def test_import_of_compacted_rows_is_the_same(town: Town) -> None:
    before = Kept()
    import_store(town.path, TARGET, before, EVER, town.now_ns)
    town.now_ns += 7200 * S
    town.compactor().round()
    after = Kept()
    import_store(town.path, TARGET, after, EVER, town.now_ns)
    assert any(name.endswith(".parquet") for name in town.files())
    assert after.lines == before.lines


def test_import_counts_rows_that_are_too_old_and_refused(town: Town) -> None:
    kept = Kept(refuses=lambda line: b'"b3"' in line)
    now_ns = NOON + 400 * DAY_S * S + 100 * S
    done = import_store(town.path, TARGET, kept, EVER, now_ns)
    assert (done.read["event"], done.written["event"]) == (8, 5)
    assert (done.too_old["event"], done.rejected["event"]) == (2, 1)


@pytest.mark.parametrize(("kept_s", "too_old"), [({}, 8), ({"event": 500 * DAY_S}, 0), ({"event": 0}, 0)])
def test_import_goes_by_how_long_the_server_keeps_rows(
    town: Town, kept_s: dict[str, int], too_old: int
) -> None:
    now_ns = NOON + 450 * DAY_S * S
    done = import_store(town.path, TARGET, Kept(), EVER, now_ns, kept_s=kept_s)
    assert done.too_old["event"] == too_old


def test_import_that_fails_goes_on_behind_what_was_sent(town: Town) -> None:
    with pytest.raises(Unreachable):
        import_store(town.path, TARGET, Kept(fails_after=1), EVER, town.now_ns)
    kept = Kept()
    done = import_store(town.path, TARGET, kept, EVER, town.now_ns)
    assert done.is_continued
    assert (done.read["event"], kept.sent) == (4, 4)
    assert progress(town) == []


def test_import_into_another_server_begins_from_the_start(town: Town) -> None:
    with pytest.raises(Unreachable):
        import_store(town.path, TARGET, Kept(fails_after=1), EVER, town.now_ns)
    done = import_store(town.path, OTHER, Kept(), EVER, town.now_ns)
    assert (done.is_continued, done.read["event"]) == (False, 8)
    assert len(progress(town)) == 1


def test_import_of_earlier_rows_than_the_one_before_begins_from_the_start(town: Town) -> None:
    with pytest.raises(Unreachable):
        import_store(town.path, TARGET, Kept(fails_after=1), Span(NOON + 150 * S, EVER.until_ns), town.now_ns)
    done = import_store(town.path, TARGET, Kept(), EVER, town.now_ns)
    assert (done.is_continued, done.read["event"]) == (False, 8)


def test_import_of_later_rows_than_the_one_before_goes_on(town: Town) -> None:
    with pytest.raises(Unreachable):
        import_store(town.path, TARGET, Kept(fails_after=1), EVER, town.now_ns)
    done = import_store(town.path, TARGET, Kept(), Span(1, EVER.until_ns), town.now_ns)
    assert (done.is_continued, done.read["event"]) == (True, 4)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"since_ns": 0}', '{"since_ns": 0, "until_ns": {"event/n1": "x"}}']
)
def test_import_with_damaged_progress_begins_from_the_start(town: Town, content: str) -> None:
    with pytest.raises(Unreachable):
        import_store(town.path, TARGET, Kept(fails_after=1), EVER, town.now_ns)
    [path] = progress(town)
    path.write_text(content)
    assert import_store(town.path, TARGET, Kept(), EVER, town.now_ns).read["event"] == 8


def test_import_notes_progress_up_to_the_last_row_that_it_saw(town: Town) -> None:
    """What an agent appends meanwhile is not taken for sent."""
    with pytest.raises(Unreachable):
        import_store(town.path, TARGET, Kept(fails_after=1), EVER, town.now_ns)
    [path] = progress(town)
    last_ns = json.loads(path.read_text())["until_ns"]["event/n1"] - 1
    assert last_ns == town.now_ns - S
    town.append("late", node="n1")
    kept = Kept()
    import_store(town.path, TARGET, kept, EVER, town.now_ns)
    assert any(b"late" in line for line in kept.lines.values())


def test_import_of_row_times_ahead_of_the_clock_brings_them(town: Town) -> None:
    done = import_store(town.path, TARGET, Kept(), EVER, NOON - DAY_S * S)
    assert done.written["event"] == 8


def test_import_of_a_damaged_file_names_it_and_brings_the_rest(town: Town) -> None:
    [first, *_] = sorted((town.path / "event" / "n1").iterdir())
    data = bytearray(first.read_bytes())
    data[-1] ^= 0xFF
    first.write_bytes(bytes(data))
    done = import_store(town.path, TARGET, Kept(), EVER, town.now_ns)
    assert done.read["event"] == 7
    [problem] = done.problems
    assert str(first) in problem
