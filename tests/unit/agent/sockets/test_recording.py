# SPDX-License-Identifier: Apache-2.0
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.clock import ClockOffset
from agent.sockets.recording import (
    Recorder,
    RecordError,
    RecordingHeader,
    RecordStatus,
    header_bytes,
    read_recording,
)
from bpf.record import RECORD

HEADER = RecordingHeader("0123456789ab", "ba9876543210", "node-1", "boot-1", ClockOffset(5, 1, 2, 3, 4))
HEADER_SIZE = 256


def batch(*seqs: int) -> np.ndarray:
    rows = np.zeros(len(seqs), RECORD)
    rows["seq"] = seqs
    rows["quality"] = 3
    return rows


def wait_until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition did not come true"
        time.sleep(0.001)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder(lambda: HEADER)
    yield made
    assert made.close()


def finish(recorder: Recorder) -> RecordStatus:
    recorder.stop()
    recorder.write(batch())
    wait_until(lambda: not recorder.status().recording)
    return recorder.status()


def test_recording_reads_back_as_it_was_written(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "hops.rec"
    assert recorder.start(str(path)).recording
    recorder.write(batch(1, 2))
    recorder.write(batch())
    recorder.write(batch(3))
    assert finish(recorder) == RecordStatus(
        recording=False, file=str(path), records=3, file_bytes=HEADER_SIZE + 384, max_bytes=256 << 20
    )
    header, records = read_recording(path)
    assert header == HEADER
    assert records.tobytes() == batch(1, 2, 3).tobytes()
    assert path.stat().st_size == HEADER_SIZE + 384
    assert path.stat().st_mode & 0o7777 == 0o600


def test_stop_takes_what_the_ring_still_holds(recorder: Recorder, tmp_path: Path) -> None:
    recorder.start(str(tmp_path / "r"))
    recorder.stop()
    recorder.write(np.zeros(65_536, RECORD))
    recorder.write(batch(7))
    wait_until(lambda: not recorder.status().recording)
    recorder.write(batch(8))
    assert len(read_recording(tmp_path / "r")[1]) == 65_537


def test_write_beyond_the_bound_is_counted_not_written(recorder: Recorder, tmp_path: Path) -> None:
    recorder.start(str(tmp_path / "r"), max_bytes=HEADER_SIZE + 2 * 128 + 127)
    recorder.write(batch(1))
    recorder.write(batch(2, 3, 4))
    recorder.write(batch(5))
    status = finish(recorder)
    assert (status.records, status.lost_bound, status.file_bytes) == (2, 3, HEADER_SIZE + 256)
    assert read_recording(tmp_path / "r")[1]["seq"].tolist() == [1, 2]


def test_write_to_a_disk_that_is_too_slow_is_counted(tmp_path: Path) -> None:
    recorder = Recorder(lambda: HEADER, queue_bytes=2 * 128)
    recorder.start(str(tmp_path / "r"))
    recorder.write(batch(1, 2, 3))
    recorder.write(batch(4, 5))
    status = finish(recorder)
    assert (status.records, status.lost_queue) == (2, 3)


def test_write_to_a_full_disk_keeps_whole_records_and_says_why(recorder: Recorder, tmp_path: Path) -> None:
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    recorder.start(str(tmp_path / "r"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER_SIZE + 2 * 128 + 50, previous[1]))
    try:
        recorder.write(batch(1, 2, 3, 4))
        status = finish(recorder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (status.records, status.lost_disk) == (2, 2)
    assert status.write_error == f"write {tmp_path}/r: File too large"
    assert read_recording(tmp_path / "r")[1]["seq"].tolist() == [1, 2]


def test_write_without_recording_is_nothing(recorder: Recorder) -> None:
    recorder.write(batch(1))
    assert recorder.status() == RecordStatus(recording=False)


def test_start_twice_is_refused_with_the_running_file(recorder: Recorder, tmp_path: Path) -> None:
    recorder.start(str(tmp_path / "a"))
    with pytest.raises(RecordError, match=rf"start /b: already recording to {tmp_path}/a: stop that first"):
        recorder.start("/b")


def test_start_after_stop_records_again(recorder: Recorder, tmp_path: Path) -> None:
    recorder.start(str(tmp_path / "a"))
    finish(recorder)
    recorder.start(str(tmp_path / "b"))
    recorder.write(batch(9))
    assert finish(recorder).records == 1


def test_start_over_an_existing_file_leaves_it_alone(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(RecordError, match="there is such a file, and recordings replace none"):
        recorder.start(str(tmp_path / "a"))
    assert (tmp_path / "a").read_text() == "mine"


def test_start_over_a_dangling_link_does_not_follow_it(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "target")
    with pytest.raises(RecordError, match="there is such a file"):
        recorder.start(str(tmp_path / "a"))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("r", "give an absolute path"),
        ("/no/such/directory/r", "No such file or directory"),
        ("/tmp/a\0b", "embedded null byte"),
        ("/proc/self/r", "start /proc/self/r: "),
    ],
)
def test_start_where_no_file_can_be_is_refused(recorder: Recorder, path: str, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        recorder.start(path)
    assert not recorder.status().recording


def test_start_with_a_bound_below_one_record_is_refused(recorder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="100 bytes hold no record: allow at least 384"):
        recorder.start(str(tmp_path / "a"), max_bytes=100)
    assert not (tmp_path / "a").exists()


def test_start_on_a_full_disk_leaves_no_file(recorder: Recorder, tmp_path: Path) -> None:
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, previous[1]))
    try:
        with pytest.raises(RecordError, match="no space left"):
            recorder.start(str(tmp_path / "a"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not (tmp_path / "a").exists()


def test_stop_without_recording_is_refused(recorder: Recorder) -> None:
    with pytest.raises(RecordError, match="stop: nothing is being recorded"):
        recorder.stop()


def test_close_without_stop_keeps_what_was_written(tmp_path: Path) -> None:
    recorder = Recorder(lambda: HEADER)
    recorder.start(str(tmp_path / "a"))
    recorder.write(batch(4))
    assert recorder.close()
    assert len(read_recording(tmp_path / "a")[1]) == 1


def test_header_is_a_multiple_of_a_record() -> None:
    assert len(header_bytes(HEADER)) == HEADER_SIZE


def test_read_of_an_empty_recording_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(header_bytes(HEADER))
    header, records = read_recording(tmp_path / "a")
    assert header.node == "node-1"
    assert len(records) == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no recording of overhop"),
        (b"OVERHOP", "is no recording of overhop"),
        (b"\xd4\xc3\xb2\xa1" * 40, "is no recording of overhop"),
        (b"OVERHOPR\x07\0\0\0\x10\0\0\0", "version 7 is not known here"),
        (header_bytes(HEADER)[:200], "cut off in its header"),
        (b"OVERHOPR\x01\0\0\0\x02\0\0\0{}", "its header is damaged: 'clock'"),
        (b"OVERHOPR\x01\0\0\0\x02\0\0\0{x", "its header is damaged"),
        (
            header_bytes(HEADER) + b"x" * 200,
            "cut off 72 bytes into record 1: .*`truncate -s 384` keeps the 1 whole records",
        ),
    ],
)
def test_read_of_a_damaged_or_foreign_file_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(RecordError, match=reason):
        read_recording(tmp_path / "a")


def test_read_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="No such file"):
        read_recording(tmp_path / "a")


def test_recorder_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    recorder = Recorder(lambda: HEADER)
    recorder.start(str(tmp_path / "a"))
    finish(recorder)
    assert len(os.listdir("/proc/self/fd")) == before
