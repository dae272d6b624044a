# SPDX-License-Identifier: Apache-2.0
import contextlib
import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.batch import Batch, Labels, Numbers
from store.columns import Damaged, decode_columns, encode_columns
from store.schema import EVENT, TABLES, TEXT, Column, Table

WHERE = (Column("time", "i8"), Column("cluster", TEXT), Column("node", TEXT))
NUMBERS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8")
ALL = Table("all", (*WHERE, *(Column(dtype, dtype) for dtype in NUMBERS), Column("text", TEXT)), 1)
SMALL = Table(
    "small", (*WHERE, Column("a", "u2"), Column("text", TEXT), Column("b", "u4"), Column("c", "i2")), 1
)
SMALL_BATCH = Batch(
    SMALL,
    {
        "a": np.array([0x0102, 0x0304], np.uint16),
        "text": Labels(("x", "né"), np.array([1, 0], np.uint32)),
        "b": np.array([1, 0x0A0B0C0D], np.uint32),
        "c": np.array([-1, -2], np.int16),
    },
)
SMALL_BYTES = (
    b"\x02\0\0\0" + b"\x04\0\0\0" + b"\x01\0\0\0" + b"\x03\0\0\0" + "xné".encode()  # text: 2 of 4 bytes
    + b"\x01\x0d" + b"\x00\x0c" + b"\x00\x0b" + b"\x00\x0a"  # b, four planes
    + b"\x02\x04" + b"\x01\x03"  # a, two planes
    + b"\xff\xfe" + b"\xff\xff"  # c
    + b"\x01\x00"  # codes of text
)  # fmt: skip


def columns_of(table: Table) -> tuple[Column, ...]:
    return table.columns[3:]


def same(one: Numbers | Labels, other: Numbers | Labels) -> bool:
    if isinstance(one, Labels) and isinstance(other, Labels):
        return [*one.texts()] == [*other.texts()]
    assert isinstance(one, np.ndarray)
    assert isinstance(other, np.ndarray)
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def round_trip(batch: Batch) -> bool:
    raw = encode_columns(batch)
    assert raw is not None
    decoded = decode_columns(raw, len(batch), columns_of(batch.table))
    assert list(decoded) == [each.name for each in columns_of(batch.table)]
    return all(same(decoded[name], column) for name, column in batch.columns.items())


def test_encode_columns_gives_the_bytes_of_the_document() -> None:
    assert encode_columns(SMALL_BATCH) == SMALL_BYTES


def test_decode_columns_reads_the_bytes_of_the_document() -> None:
    decoded = decode_columns(SMALL_BYTES, 2, columns_of(SMALL))
    assert {name: same(column, SMALL_BATCH.columns[name]) for name, column in decoded.items()} == {
        "a": True,
        "text": True,
        "b": True,
        "c": True,
    }


@pytest.mark.parametrize("rows", [1, 2, 255, 256, 257, 8192])
def test_columns_of_all_types_come_back(rows: int) -> None:
    random = np.random.default_rng(rows)
    columns: dict[str, Numbers | Labels] = {
        dtype: np.frombuffer(random.bytes(rows * np.dtype(dtype).itemsize), dtype) for dtype in NUMBERS
    }
    columns["text"] = Labels.of([f"text {number % 300}" for number in range(rows)])
    assert round_trip(Batch(ALL, columns))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_columns_of_all_tables_come_back(table: Table) -> None:
    random = np.random.default_rng(4)
    columns: dict[str, Numbers | Labels] = {
        each.name: Labels(("a", "b"), random.integers(0, 2, 9).astype(np.uint32))
        if each.dtype == TEXT
        else random.integers(0, 100, 9).astype(each.dtype)
        for each in columns_of(table)
    }
    assert round_trip(Batch(table, columns))


def test_columns_that_are_strided_come_back() -> None:
    wide = np.arange(30, dtype=np.uint64).reshape(10, 3)
    batch = Batch(
        SMALL,
        {
            "a": np.arange(20, dtype=np.uint16)[::2],
            "text": Labels(("x", "y"), np.array([0, 1] * 10, np.uint32)[::2]),
            "b": wide.view(np.uint32)[:, 1],
            "c": np.arange(10, dtype=np.int16)[::-1],
        },
    )
    assert round_trip(batch)


