# SPDX-License-Identifier: Apache-2.0
"""The kernel's counters, summed over the CPUs."""

from collections.abc import Callable

import numpy as np

from bpf import syscall
from bpf.counters import NAMES

LOSSES = ("slot_busy", "overwritten", "slot_busy_second", "ring_full", "scratch_busy")
"""Counters that stand for lost hops or lost contexts."""
_KEY = (0).to_bytes(4, "little")
_VALUE_BYTES = 8 * len(NAMES)

Lookup = Callable[[int, bytes, int], bytes | None]
"""bpf.syscall.map_lookup, or a stand-in: (fd, key, value_bytes) -> value."""


class CounterReader:
    """Reads the map `oh_counters`: per CPU one struct of u64 in the order of bpf.counters.NAMES."""

    def __init__(self, fd: int, lookup: Lookup = syscall.map_lookup, cpus: int = 0) -> None:
        self._fd = fd
        self._lookup = lookup
        self._cpus = cpus or syscall.possible_cpus()

    def read(self) -> dict[str, int]:
        """Each counter's sum over the CPUs, by name. Raises BpfError if the map cannot be read."""
        value = self._lookup(self._fd, _KEY, _VALUE_BYTES * self._cpus)
        if value is None:
            raise LookupError(f"counters (fd {self._fd}): the map has no entry 0: is it oh_counters?")
        return total(value, self._cpus)


def total(value: bytes, cpus: int) -> dict[str, int]:
    """Sums the per-CPU values of one lookup: `cpus` times len(NAMES) little-endian u64."""
    per_cpu = np.frombuffer(value, "<u8").reshape(cpus, len(NAMES))
    sums = per_cpu.sum(axis=0, dtype=np.uint64)
    return dict(zip(NAMES, sums.tolist(), strict=True))
