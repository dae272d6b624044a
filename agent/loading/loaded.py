# SPDX-License-Identifier: Apache-2.0
"""Programs and maps in the kernel, and how they get there from bytecode, without a compiler."""

import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from agent.loading.errors import LoadStopped
from bpf import syscall
from bpf.bytecode import Bytecode, MapDefinition, load_program, new_maps, with_descriptors, with_map_numbers

_ATTEMPTS: Final = 5


@dataclass(slots=True)
class Loaded:
    """Programs and maps in the kernel, by descriptor; they live as long as these (or an attachment) do."""

    programs: dict[str, int]
    maps: dict[str, int]
    verified_insns: dict[str, int]
    compile_s: float
    load_s: float

    def count_insns(self) -> None:
        """Ask the kernel for `verified_insns`. Raises BpfError; then everything is closed."""
        try:
            for name, descriptor in self.programs.items():
                self.verified_insns[name] = syscall.prog_info(descriptor).verified_insns
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every descriptor; may be called twice."""
        for descriptors in (self.programs, self.maps):
            while descriptors:
                os.close(descriptors.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load_bytecode(code: Bytecode, stop: Callable[[], bool]) -> Loaded:
    """New maps and programs. Raises BpfError, ValueError (damaged), LoadStopped if `stop()` turned true."""
    begun_s = time.monotonic()
    loaded = Loaded({}, {}, {}, 0.0, 0.0)
    try:
        with new_maps(code.maps) as maps:
            for name, numbered in code.programs.items():
                insns = with_descriptors(numbered, maps)
                loaded.programs[name] = _load_program(name, insns, code.license, stop)
            loaded.maps.update((one.name, os.dup(fd)) for one, fd in zip(code.maps, maps, strict=True))
    except BaseException:
        loaded.close()
        raise
    loaded.load_s = time.monotonic() - begun_s
    loaded.count_insns()
    return loaded


def _load_program(name: str, code: bytes, license_text: str, stop: Callable[[], bool]) -> int:
    """The verifier gives up when a signal comes (EAGAIN), whatever the signal is for."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        if stop():
            raise LoadStopped(f"load {name}: stopped")
        try:
            return load_program(name, code, license_text)
        except syscall.BpfError as error:
            if error.errno != errno.EAGAIN or not attempts_left:
                raise
    raise AssertionError("the last attempt returns or raises")


def bytecode_of(
    loaded: Loaded, codes: Sequence[bytes], map_numbers: Sequence[int], license_text: str
) -> Bytecode:
    """What load_bytecode() needs to load the same again, the maps as the kernel has them.

    `codes`: of each program, with `map_numbers` (one per map) for maps. Raises BpfError, ValueError.
    """
    infos = {name: syscall.map_info(descriptor) for name, descriptor in loaded.maps.items()}
    definitions = tuple(
        MapDefinition(name, one.type, one.key_bytes, one.value_bytes, one.max_entries, one.flags)
        for name, one in infos.items()
    )
    numbered = [with_map_numbers(code, map_numbers) for code in codes]
    return Bytecode(license_text, definitions, dict(zip(loaded.programs, numbered, strict=True)))