def labelled(values: list[str], codes: npt.NDArray[np.uint32]) -> Batch:
    labels = Labels(values, codes)
    since = np.zeros(len(codes), np.int64)
    return Batch(EVENT, {"what": labels, "state": labels, "detail": labels, "since": since})


@pytest.mark.parametrize("texts", [1, 2, 256, 257, 65_536, 65_537])
def test_labels_of_any_number_come_back(texts: int) -> None:
    values = [str(number) for number in range(texts)]
    batch = labelled(values, np.arange(texts, dtype=np.uint32))
    assert round_trip(batch)


def test_labels_of_a_large_dictionary_keep_only_what_is_used() -> None:
    batch = labelled([f"{number:08}" for number in range(5000)], np.array([4999, 7, 4999], np.uint32))
    raw = encode_columns(batch)
    assert raw is not None
    assert len(raw) == 3 * (8 + 2 * 4 + 2 * 8 + 3) + 3 * 8
    assert round_trip(batch)


@pytest.mark.parametrize("text", ["", "\0", "né", "\U0001f600", "\x1b[31m", "x" * 100_000, "a\nb"])
def test_labels_of_hostile_texts_come_back(text: str) -> None:
    assert round_trip(labelled([text, "other"], np.array([0, 1], np.uint32)))


def test_labels_with_lone_surrogates_become_visible() -> None:
    raw = encode_columns(labelled(["a\udc80"], np.array([0], np.uint32)))
    assert raw is not None
    detail = decode_columns(raw, 1, columns_of(EVENT))["detail"]
    assert isinstance(detail, Labels)
    assert [*detail.values] == ["a\\udc80"]


@pytest.mark.parametrize("values", [[], ["a"], ["a", "b"]])
def test_encode_columns_a_code_without_text_is_an_error(values: list[str]) -> None:
    with pytest.raises(ValueError, match=f"a code beyond their {len(values)} texts"):
        encode_columns(labelled(values, np.array([2], np.uint32)))


def test_encode_columns_more_than_16_mib_is_none() -> None:
    assert encode_columns(labelled(["x" * (6 << 20)], np.array([0], np.uint32))) is None


@pytest.mark.parametrize(
    ("raw", "rows", "reason"),
    [
        (SMALL_BYTES[:7], 2, "column text is cut off"),
        (SMALL_BYTES[:19], 2, "the texts of column text are cut off"),
        (SMALL_BYTES[:-1], 2, "the numbers are 17 bytes, which 2 rows have not"),
        (SMALL_BYTES + b"x", 2, "the numbers are 19 bytes, which 2 rows have not"),
        (SMALL_BYTES, 3, "the numbers are 18 bytes, which 3 rows have not"),
        (SMALL_BYTES[:-1] + b"\x02", 2, "column text has a code beyond its texts"),
        (SMALL_BYTES[:8] + b"\x02" + SMALL_BYTES[9:], 2, "the texts of column text have other lengths"),
        (SMALL_BYTES.replace("é".encode(), b"\xff\xff"), 2, "a text of column text is not UTF-8"),
        (struct.pack("<II", 0xFFFFFFFF, 0) + SMALL_BYTES[8:], 2, "the texts of column text are cut off"),
        (struct.pack("<II", 0, 0) + bytes(16), 2, "column text has a code beyond its texts"),
    ],
)
def test_decode_columns_of_what_nobody_writes_is_damaged(raw: bytes, rows: int, reason: str) -> None:
    with pytest.raises(Damaged) as damaged:
        decode_columns(raw, rows, columns_of(SMALL))
    assert str(damaged.value) == reason


@given(st.binary(max_size=200), st.integers(1, 8192))
def test_decode_columns_of_garbage_is_damaged_at_worst(raw: bytes, rows: int) -> None:
    for columns in (columns_of(SMALL), columns_of(ALL), columns_of(EVENT)):
        with contextlib.suppress(Damaged):
            decode_columns(raw, rows, columns)


@given(st.integers(0, len(SMALL_BYTES) - 1), st.integers(0, 255))
def test_decode_columns_with_any_byte_changed_is_damaged_at_worst(at: int, byte: int) -> None:
    with contextlib.suppress(Damaged):
        decode_columns(SMALL_BYTES[:at] + bytes([byte]) + SMALL_BYTES[at + 1 :], 2, columns_of(SMALL))
