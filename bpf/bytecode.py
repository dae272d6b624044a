# SPDX-License-Identifier: Apache-2.0
"""Compiled programs without a compiler: maps and programs into the kernel by bpf(2).

Bytecode at rest has the numbers of its maps where the kernel wants descriptors; a map's number is its place
in `Bytecode.maps`.
"""

import ctypes
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bpf import syscall
from bpf.attr import MapCreateAttr, ProgLoadAttr

INSN_BYTES: Final = 8
LOG_LEVEL_ALL: Final = 1
LOG_LEVEL_STATS: Final = 4
_NAME_BYTES: Final = 15
_LD_IMM64: Final = 0x18
_PSEUDO_MAP_FD: Final = 1
_IMMEDIATE: Final = struct.Struct("<i")  # behind u8 opcode, u8 registers, i16 offset
_IMMEDIATE_AT: Final = 4

Log = ctypes.Array[ctypes.c_char]


@dataclass(frozen=True, slots=True)
class MapDefinition:
    """What a map is made of; sizes in bytes, `type` and `flags` as in linux/bpf.h."""

    name: str
    type: int
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class Bytecode:
    """Everything of one compilation that the kernel gets to see."""

    license: str
    maps: tuple[MapDefinition, ...]
    programs: Mapping[str, bytes]
    """Instructions by name, with map numbers in place of descriptors."""


def with_map_numbers(code: bytes, descriptors: Sequence[int]) -> bytes:
    """Instructions that name maps by descriptor, now by their place in `descriptors`.

    Raises ValueError for a descriptor that is not there, and for anything else that only this boot knows.
    """
    known = {descriptor: number for number, descriptor in enumerate(descriptors)}
    unknown = {each for _, each in _map_loads(code)} - known.keys()
    if unknown:
        raise ValueError(f"bytecode: map descriptors {sorted(unknown)} are of no map")
    return _with_immediates(code, known)


def with_descriptors(code: bytes, descriptors: Sequence[int]) -> bytes:
    """The reverse of with_map_numbers(). Raises ValueError for a number beyond the maps."""
    known = dict(enumerate(descriptors))
    for _, number in _map_loads(code):
        if number not in known:
            raise ValueError(f"bytecode: map number {number} of {len(descriptors)} maps")
    return _with_immediates(code, known)


@contextmanager
def new_maps(definitions: Sequence[MapDefinition]) -> Iterator[list[int]]:
    """Maps, in the order of their numbers; their descriptors are closed with the block. Raises BpfError."""
    descriptors: list[int] = []
    try:
        for wanted in definitions:
            descriptors.append(_create_map(wanted))
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def load_program(
    name: str, code: bytes, license_text: str, log_level: int = 0, log: Log | None = None
) -> int:
    """Descriptor of a traffic control program; `code` has descriptors of maps. Raises BpfError.

    EAGAIN: a signal came while the verifier worked; nothing is wrong with the program.
    """
    licence = ctypes.create_string_buffer(license_text.encode())
    insns = ctypes.create_string_buffer(code, len(code))
    attr = ProgLoadAttr(
        prog_type=syscall.PROG_TYPE_SCHED_CLS,
        insn_cnt=len(code) // INSN_BYTES,
        insns=ctypes.addressof(insns),
        license=ctypes.addressof(licence),
        log_level=log_level,
        log_size=len(log) if log else 0,
        log_buf=ctypes.addressof(log) if log else 0,
        prog_name=_kernel_name(name),
    )
    return syscall.command("PROG_LOAD", attr, f"{name}, {attr.insn_cnt} instructions")


def _create_map(wanted: MapDefinition) -> int:
    attr = MapCreateAttr(
        map_type=wanted.type,
        key_size=wanted.key_bytes,
        value_size=wanted.value_bytes,
        max_entries=wanted.max_entries,
        map_flags=wanted.flags,
        map_name=_kernel_name(wanted.name),
    )
    return syscall.command("MAP_CREATE", attr, wanted.name)


def _kernel_name(name: str) -> bytes:
    return name.encode()[:_NAME_BYTES]


def _with_immediates(code: bytes, known: Mapping[int, int]) -> bytes:
    insns = bytearray(code)
    for at, immediate in _map_loads(code):
        _IMMEDIATE.pack_into(insns, at, known[immediate])
    return bytes(insns)


def _map_loads(code: bytes) -> list[tuple[int, int]]:
    """Where a map is named, and its name. The second half of such an instruction has opcode 0."""
    if len(code) % INSN_BYTES:
        raise ValueError(f"bytecode: {len(code)} bytes are no whole instructions")
    found = []
    for at in range(0, len(code), INSN_BYTES):
        if code[at] != _LD_IMM64:
            continue
        pseudo = code[at + 1] >> 4
        if pseudo > _PSEUDO_MAP_FD:
            raise ValueError(f"bytecode: 64-bit load of kind {pseudo} is none of a map")
        if pseudo == _PSEUDO_MAP_FD:
            found.append((at + _IMMEDIATE_AT, _IMMEDIATE.unpack_from(code, at + _IMMEDIATE_AT)[0]))
    return found
