# SPDX-License-Identifier: Apache-2.0
import numpy as np

from agent.hops.records import joined
from agent.reading.memory import RecordMemory
from bpf.record import RECORD

ROW = np.dtype((np.void, 128))


def filled(memory: RecordMemory, count: int, seq: int) -> np.ndarray:
    records = memory.rows(count).view(RECORD)
    records["seq"] = np.arange(seq, seq + count)
    return records


def test_rows_that_are_held_are_not_given_again() -> None:
    memory = RecordMemory(ROW, rows=10)
    held = [filled(memory, 4, seq) for seq in (0, 4, 8, 12)]
    assert [one["seq"].tolist() for one in held] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [12, 13, 14, 15],
    ]


def test_rows_that_nobody_holds_are_given_again() -> None:
    memory = RecordMemory(ROW, rows=10)
    first = filled(memory, 4, 0).ctypes.data
    assert [filled(memory, 4, 0).ctypes.data for _ in range(5)] == [first] * 5


def test_rows_held_by_a_view_of_a_field_only_are_not_given_again() -> None:
    memory = RecordMemory(ROW, rows=10)
    seqs = filled(memory, 4, 0)["seq"]
    filled(memory, 4, 50)
    assert seqs.tolist() == [0, 1, 2, 3]


def test_rows_held_joined_only_are_not_given_again() -> None:
    memory = RecordMemory(ROW, rows=10)
    records = joined([filled(memory, 2, 0), filled(memory, 3, 2)])
    filled(memory, 2, 50)
    filled(memory, 5, 60)
    assert records["seq"].tolist() == [0, 1, 2, 3, 4]


def test_rows_of_more_than_fit_are_a_memory_of_their_own() -> None:
    memory = RecordMemory(ROW, rows=10)
    assert filled(memory, 11, 0)["seq"].tolist() == list(range(11))
    assert filled(memory, 10, 5)["seq"].tolist() == list(range(5, 15))


def test_joined_of_neighbours_makes_no_copy() -> None:
    memory = RecordMemory(ROW, rows=10)
    parts = [filled(memory, 2, 0), filled(memory, 3, 2), filled(memory, 1, 5)]
    found = joined(parts)
    assert found.dtype == RECORD
    assert found["seq"].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.shares_memory(found, parts[1])


def test_joined_of_others_makes_a_copy_in_their_order() -> None:
    memory = RecordMemory(ROW, rows=10)
    parts = [filled(memory, 2, 0), filled(memory, 3, 2), filled(memory, 4, 5)]
    for order, seqs in ((parts[::-1], [5, 6, 7, 8, 2, 3, 4, 0, 1]), (parts[::2], [0, 1, 5, 6, 7, 8])):
        found = joined(order)
        assert found["seq"].tolist() == seqs
        assert not np.shares_memory(found, parts[0])
