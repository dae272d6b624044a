# SPDX-License-Identifier: Apache-2.0
import pytest

from bpf.bytecode import with_descriptors, with_map_numbers

MOVE = bytes.fromhex("b700000012000000")  # r0 = 18
LOAD_MAP_17 = bytes.fromhex("1811000011000000") + bytes(8)  # r1 = map of descriptor 17
LOAD_MAP_1 = bytes.fromhex("1811000001000000") + bytes(8)
LOAD_NUMBER_17 = bytes.fromhex("1801000011000000") + bytes(8)  # r1 = 17 ll
LOAD_MAP_VALUE = bytes.fromhex("1821000011000000") + bytes(8)


def test_with_map_numbers_names_maps_by_their_place() -> None:
    code = MOVE + LOAD_MAP_17 + LOAD_NUMBER_17
    assert with_map_numbers(code, [5, 17]) == MOVE + LOAD_MAP_1 + LOAD_NUMBER_17


def test_with_descriptors_is_the_reverse() -> None:
    code = MOVE + LOAD_MAP_1 + LOAD_NUMBER_17
    assert with_descriptors(code, [5, 17]) == MOVE + LOAD_MAP_17 + LOAD_NUMBER_17


def test_code_without_maps_stays_as_it_is() -> None:
    assert with_map_numbers(MOVE, []) == MOVE
    assert with_descriptors(MOVE, []) == MOVE


def test_with_map_numbers_of_a_descriptor_of_no_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^bytecode: map descriptors \[17\] are of no map$"):
        with_map_numbers(LOAD_MAP_17, [5])


def test_with_map_numbers_of_a_load_that_only_this_boot_knows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^bytecode: 64-bit load of kind 2 is none of a map$"):
        with_map_numbers(LOAD_MAP_VALUE, [17])


@pytest.mark.parametrize("maps", [[], [5]])
def test_with_descriptors_of_a_number_beyond_the_maps_is_refused(maps: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"^bytecode: map number 1 of {len(maps)} maps$"):
        with_descriptors(LOAD_MAP_1, maps)


def test_half_an_instruction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^bytecode: 12 bytes are no whole instructions$"):
        with_descriptors(bytes(12), [])
