# SPDX-License-Identifier: Apache-2.0
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from agent.reading.slots import (
    SlotsLockedError,
    WaitingStamp,
    count_waiting,
    count_waiting_in,
    waiting_stamps,
)
from bpf.record import WAY, WAY_TAKEN, Point

SETS = 64


@pytest.fixture
def table() -> Iterator[int]:
    fd = os.memfd_create("overhop-test-slots")
    os.ftruncate(fd, SETS * 64)
    yield fd
    os.close(fd)


def put(fd: int, way: int, **fields: int | bytes) -> None:
    row = np.zeros(1, WAY)
    for name, value in fields.items():
        row[name] = value
    os.pwrite(fd, row.tobytes(), way * 32)


def test_count_waiting_of_an_empty_table_is_zero(table: int) -> None:
    assert count_waiting(table, SETS) == 0


def test_count_waiting_counts_waiting_but_neither_taken_nor_empty(table: int) -> None:
    put(table, 0, key=2)
    put(table, 1, key=2**63 - 1)
    put(table, 127, key=77)
    put(table, 64, key=77 | WAY_TAKEN)
    assert count_waiting(table, SETS) == 3


def test_count_waiting_in_waits_until_a_locked_way_is_free() -> None:
    ways = np.zeros(4, WAY)
    ways["key"] = [1, 5, 0, 1]

    def unlock() -> None:
        ways["key"][0] = 9
        ways["key"][3] = 9 | WAY_TAKEN

    timer = threading.Timer(0.02, unlock)
    timer.start()
    assert count_waiting_in(ways, timeout_s=5) == 2
    timer.join()


def test_count_waiting_in_with_a_way_that_stays_locked_raises() -> None:
    ways = np.zeros(2, WAY)
    ways["key"][1] = 1
    with pytest.raises(SlotsLockedError, match=r"slots: 1 stayed locked for 0\.01 s"):
        count_waiting_in(ways, timeout_s=0.01)


def test_count_waiting_of_something_unmappable_names_it() -> None:
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(OSError, match=rf"map slots \(fd {read_end}, 64 sets\): .*BPF_F_MMAPABLE"):
            count_waiting(read_end, SETS)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_waiting_stamps_are_decoded_and_sorted_by_age(table: int) -> None:
    put(table, 3, key=5, time_vni=1_000 << 24 | 42, dst=bytes([10, 1, 2, 3]), ifindex=7, sport=4000, dport=80)
    put(table, 9, key=6, time_vni=400 << 24, ifindex=8, meta=1 << 5 | 8)
    assert waiting_stamps(table, SETS, now_ns=1_500) == [
        WaitingStamp(Point.VPORT_IN, 8, "", 0, 0, 1_100),
        WaitingStamp(Point.NIC_IN, 7, "10.1.2.3", 4000, 80, 500),
    ]


def test_waiting_stamps_behind_the_wrap_of_40_bits_have_the_right_age(table: int) -> None:
    put(table, 0, key=5, time_vni=(2**40 - 10) << 24)
    assert waiting_stamps(table, SETS, now_ns=2**40 + 20)[0].age_ns == 30
