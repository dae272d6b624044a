# SPDX-License-Identifier: Apache-2.0
"""Disks that fill up and directories that go away: RLIMIT_FSIZE cuts write(2) short as a full disk does."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store.appender import Appender, Limits
from store.batch import Batch
from store.layout import node_directory
from store.query import StoreError
from store.segment import SegmentReader
from tests.unit.store.rows import details_of, events, names, segments, stored, times
from tests.unit.store.test_appender import AT_NS, Clock, open_appender, samples


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Whoever writes beyond gets what fits, then EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def appender(store: Path, clock: Clock) -> Iterator[Appender]:
    with open_appender(store, clock) as appender:
        yield appender


def filled(appender: Appender, store: Path, *batches: Batch) -> None:
    """Append `one`, then the others while the disk has 10 more bytes."""
    appender.append(events("one"))
    (path,) = segments(store)
    with files_of_at_most(path.stat().st_size + 10):
        for batch in batches:
            appender.append(batch)


def test_append_on_a_full_disk_waits_and_says_so(appender: Appender, store: Path) -> None:
    filled(appender, store, events("two", "three"))
    (path,) = segments(store)
    status = appender.status()
    assert (status.appended, status.waiting, status.dropped) == ({"event": 1}, {"event": 2}, {})
    assert 32 < status.waiting_bytes < 300
    assert status.error == (
        f"store {store}: {path}: No space left on device: make room, or give the store another disk"
    )
    assert status.error_since_ns == AT_NS


def test_append_on_a_full_disk_takes_a_part_back(appender: Appender, store: Path) -> None:
    filled(appender, store, events("two"))
    assert stored(store) == ["one"]  # and not a byte more


def test_append_after_a_full_disk_writes_all_in_order(appender: Appender, store: Path, clock: Clock) -> None:
    filled(appender, store, events("two"), samples(3), events("three"))
    clock.go(0.25)
    appender.append(events("four"))
    assert stored(store) == ["one", "two", "three", "four"]
    assert times(store) == [AT_NS, AT_NS + 1, AT_NS + 5, AT_NS + 250_000_000]
    assert times(store, table="hop_sample") == [AT_NS + 2, AT_NS + 3, AT_NS + 4]
    status = appender.status()
    assert (status.appended, status.waiting) == ({"event": 4, "hop_sample": 3}, {})
    assert (status.waiting_bytes, status.error, status.error_since_ns) == (0, None, None)


def test_poll_after_a_full_disk_writes_what_waits(appender: Appender, store: Path, clock: Clock) -> None:
    filled(appender, store, events("two"))
    appender.poll()
    assert stored(store) == ["one"]  # not yet time to try again
    clock.go(0.25)
    appender.poll()
    assert stored(store) == ["one", "two"]


def test_retries_on_a_full_disk_become_rarer(appender: Appender, store: Path, clock: Clock) -> None:
    filled(appender, store, events("two"))
    with files_of_at_most(0):  # tried after 0.25, 0.75, 1.75, 3.75, 7.75, 15.75, 23.75 s
        for _ in range(96):
            clock.go(0.25)
            appender.poll()
    clock.go(31.5 - 24)
    appender.poll()
    assert stored(store) == ["one"]
    clock.go(0.25)
    appender.poll()
    assert stored(store) == ["one", "two"]


def test_append_on_a_full_disk_drops_the_oldest_and_counts_them(store: Path, clock: Clock) -> None:
    with open_appender(store, clock, limits=Limits(waiting_bytes=10_000)) as appender:
        appender.append(events("first"))
        with files_of_at_most(0):
            for number in range(100):
                appender.append(events(f"{number:03}{os.urandom(500).hex()}"))
            status = appender.status()
        waiting = status.waiting["event"]
        assert 10 < waiting < 20
        assert status.dropped == {"event": 100 - waiting}
        assert 9_000 < status.waiting_bytes <= 10_000
        clock.go(10)
        appender.poll()
        assert [detail[:3] for detail in stored(store)][1:] == [f"{n:03}" for n in range(100 - waiting, 100)]
        assert appender.status().appended == {"event": 1 + waiting}


def test_close_on_a_full_disk_counts_what_is_lost(appender: Appender, store: Path) -> None:
    filled(appender, store, events("two", "three"))
    (path,) = segments(store)
    with files_of_at_most(path.stat().st_size):
        appender.close()
    assert appender.status().dropped == {"event": 2}
    assert appender.status().waiting == {}
    assert stored(store) == ["one"]


def test_close_after_a_full_disk_writes_what_waits(appender: Appender, store: Path) -> None:
    filled(appender, store, events("two"))
    appender.close()
    assert stored(store) == ["one", "two"]
    assert appender.status().dropped == {}


def test_restart_on_a_full_disk_works_once_the_node_is_known(store: Path, clock: Clock) -> None:
    with open_appender(store, clock) as appender:
        appender.append(events("one"))
    with files_of_at_most(32), open_appender(store, clock) as appender:
        appender.append(events("two"))
        assert appender.status().waiting == {"event": 1}


def test_new_segment_on_a_full_disk_leaves_nothing(store: Path, clock: Clock) -> None:
    with open_appender(store, clock) as appender:
        with files_of_at_most(100):
            appender.append(events("one"))
        assert [*node_directory(store, "event", "n1").iterdir()] == []
        assert appender.status().waiting == {"event": 1}


def test_segment_without_rows_is_removed_when_it_ends(store: Path, clock: Clock) -> None:
    with open_appender(store, clock) as appender:
        with files_of_at_most(400):
            appender.append(events(os.urandom(500).hex()))
        assert names(segments(store)) == ["00000001.seg"]
        clock.go(60)
        appender.append(events("two"))
        assert names(segments(store)) == ["00000002.seg"]
        assert len(stored(store)) == 2


def test_append_after_the_store_was_removed_makes_it_again(
    appender: Appender, store: Path, clock: Clock
) -> None:
    appender.append(events("one"))
    shutil.rmtree(store)
    appender.append(events("two"))
    status = appender.status()
    assert status.error is not None
    assert "the segment was removed" in status.error
    clock.go(0.25)
    appender.append(events("three"))
    assert stored(store) == ["two", "three"]
    assert times(store) == [AT_NS + 1, AT_NS + 250_000_000]
    assert names(segments(store)) == ["00000002.seg"]
    assert appender.status().error is None


def test_append_after_the_store_was_removed_keeps_others_out(
    appender: Appender, store: Path, clock: Clock
) -> None:
    appender.append(events("one"))
    shutil.rmtree(store)
    with open_appender(store, clock) as other:
        appender.append(events("two"))
        clock.go(0.25)
        appender.poll()
        assert "another agent (pid" in str(appender.status().error)
        other.append(events("three"))
        assert stored(store) == ["three"]
    clock.go(0.5)
    appender.poll()
    assert sorted(stored(store)) == ["three", "two"]


def test_append_while_the_parent_directory_is_gone_waits(tmp_path: Path, clock: Clock) -> None:
    store = tmp_path / "mount" / "store"
    with open_appender(store, clock) as appender:
        appender.append(events("one"))
        (tmp_path / "mount").rename(tmp_path / "away")
        clock.go(60)
        appender.append(events("two"))
        assert not (tmp_path / "mount").exists()
        status = appender.status()
        assert status.waiting == {"event": 1}
        assert status.error == (
            f"store {store}: {store}: No such file or directory: make the directory again"
        )
        (tmp_path / "away").rename(tmp_path / "mount")
        clock.go(1)
        appender.poll()
        assert stored(store) == ["one", "two"]


def test_append_after_the_store_became_a_newer_one_waits(
    appender: Appender, store: Path, clock: Clock
) -> None:
    appender.append(events("one"))
    (store / "version").write_text('{"format": 1, "schema": 2}')
    clock.go(60)
    appender.append(events("two"))
    status = appender.status()
    assert status.waiting == {"event": 1}
    assert str(status.error).startswith(f"store {store}: it has format 1, schema 2; this overhop knows")


def test_bytes_that_cannot_be_taken_back_end_the_segment(
    appender: Appender, store: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", fails)
    filled(appender, store, events("two"))
    clock.go(0.25)
    appender.append(events("three"))
    torn, whole = segments(store)
    with SegmentReader(torn) as reader:
        assert [frame.rows for frame in reader] == [1]
        assert reader.unread_bytes == 10
    assert details_of(whole) == ["two", "three"]


def test_failed_fsync_is_said(store: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    appender = open_appender(store, clock)
    appender.append(events("one"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        appender.close()  # waits for it
    (path,) = segments(store)
    assert appender.status().sync_error == (
        f"fsync {path}: Input/output error: a power cut may lose its rows: look at the kernel's log"
    )
    assert appender.status().error is None
    assert stored(store) == ["one"]


def test_appender_on_a_full_disk_without_a_store_says_so(store: Path, clock: Clock) -> None:
    with (
        files_of_at_most(0),
        pytest.raises(
            StoreError, match=r"File too large: raise the limit of the size of files \(ulimit -f\)"
        ),
    ):
        open_appender(store, clock)
