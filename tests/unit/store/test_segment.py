# SPDX-License-Identifier: Apache-2.0
import fcntl
import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.batch import Labels
from store.query import StoreError
from store.schema import EVENT, Column
from store.segment import Header, SegmentReader, encode_frame, encode_header, is_held, last_row_ns
from tests.unit.store.rows import details_of, events, texts

AT_NS = 1_700_000_000_000_000_000
HEADER = Header("event", EVENT.columns, "lab", "n1", AT_NS)
DETAILS = (["one", "two"], ["three"], ["four", "five", "six"])
FRAMES: list[bytes] = [
    frame.data
    for number, details in enumerate(DETAILS)
    if (frame := encode_frame(events(*details), AT_NS + 1000 * number))
]
START = encode_header(HEADER)
WHOLE = START + b"".join(FRAMES)
ENDS = [len(START), len(START + FRAMES[0]), len(START + FRAMES[0] + FRAMES[1]), len(WHOLE)]
# Segment of format 1 with one event, as first released: it must stay readable.
FIRST_RELEASE = bytes.fromhex(
    "6f766572686f700a01000000c60000000edc63317b227461626c65223a226576656e74222c22636f6c756d6e73223a5b5b22"
    "74696d65222c226938225d2c5b22636c7573746572222c22737472225d2c5b226e6f6465222c22737472225d2c5b22776861"
    "74222c22737472225d2c5b227374617465222c22737472225d2c5b2264657461696c222c22737472225d2c5b2273696e6365"
    "222c226938225d5d2c22636c7573746572223a226c6162222c226e6f6465223a226e31222c2266697273745f6e73223a3137"
    "30303030303030303030303030303030307d726f7773300000003d0000000100000000002a36fe9c9717910256439e6e72e1"
    "78012dc12112c0200c00b054f4782762e33015c0fe3f43124824fa78ea041a1ad657356b04128977ae7d5c3fd52e075e"
)


def written(directory: Path, data: bytes) -> Path:
    path = directory / "00000001.seg"
    path.write_bytes(data)
    return path


def read(path: Path) -> tuple[list[list[str]], int, list[tuple[int, int, str]]]:
    """Details of each frame, unread bytes, damages."""
    reader = SegmentReader(path)
    frames = [texts(frame.columns["detail"]) for frame in reader]
    damages = [(each.offset, each.length_bytes, each.reason) for each in reader.damages]
    return frames, reader.unread_bytes, damages


def flipped(at: int) -> bytes:
    return WHOLE[:at] + bytes([WHOLE[at] ^ 0x40]) + WHOLE[at + 1 :]


def frame_of(data: bytes, raw_bytes: int, rows: int, first_ns: int = AT_NS) -> bytes:
    """A frame as docs/store.md has it, of whatever a hostile file may claim; every checksum is right."""
    start = struct.pack("<4sIIIqI", b"rows", len(data), raw_bytes, rows, first_ns, zlib.crc32(data))
    return start + struct.pack("<I", zlib.crc32(start)) + data


def header_of(text: bytes, version: int = 1) -> bytes:
    crc = zlib.crc32(struct.pack("<II", version, len(text)) + text)
    return b"overhop\n" + struct.pack("<III", version, len(text), crc) + text


def test_reader_gives_all_columns_of_all_frames(tmp_path: Path) -> None:
    reader = SegmentReader(written(tmp_path, WHOLE))
    assert reader.header == HEADER
    frames = list(reader)
    assert [(frame.first_ns, frame.rows) for frame in frames] == [
        (1_700_000_000_000_000_000, 2),
        (1_700_000_000_000_001_000, 1),
        (1_700_000_000_000_002_000, 3),
    ]
    last = frames[2].columns
    assert list(last) == ["time", "cluster", "node", "what", "state", "detail", "since"]
    time, since = last["time"], last["since"]
    assert isinstance(time, np.ndarray)
    assert isinstance(since, np.ndarray)
    assert time.dtype == since.dtype == np.int64
    assert time.tolist() == [1_700_000_000_000_002_000, 1_700_000_000_000_002_001, 1_700_000_000_000_002_002]
    assert since.tolist() == [0, 1, 2]
    assert texts(last["cluster"]) == ["lab"] * 3
    assert texts(last["node"]) == ["n1"] * 3
    assert texts(last["detail"]) == ["four", "five", "six"]
    assert (reader.unread_bytes, reader.damages) == (0, [])


def test_reader_of_a_segment_of_the_first_release(tmp_path: Path) -> None:
    assert details_of(written(tmp_path, FIRST_RELEASE)) == ["first"]


def test_encode_frame_has_the_bytes_of_the_document() -> None:
    frame = FRAMES[1]
    raw = zlib.decompress(frame[32:])
    assert raw == (
        b"\1\0\0\0\5\0\0\0\5\0\0\0agent" + b"\1\0\0\0\7\0\0\0\7\0\0\0running"
        + b"\1\0\0\0\5\0\0\0\5\0\0\0three" + bytes(8)
    )  # fmt: skip
    assert frame == frame_of(frame[32:], len(raw), 1, AT_NS + 1000)


