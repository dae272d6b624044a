# SPDX-License-Identifier: Apache-2.0
import contextlib
from base64 import b64encode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.hist_text import decode, encode, merged
from store.histogram import BUCKETS

SPARSE = st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 2**63 - 1), max_size=40)


def counts_of(*rows: dict[int, int]) -> np.ndarray:
    counts = np.zeros((len(rows), BUCKETS), np.uint64)
    for row, occupied in enumerate(rows):
        for bucket, count in occupied.items():
            counts[row, bucket] = count
    return counts


def text_of(*numbers: int) -> str:
    return b64encode(bytes(numbers)).decode().rstrip("=")


def test_encode_is_steps_and_counts_as_varints() -> None:
    # Bucket 3 counts 1; bucket 5: step 2, count 300 = 0b10_0101100.
    assert encode(counts_of({3: 1, 5: 300})) == [text_of(3, 1, 2, 0xAC, 0x02)]


def test_encode_of_the_first_and_the_last_bucket() -> None:
    # 901 = 0b111_0000101.
    assert encode(counts_of({0: 7, 901: 1})) == [text_of(0, 7, 0x85, 0x07, 1)]


def test_encode_of_an_empty_histogram_is_an_empty_text() -> None:
    assert encode(counts_of({}, {1: 1}, {})) == ["", text_of(1, 1), ""]
    assert encode(counts_of()) == []


def test_decode_of_empty_texts_occupies_nothing() -> None:
    for texts in ([], ["", ""]):
        found = decode(texts)
        assert (len(found.rows), len(found.buckets), len(found.counts)) == (0, 0, 0)


@given(st.lists(SPARSE, max_size=12))
def test_decode_gives_back_what_encode_was_given(rows: list[dict[int, int]]) -> None:
    found = decode(encode(counts_of(*rows)))
    back: list[dict[int, int]] = [{} for _ in rows]
    for row, bucket, count in zip(found.rows, found.buckets, found.counts, strict=True):
        back[row][int(bucket)] = int(count)
    assert back == rows


def test_encode_of_more_rows_than_a_chunk_keeps_their_order() -> None:
    rows = [{number: number + 1} for number in range(150)]
    assert decode(encode(counts_of(*rows))).buckets.tolist() == list(range(150))


def test_merged_sums_each_group() -> None:
    texts = encode(counts_of({1: 2, 5: 1}, {5: 10}, {7: 1}, {}))
    sums = merged(texts, np.array([0, 0, 2, 1]), 3)
    assert sums.shape == (3, BUCKETS)
    assert [dict(zip(*(part.tolist() for part in (np.flatnonzero(row), row[row > 0])), strict=True))
            for row in sums] == [{1: 2, 5: 11}, {}, {7: 1}]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A", "is no base64"),
        ("AQ=", "is no base64"),
        ("AQE=", "it has padding"),
        ("AQ!E", "is no base64"),
        ("AÄ", "is no base64"),
        (text_of(1), "a bucket without its count"),
        (text_of(1, 0x80), "it is cut off"),
        (text_of(1, 0), "a bucket that counts nothing"),
        (text_of(1, 1, 0, 1), "a bucket that does not exist"),
        (text_of(0x86, 0x07, 1), "a bucket that does not exist"),
        (text_of(0x85, 0x07, 1, 1, 1), "a bucket that does not exist"),
        (text_of(*[0x80] * 9, 1, 1), "a number is too large"),
        (text_of(1, *[0xFF] * 8, 0xFF, 0x01), "a number is too large"),
    ],
)
def test_decode_of_a_bad_text_says_which_and_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^histogram 1: .*{reason}"):
        decode([text_of(1, 1), text, text_of(2, 1)])


@given(st.text(alphabet="ABwxyz019+/=- é", max_size=30))
def test_decode_of_any_text_is_a_histogram_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert (decode([text]).buckets < BUCKETS).all()
