# SPDX-License-Identifier: Apache-2.0
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from store.appender import Appender, AppenderStatus, Limits
from store.batch import Batch, Labels
from store.layout import check_store, node_directory
from store.node_file import nodes_ahead
from store.query import StoreError
from store.schema import HOP_SAMPLE, TEXT
from store.segment import SegmentReader, is_held
from tests.unit.store.rows import details_of, events, names, segments, stored, times

HOUR_NS = 3_600_000_000_000
AT_NS = 472_222 * HOUR_NS + 1800 * 1_000_000_000
"""Half past some hour in November 2023."""


@dataclass
class Clock:
    """Both clocks of an appender, moved by hand."""

    now_ns: int = AT_NS
    now_s: float = 1000.0

    def real(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.now_s

    def go(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_appender(store: Path, clock: Clock, node: str = "n1", limits: Limits = Limits()) -> Appender:  # noqa: B008
    return Appender(store, "lab", node, clock.real, clock.monotonic, limits)


@pytest.fixture
def appender(tmp_path: Path, clock: Clock) -> Iterator[Appender]:
    with open_appender(tmp_path / "store", clock) as appender:
        yield appender


def test_append_is_read_at_once(appender: Appender, tmp_path: Path) -> None:
    appender.append(events("one", "two"))
    appender.append(events("three"))
    assert stored(tmp_path / "store") == ["one", "two", "three"]
    (path,) = segments(tmp_path / "store")
    with SegmentReader(path) as reader:
        header = reader.header
    assert header
    assert (header.table, header.cluster, header.node, header.first_ns) == ("event", "lab", "n1", AT_NS)


def test_append_of_no_rows_makes_no_segment(appender: Appender, tmp_path: Path) -> None:
    appender.append(events())
    assert segments(tmp_path / "store") == []


def test_appender_makes_a_private_store(appender: Appender, tmp_path: Path) -> None:
    appender.append(events("one"))
    check_store(tmp_path / "store")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "store").rglob("*") if path.is_dir()}
    assert modes == {0o700}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "store").rglob("*.seg")} == {0o600}


def test_append_of_more_rows_than_a_frame_holds_is_several_frames(appender: Appender, tmp_path: Path) -> None:
    appender.append(events(*map(str, range(20_000))))
    assert stored(tmp_path / "store") == [*map(str, range(20_000))]
    assert times(tmp_path / "store") == [*range(AT_NS, AT_NS + 20_000)]


def test_append_of_rows_too_large_for_one_frame_splits_them(appender: Appender, tmp_path: Path) -> None:
    large = ["a" * (7 << 20), "b" * (7 << 20), "c" * (7 << 20)]
    appender.append(events(*large))
    assert stored(tmp_path / "store") == large


def test_append_of_a_row_that_no_frame_holds_drops_and_counts_it(appender: Appender, tmp_path: Path) -> None:
    appender.append(events("before", "x" * (17 << 20), "after"))
    assert stored(tmp_path / "store") == ["before", "after"]
    assert times(tmp_path / "store") == [AT_NS, AT_NS + 2]
    status = appender.status()
    assert (status.appended, status.dropped) == ({"event": 2}, {"event": 1})


def test_append_of_a_code_without_text_is_an_error(appender: Appender, tmp_path: Path) -> None:
    bad = Labels(("a",), np.array([1], np.uint32))
    batch = Batch(events("x").table, {**events("x").columns, "detail": bad})
    with pytest.raises(ValueError, match="a code beyond their 1 texts"):
        appender.append(batch)
    appender.append(events("good"))
    assert stored(tmp_path / "store") == ["good"]


def test_status_of_rows_written(appender: Appender) -> None:
    appender.append(events("one", "two"))
    assert appender.status() == AppenderStatus({"event": 2}, {}, {}, 0, None, None, None, 0)


# ---- times


def test_times_rise_within_one_moment_of_the_clock(appender: Appender, tmp_path: Path) -> None:
    appender.append(events("a", "b"))
    appender.append(events("c"))
    assert times(tmp_path / "store") == [AT_NS, AT_NS + 1, AT_NS + 2]


