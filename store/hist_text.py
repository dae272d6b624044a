# SPDX-License-Identifier: Apache-2.0
"""The column `hist` of a summary row: base64 of varints (docs/store.md, "Histogram")."""

from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from store.histogram import BUCKETS, QUARTER_OF_BUCKET, Counts
from store.schema import QUARTER_OCTAVES

_TEXTS_AT_ONCE = 512
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
    found = _read(texts, first_row)
    rows = np.repeat(np.arange(first_row, first_row + len(texts)), found.pairs)
    return Occupied(rows, found.up_to - np.repeat(found.before, found.pairs), found.counts)


def merged(texts: Sequence[str], groups: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.uint64]:
    """The sum of each of `count` groups of histograms; text i is of group `groups[i]`. Raises ValueError."""
    sums = np.zeros(count * BUCKETS, np.uint64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = slice(start, start + _TEXTS_AT_ONCE)
        found = _read(texts[some], start)
        offsets = groups[some] * BUCKETS - found.before
        np.add.at(sums, np.repeat(offsets, found.pairs) + found.up_to, found.counts)
    return sums.reshape(count, BUCKETS)


def merged_quarters(texts: Sequence[str], groups: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.uint64]:
    """As `merged`, in quarter octaves: rows of 80 counts."""
    sums = np.zeros(count * QUARTER_OCTAVES, np.uint64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        found = decode(texts[start : start + _TEXTS_AT_ONCE], start)
        np.add.at(sums, groups[found.rows] * QUARTER_OCTAVES + QUARTER_OF_BUCKET[found.buckets], found.counts)
    return sums.reshape(count, QUARTER_OCTAVES)


@dataclass(frozen=True, slots=True)
class _Read:
    """Pairs of bucket and count, text by text: `pairs` says how many each text has.

    A pair's bucket is its `up_to`, the sum of all steps so far, without what was `before` its text.
    """

    pairs: npt.NDArray[np.intp]
    before: npt.NDArray[np.int64]
    up_to: npt.NDArray[np.int64]
    counts: npt.NDArray[np.uint64]


def _read(texts: Sequence[str], first_row: int) -> _Read:
    data, text_ends = _bytes(texts, first_row)
    values, value_ends = _values(data, text_ends, first_row)
    _refuse(np.diff(value_ends, prepend=0) % 2 > 0, first_row, "a bucket without its count")
    steps, counts, ends = values[0::2], values[1::2], value_ends // 2
    pairs = np.diff(ends, prepend=0)
    up_to = np.append(0, steps.cumsum())
    before = up_to[ends - pairs]
    firsts = (ends - pairs)[pairs > 0]
    repeated = len(steps) - np.count_nonzero(steps) - np.count_nonzero(steps[firsts] == 0)
    if repeated or int(steps.max(initial=0)) >= BUCKETS or (up_to[ends] - before >= BUCKETS).any():
        is_bad = (steps == 0) | (steps >= BUCKETS)
        is_bad[firsts] = steps[firsts] >= BUCKETS
        is_beyond = up_to[ends] - before >= BUCKETS
        _refuse(is_beyond | _any_of(is_bad, ends), first_row, "a bucket that does not exist")
    if not counts.all():
        _refuse(_any_of(counts == 0, ends), first_row, "a bucket that counts nothing")
    return _Read(pairs, before, up_to[1:], counts.view(np.uint64))


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


def _bytes(texts: Sequence[str], first_row: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.intp]]:
    """What is in the texts, one behind the other; and where each one ends."""
    fills = [-len(text) % 4 for text in texts]
    whole = "".join([text + "AAA"[:fill] for text, fill in zip(texts, fills, strict=True)])
    try:
        if "=" in whole or 3 in fills:
            raise ValueError("a text has padding, or lacks a letter")
        data = np.frombuffer(a2b_base64(whole, strict_mode=True), np.uint8)
    except (Error, ValueError):
        for row, text in enumerate(texts, first_row):
            _require_base64(row, text)
        raise
    filled = np.array(fills, np.intp)
    lengths = np.array([len(text) for text in texts], np.intp) * 3 // 4
    ends = (lengths + filled).cumsum()
    is_ours = np.ones(len(data), np.bool_)
    for back in (1, 2):
        is_ours[ends[filled >= back] - back] = False
    return data[is_ours], lengths.cumsum()


def _require_base64(row: int, text: str) -> None:
    try:
        if "=" in text:
            raise ValueError("it has padding")
        a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (Error, ValueError) as error:
        raise ValueError(f"histogram {row}: {text[:20]!r} is no base64: {error}") from None


def _values(
    data: npt.NDArray[np.uint8], text_ends: npt.NDArray[np.intp], first_row: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """The varints in `data`, and where those of each text end.

    Nearly all are of one byte: only the others take more than one step.
    """
    ends = np.flatnonzero(data < 0x80)
    value_ends = np.searchsorted(ends, text_ends)
    is_cut = np.append(data, 0)[text_ends - 1] >= 0x80
    _refuse(is_cut & (np.diff(text_ends, prepend=0) > 0), first_row, "it is cut off")
    lengths = np.diff(ends, prepend=-1)
    longest = int(lengths.max(initial=1))
    if longest > _MAX_VARINT_BYTES:
        _refuse(_any_of(lengths > _MAX_VARINT_BYTES, value_ends), first_row, "a number is too large")
    values = data[ends].astype(np.int64)
    for back in range(1, longest):
        some = np.flatnonzero(lengths > back)
        values[some] = values[some] << 7 | (data[ends[some] - back] & 0x7F)
    return values, value_ends


def _any_of(which: npt.NDArray[np.bool_], ends: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Of each text, whether any of what is its own is so."""
    up_to = np.append(0, which.cumsum())[ends]
    return np.diff(up_to, prepend=0) > 0


def _refuse(which: npt.NDArray[np.bool_], first_row: int, reason: str) -> None:
    if which.any():
        raise ValueError(f"histogram {first_row + int(which.argmax())}: {reason}")
