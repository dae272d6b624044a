# SPDX-License-Identifier: Apache-2.0
"""The stamps that wait for their pair, seen by mapping the slot table (docs/datapath.md §3)."""

import contextlib
import mmap
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bpf.record import WAY, WAY_LOCKED, WAY_TAKEN, WAYS, Point

SET_BYTES = WAYS * WAY.itemsize
LOCK_TIMEOUT_S = 0.1
"""A way is locked for some 50 ns; only a CPU stopped in the middle (a virtual machine) holds it longer."""
_META_POINT_SHIFT = 5
_META_POINT_MASK = 7
_TIME_BITS = 40

Ways = npt.NDArray[np.void]
"""An array of bpf.record.WAY."""


@dataclass(frozen=True, slots=True)
class WaitingStamp:
    """One stamp without its pair. `age_ns` is modulo 2^40 ns (18 minutes); `dst` is empty for IPv6."""

    point: Point
    ifindex: int
    dst: str
    sport: int
    dport: int
    age_ns: int


class SlotsLockedError(RuntimeError):
    """Some slots stayed locked: the number of waiting stamps is not known."""


class SlotTable:
    """Maps `oh_slots` (`sets` sets of 64 bytes) for reading. Raises OSError if it is not mappable."""

    def __init__(self, fd: int, sets: int) -> None:
        try:
            self._mapping = mmap.mmap(fd, sets * SET_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        except OSError as error:
            raise OSError(
                error.errno,
                f"map slots (fd {fd}, {sets} sets): {error.strerror}: needs an array with BPF_F_MMAPABLE",
            ) from error
        self.ways: Ways = np.frombuffer(self._mapping, WAY, count=sets * WAYS)

    def close(self) -> None:
        """Unmaps the table; the file descriptor stays with the caller."""
        self.ways = np.empty(0, WAY)
        with contextlib.suppress(
            BufferError
        ):  # an array in the traceback of an error: the mapping goes with it
            self._mapping.close()


def count_waiting(fd: int, sets: int) -> int:
    """Number of stamps that wait for their pair, expired ones included. Raises OSError, SlotsLockedError."""
    table = SlotTable(fd, sets)
    try:
        return count_waiting_in(table.ways)
    finally:
        table.close()


def count_waiting_in(ways: Ways, timeout_s: float = LOCK_TIMEOUT_S) -> int:
    """As count_waiting, over mapped ways; ways that are locked are looked at again until `timeout_s`."""
    keys = ways["key"].copy()
    waiting = _waiting(keys)
    locked = np.flatnonzero(keys == WAY_LOCKED)
    deadline_s = time.monotonic() + timeout_s
    while len(locked):
        keys = ways["key"][locked]
        waiting += _waiting(keys)
        locked = locked[keys == WAY_LOCKED]
        if len(locked) and time.monotonic() > deadline_s:
            raise SlotsLockedError(f"slots: {len(locked)} stayed locked for {timeout_s} s, try again")
    return waiting


def _waiting(keys: npt.NDArray[np.uint64]) -> int:
    return int(np.count_nonzero((keys > WAY_LOCKED) & (keys < WAY_TAKEN)))


def waiting_stamps(fd: int, sets: int, now_ns: int) -> list[WaitingStamp]:
    """The waiting stamps, oldest first, for looking at by hand; `now_ns` is CLOCK_MONOTONIC.

    A way that changes while it is read may come out mixed. Raises OSError.
    """
    table = SlotTable(fd, sets)
    try:
        keys = table.ways["key"]
        ways = table.ways[(keys > WAY_LOCKED) & (keys < WAY_TAKEN)]
    finally:
        del keys
        table.close()
    return sorted((_stamp(way, now_ns) for way in ways), key=lambda stamp: -stamp.age_ns)


def _stamp(way: np.void, now_ns: int) -> WaitingStamp:
    meta = int(way["meta"])
    address = bytes(way["dst"])
    return WaitingStamp(
        point=Point(meta >> _META_POINT_SHIFT & _META_POINT_MASK),
        ifindex=int(way["ifindex"]),
        dst=".".join(str(byte) for byte in address) if any(address) else "",
        sport=int(way["sport"]),
        dport=int(way["dport"]),
        age_ns=(now_ns - (int(way["time_vni"]) >> 64 - _TIME_BITS)) % (1 << _TIME_BITS),
    )