def test_times_rise_while_the_clock_steps_back(appender: Appender, tmp_path: Path, clock: Clock) -> None:
    appender.append(events("a", "b"))
    clock.now_ns -= 10 * HOUR_NS
    appender.append(events("c"))
    assert appender.status().ahead_ns == 10 * HOUR_NS + 2
    clock.now_ns += 11 * HOUR_NS
    appender.append(events("d"))
    assert appender.status().ahead_ns == 0
    assert times(tmp_path / "store") == [AT_NS, AT_NS + 1, AT_NS + 2, AT_NS + HOUR_NS]


def test_times_less_than_a_second_ahead_are_the_clocks(appender: Appender, clock: Clock) -> None:
    appender.append(events("a"))
    clock.now_ns -= 999_999_999
    assert appender.status().ahead_ns == 0
    clock.now_ns -= 1
    assert appender.status().ahead_ns == 1_000_000_000


def test_nodes_ahead_are_those_whose_last_row_is(appender: Appender, tmp_path: Path) -> None:
    appender.append(events("a"))
    (tmp_path / "store" / "appenders" / "damaged").write_bytes(b"x" * 40)
    assert nodes_ahead(tmp_path / "store", AT_NS) == {}
    assert nodes_ahead(tmp_path / "store", AT_NS - HOUR_NS) == {"n1": AT_NS}
    assert nodes_ahead(tmp_path / "none", AT_NS) == {}


def test_times_of_one_append_never_cross_the_hour(appender: Appender, tmp_path: Path, clock: Clock) -> None:
    end_ns = (AT_NS // HOUR_NS + 1) * HOUR_NS
    clock.now_ns = end_ns - 3
    appender.append(events("a", "b"))
    appender.append(events("c", "d"))
    assert [times_of(path) for path in segments(tmp_path / "store")] == [
        [end_ns - 3, end_ns - 2],
        [end_ns, end_ns + 1],
    ]


def times_of(path: Path) -> list[int]:
    return [frame.first_ns + row for frame in SegmentReader(path) for row in range(frame.rows)]


def test_times_rise_over_all_tables(appender: Appender, tmp_path: Path) -> None:
    appender.append(events("a"))
    appender.append(samples(2))
    appender.append(events("b"))
    store = tmp_path / "store"
    assert times(store) == [AT_NS, AT_NS + 3]
    assert times(store, table="hop_sample") == [AT_NS + 1, AT_NS + 2]


def samples(rows: int) -> Batch:
    return Batch(
        HOP_SAMPLE,
        {
            each.name: Labels.same("x", rows) if each.dtype == TEXT else np.zeros(rows, each.dtype)
            for each in HOP_SAMPLE.columns[3:]
        },
    )


def test_times_rise_over_a_restart_and_a_clock_set_back(tmp_path: Path, clock: Clock) -> None:
    for detail in ("a", "b", "c"):
        with open_appender(tmp_path, clock) as appender:
            appender.append(events(detail))
        clock.now_ns -= HOUR_NS
    assert times(tmp_path) == [AT_NS, AT_NS + 1, AT_NS + 2]


def test_times_rise_over_a_restart_with_all_segments_gone(tmp_path: Path, clock: Clock) -> None:
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("a", "b"))
    for path in segments(tmp_path):
        path.unlink()
    clock.now_ns -= HOUR_NS
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("c"))
    assert times(tmp_path) == [AT_NS + 2]
    assert names(segments(tmp_path)) == ["00000002.seg"]


@pytest.mark.parametrize("record", [b"", b"garbage", bytes(32), b"ohnode1\n" + b"\x7f" * 24])
def test_times_and_numbers_come_from_the_segments_where_the_record_is_lost(
    tmp_path: Path, clock: Clock, record: bytes
) -> None:
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("a"))
        appender.append(samples(5))
    (tmp_path / "appenders" / "n1").write_bytes(record)
    clock.now_ns -= HOUR_NS
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("b"))
    assert times(tmp_path) == [AT_NS, AT_NS + 6]
    assert names(segments(tmp_path)) == ["00000001.seg", "00000003.seg"]


