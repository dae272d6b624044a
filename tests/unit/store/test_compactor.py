# SPDX-License-Identifier: Apache-2.0
import logging
import os
from pathlib import Path

import duckdb
import pytest

import store.parquet
from store.compaction import Rules
from store.compactor import Compactor, Settings
from store.merging import Surroundings
from tests.unit.store.compactors import HOUR, NOON, S, Town
from tests.unit.store.rows import events

DAY = 24 * HOUR


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path / "s")


def test_compactor_segments_become_parquet_and_go_after_the_grace(town: Town) -> None:
    town.append("a", "b")
    town.append("c")
    compactor = town.compactor()
    compactor.round()
    assert town.files() == ["00000001-00000002.parquet", "00000001.seg", "00000002.seg"]
    assert town.details() == ["a", "b", "c"]
    compactor.round()
    town.now_ns += 29 * S
    compactor.round()
    assert len(town.files()) == 3
    town.now_ns += 2 * S
    compactor.round()
    assert town.files() == ["00000001-00000002.parquet"]
    assert town.details() == ["a", "b", "c"]


def test_compactor_steps_are_those_of_the_protocol(town: Town) -> None:
    town.append("a")
    compactor = town.compactor()
    compactor.round()
    assert town.steps == ["parts", "written", "synced", "renamed", "directory synced"]


def test_compactor_hour_becomes_one_file_day_becomes_one(town: Town) -> None:
    compactor = town.compactor()
    for hour in range(3):
        for _ in range(2):
            town.append(f"{hour}")
            compactor.round()
        town.now_ns += HOUR
        for _ in range(3):
            compactor.round()
            town.now_ns += 31 * S
    assert town.files() == [f"0000000{first}-0000000{first + 1}.parquet" for first in (1, 3, 5)]
    town.now_ns += DAY
    for _ in range(3):
        compactor.round()
        town.now_ns += 31 * S
    assert town.files() == ["00000001-00000006.parquet"]
    assert town.details() == ["0", "0", "1", "1", "2", "2"]


def test_compactor_open_segment_stays(town: Town) -> None:
    with town.appender() as appender:
        appender.append(events("a"))
        town.now_ns += 10 * HOUR
        town.compactor().round()
        assert town.files() == ["00000001.seg"]
    town.compactor().round()
    assert town.files() == ["00000001-00000001.parquet", "00000001.seg"]


def test_compactor_removes_what_is_too_old(town: Town) -> None:
    town.append("old")
    compactor = town.compactor()
    compactor.round()
    town.now_ns += 31 * S
    compactor.round()
    town.now_ns += 399 * DAY
    town.append("new")
    compactor.round()
    assert town.details() == ["old", "new"]
    town.now_ns += 2 * DAY
    compactor.round()
    assert town.details() == ["new"]


def test_compactor_clock_set_back_changes_nothing_that_is_there(town: Town) -> None:
    town.append("a")
    town.append("b")
    town.now_ns = NOON - 10 * DAY
    town.append("c")
    compactor = town.compactor()
    compactor.round()
    assert town.details() == ["a", "b", "c"]