def test_encode_frame_of_more_rows_than_a_frame_holds_is_none() -> None:
    assert encode_frame(events(*["x"] * 8193), AT_NS) is None
    assert encode_frame(events(*["x"] * 8192), AT_NS) is not None


def test_encode_header_of_hostile_names_comes_back(tmp_path: Path) -> None:
    hostile = Header("event", EVENT.columns, 'é"\n\0', "../" + "n" * 300 + "\udc80", AT_NS)
    with SegmentReader(written(tmp_path, encode_header(hostile))) as reader:
        header = reader.header
    assert header
    assert (header.cluster, header.node) == ('é"\n\0', "../" + "n" * 300 + "\\udc80")


def test_reader_of_a_torn_segment_gives_whole_frames_and_counts_the_rest(tmp_path: Path) -> None:
    for end in range(len(WHOLE) + 1):
        frames = sum(end >= each for each in ENDS[1:])
        whole_bytes = max((each for each in ENDS if each <= end), default=0)
        assert read(written(tmp_path, WHOLE[:end])) == ([*DETAILS[:frames]], end - whole_bytes, []), end


def test_reader_of_a_changed_byte_in_the_header_reads_nothing(tmp_path: Path) -> None:
    for at in range(len(START)):
        frames, unread, _ = read(written(tmp_path, flipped(at)))
        assert (frames, unread) == ([], len(WHOLE)), at


@pytest.mark.parametrize("number", [0, 1, 2])
def test_reader_of_a_changed_byte_in_the_start_of_a_frame_stops_there(tmp_path: Path, number: int) -> None:
    for at in range(ENDS[number], ENDS[number] + 32):
        unread = len(WHOLE) - ENDS[number]
        damage = (ENDS[number], unread, "the checksum of a frame's start is wrong")
        assert read(written(tmp_path, flipped(at))) == ([*DETAILS[:number]], unread, [damage]), at


@pytest.mark.parametrize("number", [0, 1, 2])
def test_reader_of_a_changed_byte_in_a_frame_skips_this_frame(tmp_path: Path, number: int) -> None:
    others = [*DETAILS[:number], *DETAILS[number + 1 :]]
    damage = (ENDS[number], len(FRAMES[number]), "the checksum of a frame is wrong")
    for at in range(ENDS[number] + 32, ENDS[number + 1]):
        assert read(written(tmp_path, flipped(at))) == (others, 0, [damage]), at


