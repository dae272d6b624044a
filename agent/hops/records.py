# SPDX-License-Identifier: Apache-2.0
"""Records as rows of 64-bit words: numpy copies those ten times faster than structures of many fields."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bpf.record import RECORD

Records = npt.NDArray[np.void]
"""An array of bpf.record.RECORD."""
WORDS = RECORD.itemsize // 8


def words_of(records: Records) -> npt.NDArray[np.uint64]:
    """One row of 16 little-endian words per record; no copy if they lie side by side."""
    return np.ascontiguousarray(records).view(np.uint64).reshape(len(records), WORDS)


def taken(records: Records, rows: npt.NDArray[np.intp]) -> Records:
    """A copy of these rows."""
    found: Records = words_of(records).take(rows, axis=0).reshape(-1).view(RECORD)
    return found


def joined(batches: Sequence[Records]) -> Records:
    """All batches in one; the only one as it is, and without a copy if they lie side by side in memory."""
    if len(batches) == 1:
        return batches[0]
    found = _side_by_side(batches)
    return _concatenated(batches) if found is None else found


def _side_by_side(batches: Sequence[Records]) -> Records | None:
    """One view of all of them, if each begins where the one before ends (agent/reading/memory.py)."""
    if not batches or not isinstance(memory := batches[0].base, np.ndarray):
        return None
    begin = at = _address(batches[0])
    for batch in batches:
        if batch.base is not memory or _address(batch) != at or not batch.flags.c_contiguous:
            return None
        at += batch.nbytes
    offset = begin - _address(memory)
    return np.ndarray(((at - begin) // RECORD.itemsize,), RECORD, memory.data, offset)


def _address(array: npt.NDArray[np.void]) -> int:
    return array.ctypes.data  # __array_interface__ has it too, after a description of every field


def _concatenated(batches: Sequence[Records]) -> Records:
    words = np.concatenate([np.empty((0, WORDS), np.uint64), *map(words_of, batches)])
    found: Records = words.reshape(-1).view(RECORD)
    return found
