# SPDX-License-Identifier: Apache-2.0
"""Where rows lie in files, and how they are cut into pieces."""

from pathlib import Path

import pytest

from store.extents import Extent, chunks, extents, rows_since
from store.layout import Entry, node_directory
from store.query import Span
from store.reading import RowReader
from store.schema import EVENT
from tests.unit.store.compactors import S, Town


def extent(number: int, first_ns: int, last_ns: int, rows: int) -> Extent:
    return Extent(Entry(number, number, is_parquet=False), first_ns, last_ns, rows)


def test_chunks_joins_files_up_to_so_many_rows() -> None:
    found = [extent(1, 0, 9, 10), extent(2, 10, 19, 10), extent(3, 100, 109, 10)]
    assert chunks(found, Span(0, 1000), 20) == [Span(0, 20), Span(20, 110)]


def test_chunks_cuts_a_file_that_has_more() -> None:
    assert chunks([extent(1, 0, 99, 100)], Span(0, 1000), 40) == [Span(0, 33), Span(33, 66), Span(66, 100)]


def test_chunks_takes_the_rows_of_the_span_only() -> None:
    found = [extent(1, 0, 99, 100), extent(2, 200, 299, 100)]
    assert chunks(found, Span(50, 250), 1000) == [Span(50, 250)]
    assert chunks(found, Span(150, 160), 1000) == []
    assert chunks(found, Span(100, 201), 1000) == [Span(100, 201)]


def test_chunks_never_end_behind_the_last_row_that_is_known() -> None:
    assert chunks([extent(1, 5, 5, 1)], Span(0, 1 << 62), 10) == [Span(0, 6)]


@pytest.mark.parametrize("most_rows", [1, 3, 7, 100])
def test_chunks_lie_one_behind_the_other_and_leave_out_nothing(most_rows: int) -> None:
    found = [extent(1, 3, 17, 9), extent(2, 20, 20, 1), extent(3, 21, 60, 40)]
    spans = chunks(found, Span(0, 1000), most_rows)
    assert (spans[0].since_ns, spans[-1].until_ns) == (0, 61)
    assert [each.until_ns for each in spans[:-1]] == [each.since_ns for each in spans[1:]]


@pytest.mark.parametrize("is_compacted", [False, True])
def test_extents_are_what_files_say(tmp_path: Path, is_compacted: bool) -> None:
    town = Town(tmp_path / "s")
    begin_ns = town.now_ns
    town.append("a", "b")
    town.append("c")
    if is_compacted:
        town.now_ns += 7200 * S
        town.compactor().round()
    reader = RowReader(town.path)
    directory = node_directory(town.path, "event", "n1")
    try:
        found = extents(reader, directory)
        counted = [
            rows_since(reader, EVENT, directory, begin_ns + at_ns) for at_ns in (0, S + 1, 2 * S, 3 * S)
        ]
    finally:
        reader.close()
    assert sum(each.rows for each in found) == 3
    assert (found[0].first_ns, found[-1].last_ns) == (begin_ns + S, begin_ns + 2 * S)
    assert any(each.entry.is_parquet for each in found) == is_compacted
    assert counted == [3, 2, 1, 0]


def test_extents_of_a_segment_whose_first_frame_is_damaged_say_where_to_look(tmp_path: Path) -> None:
    town = Town(tmp_path / "s")
    town.append("a")
    directory = node_directory(town.path, "event", "n1")
    [path] = directory.iterdir()
    data = path.read_bytes()
    at = data.index(b"rows", data.index(b"}"))
    path.write_bytes(data[: at + 8] + b"\xff" + data[at + 9 :])
    reader = RowReader(town.path)
    try:
        [found] = extents(reader, directory)
    finally:
        reader.close()
    assert (found.first_ns, found.rows) == (town.now_ns, 1)


def test_extents_of_a_directory_that_is_not_there_are_none(tmp_path: Path) -> None:
    assert extents(RowReader(tmp_path), tmp_path / "event" / "n1") == []