def test_compactor_segment_with_a_damaged_frame_is_kept_aside_and_the_rest_used(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    with town.appender() as appender:
        appender.append(events("lost"))
        size = (town.path / "event/n1/00000001.seg").stat().st_size
        appender.append(events("kept"))
    path = town.path / "event/n1/00000001.seg"
    data = bytearray(path.read_bytes())
    data[size - 3] ^= 0xFF
    path.write_bytes(data)
    compactor = town.compactor()
    compactor.round()
    town.now_ns += 31 * S
    compactor.round()
    town.now_ns += 31 * S
    compactor.round()
    assert town.files() == ["00000001-00000001.parquet", "00000001.seg.bad"]
    assert (town.path / "event/n1/00000001.seg.bad").read_bytes() == bytes(data)
    assert "the checksum of a frame is wrong: kept as 00000001.seg.bad" in caplog.text


def test_compactor_damage_of_a_segment_is_said_once_however_often_its_merge_fails(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    with town.appender() as appender:
        appender.append(events("lost"))
        appender.append(events("torn"))
    path = town.path / "event/n1/00000001.seg"
    data = bytearray(path.read_bytes())
    data[data.index(b"rows") + 40] ^= 0xFF
    path.write_bytes(data[:-5])
    town.append("whole")
    tried: list[str] = []

    def fails(step: str) -> None:
        if step == "parts":
            tried.append(step)
            raise OSError("no")

    compactor = town.compactor(fails)
    for _ in range(3):
        compactor.round()
        town.now_ns += 300 * S
    assert len(tried) == 3
    assert caplog.text.count("the checksum of a frame is wrong") == 1
    assert town.files() == ["00000001.seg", "00000001.seg.bad", "00000002.seg"]


def test_compactor_segment_cut_inside_a_frame_keeps_what_is_whole(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    with town.appender() as appender:
        appender.append(events("whole"))
        appender.append(events("torn"))
    path = town.path / "event/n1/00000001.seg"
    os.truncate(path, path.stat().st_size - 5)
    town.compactor().round()
    assert town.details() == ["whole"]
    assert "bytes of an append that failed" in caplog.text


def test_compactor_segment_without_header_is_set_aside_and_blocks_nobody(town: Town) -> None:
    town.append("a")
    town.append("b")
    town.append("c")
    (town.path / "event/n1/00000002.seg").write_bytes(b"x" * 500)
    compactor = town.compactor()
    compactor.round()
    assert "00000002.seg.bad" in town.files()
    assert "00000001-00000003.parquet" in town.files()


def test_compactor_damaged_parquet_is_set_aside_while_its_inputs_are_there_nothing_is_lost(
    town: Town,
) -> None:
    town.append("a")
    town.append("b")
    compactor = town.compactor()
    compactor.round()
    path = town.path / "event/n1/00000001-00000002.parquet"
    os.truncate(path, path.stat().st_size // 2)
    fresh = town.compactor()
    fresh.round()
    fresh.round()
    assert (town.path / "event/n1/00000001-00000002.parquet.bad").exists()
    store_details = [name for name in town.files() if name.endswith(".parquet")]
    assert store_details == ["00000001-00000002.parquet"]


def test_compactor_parquet_damaged_in_the_middle_is_set_aside_and_the_others_merged(town: Town) -> None:
    compactor = town.compactor()
    for letter in "abc":
        town.append(*[letter] * 2000)
        for _ in range(3):
            compactor.round()
            town.now_ns += 31 * S
    assert len(town.files()) == 3
    path = town.path / "event/n1/00000002-00000002.parquet"
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = b"\xff" * (len(data) // 2 - 4)
    path.write_bytes(data)
    town.now_ns += HOUR
    for _ in range(3):
        compactor.round()
        town.now_ns += 31 * S
    compactor.round()
    assert town.files() == ["00000001-00000003.parquet", "00000002-00000002.parquet.bad"]


def test_compactor_directory_that_fails_keeps_no_other_from_being_compacted(town: Town) -> None:
    town.append("a", node="n1")
    town.append("b", node="n2")
    failing = iter([OSError(5, "Input/output error")])

    def fail_first(step: str) -> None:
        if step == "written":
            for error in failing:
                raise error

    town.compactor(fail_first).round()
    assert town.files("n1") == ["00000001.seg"]
    assert town.files("n2") == ["00000001-00000001.parquet", "00000001.seg"]


def test_compactor_failure_is_said_once_and_tried_again_with_back_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    town = Town(tmp_path / "s", settings=Settings(Rules(age_s=0), first_retry_s=10))
    town.append("a")
    tries: list[str] = []

    def full(step: str) -> None:
        tries.append(step)
        if len(tries) <= 4 and step == "written":
            raise OSError(28, "No space left on device")

    compactor = town.compactor(full)
    for _ in range(3):
        compactor.round()
    assert tries == ["parts", "written"]
    assert town.files() == ["00000001.seg"]
    town.now_ns += 10 * S
    compactor.round()
    assert tries == ["parts", "written"] * 2
    town.now_ns += 10 * S
    compactor.round()
    assert len(tries) == 4  # 20 s now
    town.now_ns += 10 * S
    compactor.round()
    assert town.files() == ["00000001-00000001.parquet", "00000001.seg"]
    said = [record.getMessage().split(": ", 1)[1] for record in caplog.records]
    assert said == [
        "[Errno 28] No space left on device: its inputs stay, tried again until it works",
        "compacting works again",
    ]


def test_compactor_removes_unfinished_files_of_a_killed_writer(town: Town) -> None:
    town.append("a")
    left = town.path / "event/n1/.tmp-1-0-00000001-00000001.parquet"
    left.write_bytes(b"half")
    theirs = town.path / "event/n1/.tmp-1-00000002.seg"
    theirs.write_bytes(b"an appender's")
    Compactor(town.path).remove_unfinished()
    assert not left.exists()
    assert theirs.exists()


def test_compactor_failing_duckdb_is_no_fault_of_the_files(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.append("a")
    town.compactor().round()

    def fail(*_: object) -> None:
        raise duckdb.InvalidInputException("Could not set option")

    with monkeypatch.context() as patched:
        patched.setattr(store.parquet, "connect", fail)
        town.compactor().round()
    assert town.files() == ["00000001-00000001.parquet", "00000001.seg"]
    assert town.details() == ["a"]


def test_compactor_that_shall_end_leaves_inputs_and_nothing_else(town: Town) -> None:
    town.append(*"abc")
    is_ending = iter([False, False, True])
    around = Surroundings(clock_ns=lambda: town.now_ns, is_ending=lambda: next(is_ending))
    Compactor(town.path, town.settings, around).round()
    assert town.files() == ["00000001.seg"]
    assert town.details() == ["a", "b", "c"]


def test_compactor_keeps_inputs_of_a_file_that_cannot_be_read(town: Town) -> None:
    """A newer version's, say: nobody knows whether it holds their rows."""
    town.append("a")
    town.compactor().round()
    made = town.path / "event/n1/00000001-00000001.parquet"
    connection = duckdb.connect()
    connection.execute(
        "COPY (SELECT 1) TO $to (FORMAT parquet, kv_metadata "
        "{format: '2', schema: '1', first_ns: '0', last_ns: '0', rows: '1'})",
        {"to": str(made)},
    )
    compactor = town.compactor()
    for _ in range(3):
        compactor.round()
        town.now_ns += 31 * S
    assert town.files() == ["00000001-00000001.parquet", "00000001.seg"]
