# SPDX-License-Identifier: Apache-2.0
"""The column `hist` of a summary row: base64 of varints (docs/store.md, "Histogram")."""

from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from store.histogram import BUCKETS, Counts

_TEXTS_AT_ONCE = 1024
"""Bounds the memory of merging to a few MB: numbers are worked on in eight bytes each."""
_MAX_VARINT_BYTES = 9
"""63 bits: more than any count."""
_CHUNK_ROWS = 64
"""Rows encoded at once: bounds the memory."""


@dataclass(frozen=True, slots=True)
class Occupied:
    """The occupied buckets of several histograms: bucket `buckets[i]` of row `rows[i]` holds `counts[i]`."""

    rows: npt.NDArray[np.intp]
    buckets: npt.NDArray[np.intp]
    counts: npt.NDArray[np.uint64]


def encode(counts: Counts) -> list[str]:
    """One text per row of 902 counts; an empty histogram is an empty text."""
    starts = range(0, len(counts), _CHUNK_ROWS)
    return [text for start in starts for text in _encode(counts[start : start + _CHUNK_ROWS])]


def _encode(counts: Counts) -> list[str]:
    rows, buckets = np.nonzero(counts)
    steps = np.diff(buckets, prepend=0)
    is_first = np.diff(rows, prepend=-1) != 0
    steps[is_first] = buckets[is_first]
    values = np.empty(2 * len(rows), np.uint64)
    values[0::2], values[1::2] = steps, counts[rows, buckets]
    data, ends = _varints(values)
    bounds = np.append(0, ends)[2 * np.searchsorted(rows, np.arange(len(counts) + 1))].tolist()
    return [
        b2a_base64(data[start:end], newline=False).rstrip(b"=").decode() for start, end in pairwise(bounds)
    ]


def decode(texts: Sequence[str], first_row: int = 0) -> Occupied:
    """What `encode` made of histograms; `first_row`: the number of the first of these texts.

    Raises ValueError: which text is no histogram, and why.
    """
    parts = [_bytes(row, text) for row, text in enumerate(texts, first_row)]
    data = np.frombuffer(b"".join(parts), np.uint8)
    numbers = np.arange(first_row, first_row + len(parts), dtype=np.int32)
    values, value_rows = _values(data, np.repeat(numbers, [len(part) for part in parts]))
    per_row = np.bincount(value_rows, minlength=first_row + len(parts))
    _refuse(np.flatnonzero(per_row % 2), "a bucket without its count")
    rows, steps, counts = value_rows[0::2], values[0::2], values[1::2]
    is_first = np.diff(rows, prepend=-1) != 0
    _refuse(rows[(steps >= BUCKETS) | (~is_first & (steps == 0))], "a bucket that does not exist")
    _refuse(rows[counts == 0], "a bucket that counts nothing")
    total = steps.astype(np.intp).cumsum()
    before = (total - steps.astype(np.intp))[is_first]
    buckets = total - before[is_first.cumsum() - 1] if len(rows) else total
    _refuse(rows[buckets >= BUCKETS], "a bucket that does not exist")
    return Occupied(rows, buckets, counts)


def merged(texts: Sequence[str], groups: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.uint64]:
    """The sum of each of `count` groups of histograms; text i is of group `groups[i]`. Raises ValueError."""
    sums = np.zeros(count * BUCKETS, np.uint64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        found = decode(texts[start : start + _TEXTS_AT_ONCE], start)
        np.add.at(sums, groups[found.rows] * BUCKETS + found.buckets, found.counts)
    return sums.reshape(count, BUCKETS)


def _varints(values: npt.NDArray[np.uint64]) -> tuple[bytes, npt.NDArray[np.intp]]:
    """All values one after the other, seven bits a byte, the lowest first; and where each one ends."""
    lengths = np.ones(len(values), np.intp)
    for bits in range(7, int(values.max(initial=0)).bit_length(), 7):
        lengths += values >= np.uint64(1 << bits)
    ends = lengths.cumsum()
    data = np.zeros(ends[-1] if len(ends) else 0, np.uint8)
    for at in range(int(lengths.max(initial=0))):
        some = lengths > at
        is_last = lengths[some] == at + 1
        seven = values[some] >> np.uint64(7 * at) & np.uint64(0x7F)
        data[(ends - lengths)[some] + at] = np.where(is_last, seven, seven | np.uint64(0x80))
    return data.tobytes(), ends


def _bytes(row: int, text: str) -> bytes:
    try:
        if "=" in text:
            raise ValueError("it has padding")
        return a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (Error, ValueError) as error:
        raise ValueError(f"histogram {row}: {text[:20]!r} is no base64: {error}") from None


def _values(
    data: npt.NDArray[np.uint8], rows: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.intp]]:
    """The varints in `data`, and the row of each; `rows` says whose each byte is.

    Nearly all are of one byte: only the others take more than one step.
    """
    ends = np.flatnonzero(data < 0x80)
    row_ends = np.flatnonzero(np.append(rows[1:] != rows[:-1], True))[: len(data)]
    _refuse(rows[row_ends[data[row_ends] >= 0x80]], "it is cut off")
    lengths = np.diff(ends, prepend=-1)
    _refuse(rows[ends[lengths > _MAX_VARINT_BYTES]], "a number is too large")
    values = data[ends].astype(np.uint64)
    for back in range(1, int(lengths.max(initial=1))):
        some = np.flatnonzero(lengths > back)
        lower = (data[ends[some] - back] & 0x7F).astype(np.uint64)
        values[some] = values[some] << np.uint64(7) | lower
    return values, rows[ends].astype(np.intp)


def _refuse(rows: npt.NDArray[np.intp] | npt.NDArray[np.int32], reason: str) -> None:
    if len(rows):
        raise ValueError(f"histogram {rows[0]}: {reason}")
