# SPDX-License-Identifier: Apache-2.0
import struct

import pytest

from agent.reading.counters import CounterReader


def test_read_of_two_cpus_sums_each_counter_by_name() -> None:
    value = struct.pack("<44Q", *range(22), *range(100, 122))
    asked: list[tuple[int, bytes, int]] = []

    def lookup(fd: int, key: bytes, value_bytes: int) -> bytes:
        asked.append((fd, key, value_bytes))
        return value

    counters = CounterReader(9, lookup, cpus=2).read()
    assert asked == [(9, b"\0\0\0\0", 352)]
    assert list(counters)[:2] == ["first", "taken"]
    assert counters["first"] == 100
    assert counters["taken"] == 102
    assert counters["scratch_busy"] == 142
    assert all(type(count) is int for count in counters.values())


def test_read_of_large_counters_keeps_all_64_bits() -> None:
    value = struct.pack("<22Q", *[2**64 - 1] * 22)
    assert CounterReader(9, lambda *_: value, cpus=1).read()["records"] == 18446744073709551615


def test_read_of_a_map_without_the_entry_says_which() -> None:
    with pytest.raises(LookupError, match=r"counters \(fd 9\): the map has no entry 0"):
        CounterReader(9, lambda *_: None, cpus=1).read()
