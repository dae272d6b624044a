# SPDX-License-Identifier: Apache-2.0
"""Loaded bench programs behind BPF_PROG_TEST_RUN: runs them, times them, and checks what they counted."""

import mmap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from agent.loading.loader import Loaded, load
from agent.reading.counters import CounterReader
from agent.reading.ring import RingReader
from bench.datapath_packets import SERVER
from bpf import syscall
from bpf.record import WAY, WAY_TAKEN, WAYS
from bpf.spec import SOURCE, ProgramSpec

EMPTY = "oh_bench_empty"
ENDS = ("oh_nic_in", "oh_vport_out")
PROGRAMS = (EMPTY, *ENDS, "oh_bench_first", "oh_bench_pair", "oh_bench_pair_nic")
LOOPBACK = 1
"""The interface of a test run's packets."""
FREE_COUNTERS = frozenset({"overwritten", "expired"})
"""They depend on which stamps share a set."""


class BenchError(RuntimeError):
    """What was measured is not what the case is about."""


@dataclass(frozen=True, slots=True)
class Case:
    """One packet at one or several programs (the dearest is told), and what each run must count."""

    name: str
    packet: bytes
    programs: tuple[str, ...]
    budget_ns: float
    repeat: int
    counted: tuple[str, ...] = ()
    """Counters that go up by one with each run; all others but FREE_COUNTERS stay."""
    context_at: int | None = None
    """Offset that the records of a pair must give; 0: none found, None: no records."""


class Rig:
    """Programs of one window. Close it, or use it with `with`. Raises LoaderError, BpfError, BenchError."""

    def __init__(self, window: int, source: Path = SOURCE) -> None:
        self.spec = ProgramSpec(window=window)
        self.loaded = load(self.spec, programs=PROGRAMS, extra_defines=("-DBENCH",), source=source)
        maps = self.loaded.maps
        self._counters = CounterReader(maps["oh_counters"])
        self._ring = Ring(maps["oh_ring"])
        self._slots = mmap.mmap(maps["oh_slots"], self.spec.sets * WAYS * WAY.itemsize)
        self._keys = np.frombuffer(self._slots, WAY)["key"]
        address = b"\0" * 10 + b"\xff\xff" + SERVER
        syscall.map_update(maps["oh_owners"], LOOPBACK.to_bytes(4, "little") + address, bytes(4))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._keys
        self._slots.close()
        self.loaded.close()

    def net_ns(self, case: Case, program: str) -> float:
        """CPU time of one run, net of the empty program's, checked by the counters."""
        self._keys[self._keys != 0] |= np.uint64(WAY_TAKEN)
        self._ring.discard()
        empty_ns = self._run_ns(EMPTY, case)
        before = self._counters.read()
        full_ns = self._run_ns(program, case)
        after = self._counters.read()
        check_counters(case, {name: after[name] - before[name] for name in after})
        return full_ns - empty_ns

    def _run_ns(self, program: str, case: Case) -> float:
        fd = self.loaded.programs[program]
        began_ns = time.thread_time_ns()
        syscall.prog_test_run(fd, case.packet, repeat=case.repeat)
        return (time.thread_time_ns() - began_ns) / case.repeat

    def check_records(self, case: Case) -> None:
        """One run of a pair must give one record with the context where it is."""
        if case.context_at is None:
            return
        self._ring.discard()
        syscall.prog_test_run(self.loaded.programs[case.programs[0]], case.packet)
        with RingReader(self.loaded.maps["oh_ring"], self.spec.ring_bytes) as reader:
            records = reader.read()
        offsets = records["context_offset"].tolist()
        if offsets != [case.context_at]:
            raise BenchError(f"case {case.name}: context at {case.context_at}? Records say {offsets}")


def check_counters(case: Case, counted: dict[str, int]) -> None:
    """Raises BenchError if the runs did not count what the case is about."""
    expected = {name: case.repeat if name in case.counted else 0 for name in counted}
    wrong = [
        f"{name} {counted[name]}, not {expected[name]}"
        for name in counted
        if counted[name] != expected[name] and name not in FREE_COUNTERS
    ]
    if wrong:
        raise BenchError(f"case {case.name}, {case.repeat} runs: {', '.join(wrong)}")


class Ring:
    """The ring's positions; nobody reads its records here."""

    def __init__(self, fd: int) -> None:
        page = mmap.PAGESIZE
        self._consumer = np.frombuffer(mmap.mmap(fd, page), np.uint64, count=1)
        produced = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._producer = np.frombuffer(produced, np.uint64, count=1)

    def discard(self) -> None:
        """Everything in the ring counts as read."""
        self._consumer[0] = self._producer[0]


def verifier_insns(
    windows: Sequence[int], programs: Sequence[str], source: Path
) -> dict[str, dict[str, int]]:
    """Instructions that the verifier walked, by program and window."""
    insns: dict[str, dict[str, int]] = {program: {} for program in programs}
    for window in windows:
        with load(ProgramSpec(window=window), programs=programs, source=source) as loaded:
            for program, count in loaded.verified_insns.items():
                insns[program][str(window)] = count
    return insns


def maps_bytes(loaded: Loaded) -> int:
    """Memory that the maps of the product are charged with; those of the bench itself not."""
    return sum(
        syscall.map_info(fd).memlock_bytes
        for name, fd in loaded.maps.items()
        if not name.startswith("oh_bench")
    )