# ---- segments


def test_numbers_rise_over_restarts(tmp_path: Path, clock: Clock) -> None:
    for detail in ("a", "b"):
        with open_appender(tmp_path, clock) as appender:
            appender.append(events(detail))
            appender.append(samples(1))
    assert names(segments(tmp_path)) == ["00000001.seg", "00000003.seg"]
    assert names(segments(tmp_path, table="hop_sample")) == ["00000002.seg", "00000004.seg"]


def test_numbers_go_on_behind_parquet_files(tmp_path: Path, clock: Clock) -> None:
    directory = node_directory(tmp_path, "event", "n1")
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("a"))
    (directory / "00000001.seg").unlink()
    (directory / "00000001-00000041.parquet").touch()
    (tmp_path / "appenders" / "n1").unlink()
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("b"))
    assert names(segments(tmp_path)) == ["00000001-00000041.parquet", "00000042.seg"]


def test_segment_is_held_while_open(tmp_path: Path, clock: Clock) -> None:
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("a"))
        (path,) = segments(tmp_path)
        assert is_held(path)
    assert not is_held(path)


def test_segment_is_held_when_it_gets_its_name(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the writer could take it for a sealed one, and rows written later would be lost."""
    held: list[tuple[str, bool]] = []
    rename = Path.rename

    def watched(path: Path, target: Path) -> Path:
        renamed = rename(path, target)
        held.append((target.name, is_held(target)))
        return renamed

    monkeypatch.setattr(Path, "rename", watched)
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("a"))
    assert held == [("00000001.seg", True)]


def test_segment_ends_by_size(tmp_path: Path, clock: Clock) -> None:
    text = os.urandom(500).hex()
    with open_appender(tmp_path, clock, limits=Limits(segment_bytes=2000)) as appender:
        for number in range(4):
            appender.append(events(f"{number}{text}"))
        sizes = [path.stat().st_size for path in segments(tmp_path)]
    assert len(sizes) == 2
    assert max(sizes) <= 2000
    assert [detail[0] for detail in stored(tmp_path)] == ["0", "1", "2", "3"]


def test_segment_smaller_than_one_frame_holds_one_frame(tmp_path: Path, clock: Clock) -> None:
    with open_appender(tmp_path, clock, limits=Limits(segment_bytes=1)) as appender:
        appender.append(events("a"))
        appender.append(events("b"))
    assert [details_of(path) for path in segments(tmp_path)] == [["a"], ["b"]]


@pytest.mark.parametrize(("seconds", "segments_"), [(59.9, 1), (60.0, 2)])
def test_segment_ends_by_age(
    appender: Appender, tmp_path: Path, clock: Clock, seconds: float, segments_: int
) -> None:
    appender.append(events("a"))
    clock.go(seconds)
    appender.append(events("b"))
    assert len(segments(tmp_path / "store")) == segments_


def test_poll_ends_an_old_segment(tmp_path: Path, clock: Clock) -> None:
    appender = open_appender(tmp_path, clock)
    appender.append(events("a"))
    (path,) = segments(tmp_path)
    clock.go(60.0)
    appender.poll()
    appender.close()  # waits for the fsync
    assert not is_held(path)
    assert details_of(path) == ["a"]


def test_segment_ends_at_the_full_hour(appender: Appender, tmp_path: Path, clock: Clock) -> None:
    clock.now_ns = (AT_NS // HOUR_NS + 1) * HOUR_NS - 1
    appender.append(events("a"))
    clock.now_ns += 1
    appender.append(events("b"))
    assert [details_of(path) for path in segments(tmp_path / "store")] == [["a"], ["b"]]


def test_poll_ends_a_segment_at_the_full_hour(tmp_path: Path, clock: Clock) -> None:
    clock.now_ns = (AT_NS // HOUR_NS + 1) * HOUR_NS - 1
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("a"))
        clock.now_ns += 1
        appender.poll()
        clock.now_ns -= 1000
        appender.append(events("b"))
    assert len(segments(tmp_path)) == 2


def test_segment_of_a_killed_appender_is_left_as_it_is(tmp_path: Path, clock: Clock) -> None:
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("a"))
    (path,) = segments(tmp_path)
    torn = path.read_bytes() + b"rows torn"
    path.write_bytes(torn)
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("b"))
    first, second = segments(tmp_path)
    assert first.read_bytes() == torn
    assert details_of(second) == ["b"]


def test_unfinished_segment_of_a_killed_appender_is_removed(tmp_path: Path, clock: Clock) -> None:
    directory = node_directory(tmp_path, "event", "n1")
    with open_appender(tmp_path, clock) as appender:
        appender.append(events("a"))
    (directory / ".tmp-99-00000002.seg").touch()
    (directory / ".tmp-98-00000001-00000001.parquet").touch()
    with open_appender(tmp_path, clock):
        assert sorted(path.name for path in directory.iterdir()) == [
            ".tmp-98-00000001-00000001.parquet",
            "00000001.seg",
        ]


@pytest.mark.parametrize("node", ["", ".", "..", "a/b", "é\n", "n" * 300, "\udc80"])
def test_appender_of_a_hostile_node_name_stays_inside(tmp_path: Path, clock: Clock, node: str) -> None:
    with open_appender(tmp_path / "store", clock, node) as appender:
        appender.append(events("a"))
    assert stored(tmp_path / "store", node) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert len(list((tmp_path / "store" / "event").iterdir())) == 1


# ---- who may append


def test_second_appender_of_a_node_is_refused(appender: Appender, tmp_path: Path, clock: Clock) -> None:
    store = tmp_path / "store"
    with pytest.raises(StoreError) as refused:
        open_appender(store, clock)
    assert str(refused.value) == (
        f"store {store}: another agent (pid {os.getpid()}) writes for node 'n1': "
        "stop it, or give this one another node name or store"
    )


def test_appenders_of_two_nodes_share_a_store(appender: Appender, tmp_path: Path, clock: Clock) -> None:
    with open_appender(tmp_path / "store", clock, "n2") as other:
        other.append(events("two"))
        appender.append(events("one"))
    assert stored(tmp_path / "store", "n1") == ["one"]
    assert stored(tmp_path / "store", "n2") == ["two"]


def test_appender_of_another_process_is_refused_while_it_lives(tmp_path: Path, clock: Clock) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(tmp_path, theirs))
    process.start()
    assert ours.poll(30)
    ours.recv()
    with pytest.raises(StoreError, match=f"another agent \\(pid {process.pid}\\) writes for node 'n1'"):
        open_appender(tmp_path, clock)
    process.kill()
    process.join()
    open_appender(tmp_path, clock).close()


def _hold(store: Path, pipe: Connection) -> None:
    appender = open_appender(store, Clock())
    pipe.send("held")
    pipe.recv()
    appender.close()


def test_appender_of_a_newer_store_is_refused(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "version").write_text('{"format": 2, "schema": 1}')
    with pytest.raises(StoreError, match="it has format 2, schema 1"):
        open_appender(tmp_path, clock)


def test_appender_of_a_directory_that_is_a_file_says_so(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as refused:
        open_appender(tmp_path / "file" / "store", clock)
    path = tmp_path / "file"
    assert str(refused.value) == (
        f"store {path}/store: {path}: File exists: look at the directory and what it is on"
    )


def test_closed_appender_can_be_closed_again(tmp_path: Path, clock: Clock) -> None:
    appender = open_appender(tmp_path, clock)
    appender.close()
    appender.close()


def test_appender_leaves_no_descriptor(tmp_path: Path, clock: Clock) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open_appender(tmp_path / "store", clock) as appender:
        for _ in range(5):
            appender.append(events("a"))
            appender.append(samples(1))
            clock.go(61)
            appender.poll()
        with pytest.raises(StoreError):
            open_appender(tmp_path / "store", clock)
        shutil.rmtree(tmp_path / "store")
        appender.append(events("b"))
        clock.go(1)
        appender.poll()
        assert stored(tmp_path / "store") == ["b"]
    assert len(os.listdir("/proc/self/fd")) == before