def test_reader_names_damage_in_the_middle(tmp_path: Path) -> None:
    at = ENDS[1] + 40
    path = written(tmp_path, WHOLE[:at] + bytes([WHOLE[at] ^ 1]) + WHOLE[at + 1 :])
    reader = SegmentReader(path)
    assert [texts(frame.columns["detail"]) for frame in reader] == [["one", "two"], ["four", "five", "six"]]
    assert [str(damage) for damage in reader.damages] == [
        f"{path}: {len(FRAMES[1])} bytes from {ENDS[1]} on: the checksum of a frame is wrong"
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_reader_of_any_changes_gives_only_rows_that_were_written(tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray(WHOLE[: data.draw(st.integers(0, len(WHOLE)))])
    for at in data.draw(st.lists(st.integers(0, len(WHOLE) - 1), max_size=8)):
        if at < len(changed):
            changed[at] = data.draw(st.integers(0, 255))
    changed += data.draw(st.binary(max_size=40))
    frames, unread, damages = read(written(tmp_path, bytes(changed)))
    left = iter(DETAILS)
    assert all(frame in left for frame in frames)  # in order, none twice
    skipped = sum(length for offset, length, _ in damages if offset + length <= len(changed) - unread)
    assert (unread + skipped > 0) == (bytes(changed) not in (b"", *(WHOLE[:end] for end in ENDS)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(max_size=300), behind=st.sampled_from([b"", b"overhop\n", START, WHOLE]))
def test_reader_of_garbage_reads_nothing_of_it(tmp_path: Path, garbage: bytes, behind: bytes) -> None:
    frames, unread, _ = read(written(tmp_path, behind + garbage))
    assert frames == ([*DETAILS] if behind == WHOLE else [])
    assert unread == len(garbage) + (len(behind) if behind == b"overhop\n" else 0)


BOMB = zlib.compress(bytes(200 << 20), 9)
RAW = zlib.decompress(FRAMES[1][32:])
PACKED = zlib.compress(RAW)
OTHER_SIZE = "a frame has another size than it says"


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (frame_of(BOMB, 200 << 20, 1), "a frame claims 1 rows of 209715200 bytes"),
        (frame_of(BOMB, len(RAW), 1), OTHER_SIZE),
        (frame_of(PACKED, 0xFFFFFFFF, 1), "a frame claims 1 rows of 4294967295 bytes"),
        (frame_of(PACKED, len(RAW), 0), f"a frame claims 0 rows of {len(RAW)} bytes"),
        (frame_of(PACKED, len(RAW), 2**32 - 1), f"a frame claims 4294967295 rows of {len(RAW)} bytes"),
        (frame_of(PACKED, len(RAW), 1, -1), "a frame claims the time -1"),
        (frame_of(PACKED, len(RAW), 1, 2**63 - 1), f"a frame claims the time {2**63 - 1}"),
        (frame_of(PACKED, len(RAW), 2), "the numbers are 8 bytes, which 2 rows have not"),
        (frame_of(PACKED[:-1], len(RAW), 1), OTHER_SIZE),
        (frame_of(PACKED + b"x", len(RAW), 1), OTHER_SIZE),
        (frame_of(PACKED, len(RAW) - 1, 1), OTHER_SIZE),
        (frame_of(b"", 0, 1), OTHER_SIZE),
        (frame_of(b"no zlib at all", 14, 1), "a frame cannot be decompressed"),
    ],
)  # fmt: skip
def test_reader_of_a_hostile_frame_skips_it_and_stays_small(
    tmp_path: Path, frame: bytes, reason: str
) -> None:
    path = written(tmp_path, START + frame + FRAMES[1])
    tracemalloc.start()
    try:
        assert read(path) == ([["three"]], 0, [(len(START), len(frame), reason)])
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_reader_of_a_frame_that_claims_4_gib_stops_there(tmp_path: Path) -> None:
    start = struct.pack("<4sIIIqI", b"rows", 0xFFFFFFFF, 10, 1, AT_NS, 0)
    path = written(tmp_path, START + start + struct.pack("<I", zlib.crc32(start)) + FRAMES[1])
    unread = 32 + len(FRAMES[1])
    assert read(path) == ([], unread, [(len(START), unread, "a frame claims 4294967295 bytes")])


NO_HEADER = "the header is not what an appender writes"
WHERE = [["time", "i8"], ["cluster", "str"], ["node", "str"]]


def about(**changes: object) -> bytes:
    whole = {"table": "event", "columns": WHERE, "cluster": "", "node": "", "first_ns": 0}
    return json.dumps(whole | changes).encode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", NO_HEADER),
        (b"\xff", NO_HEADER),
        (b"[]", NO_HEADER),
        (b"[" * 100_000, NO_HEADER),
        (about(columns=1), NO_HEADER),
        (about(columns=[1]), NO_HEADER),
        (about(node="\udc80"), NO_HEADER),
        (about(first_ns=float("inf")), NO_HEADER),
        (about(first_ns=None), NO_HEADER),
        (about(columns=[]), "the header's columns do not begin with time, cluster, node"),
        (about(columns=[*WHERE, ["a", "u4"], ["a", "u4"]]), "the header has a column twice"),
        (about(columns=[*WHERE, ["a", "O"]]), "the header has a column of unknown type"),
        (about(columns=[*WHERE, ["a", "S9999999"]]), "the header has a column of unknown type"),
    ],
    ids=lambda value: str(value[:60]),
)
def test_reader_of_a_hostile_header_has_none(tmp_path: Path, text: bytes, reason: str) -> None:
    data = header_of(text) + FRAMES[0]
    reader = SegmentReader(written(tmp_path, data))
    assert (reader.header, list(reader), reader.unread_bytes) == (None, [], len(data))
    assert [damage.reason for damage in reader.damages] == [reason]


def test_reader_of_a_newer_format_refuses(tmp_path: Path) -> None:
    path = written(tmp_path, header_of(b"{}", version=2))
    with pytest.raises(StoreError) as refused:
        SegmentReader(path)
    assert str(refused.value) == (
        f"segment {path}: it has format 2, this overhop knows 1: use the overhop that wrote it"
    )


def test_reader_of_columns_that_a_later_schema_added_gives_them(tmp_path: Path) -> None:
    columns = (*EVENT.columns[:3], Column("new", "u1"))
    raw = b"\7"
    data = encode_header(Header("event", columns, "", "n1", 1)) + frame_of(zlib.compress(raw), 1, 1)
    (frame,) = SegmentReader(written(tmp_path, data))
    assert list(frame.columns) == ["time", "cluster", "node", "new"]


def test_reader_of_a_missing_segment_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SegmentReader(tmp_path / "00000001.seg")


def test_last_row_ns_needs_no_data(tmp_path: Path) -> None:
    assert last_row_ns(written(tmp_path, WHOLE)) == 1_700_000_000_000_002_002
    assert last_row_ns(written(tmp_path, WHOLE[:-1])) == 1_700_000_000_000_001_000
    assert last_row_ns(written(tmp_path, START)) == 0
    assert last_row_ns(written(tmp_path, b"")) == 0


def test_is_held_while_somebody_has_the_flock(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    assert not is_held(path)
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert is_held(path)
        assert is_held(path)
    assert not is_held(path)


def test_labels_of_one_text_share_it(tmp_path: Path) -> None:
    (frame,) = SegmentReader(written(tmp_path, START + FRAMES[0]))
    what = frame.columns["what"]
    assert isinstance(what, Labels)
    assert [*what.values] == ["agent"]
