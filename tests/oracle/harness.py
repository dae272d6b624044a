# SPDX-License-Identifier: Apache-2.0
"""Runs steps through the real programs and compares counters, records and slots with the model."""

import ctypes
import mmap
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from struct import pack_into
from typing import Protocol

import numpy as np

from agent.loading.loader import Loaded, load
from agent.reading.counters import CounterReader
from agent.reading.ring import RingReader
from agent.reading.slots import SET_BYTES
from bpf import syscall
from bpf.record import RECORD, WAY, WAY_LOCKED
from tests.oracle.cases import Case
from tests.oracle.expect import Model, Step
from tests.oracle.generate import IFINDEXES
from tests.oracle.packet import Request
from tests.oracle.taps import Taps

UNSPEC = -1
MAX_TEST_RUN_BYTES = 3520
"""BPF_PROG_TEST_RUN takes one page less head room and skb_shared_info."""
BATCH_LIMIT_NS = 1_500_000_000
"""A batch that took longer may have seen stamps expire (2 s): it is run again."""
CLONE_NEWNET = 0x40000000
_CONTEXT_BYTES = 192
_IFINDEX_AT, _GSO_SEGS_AT, _GSO_SIZE_AT = 40, 164, 176


class Mismatch(AssertionError):  # noqa: N818 (what it is)
    """The kernel program and the model disagree."""


class Transport(Protocol):
    """A way to let a packet pass a tracing point."""

    has_socket: bool

    def seen(self, step: Step) -> Step | None:
        """The step as the program sees it; None if it cannot be carried."""

    def send(self, step: Step) -> None:
        """Let it pass; raises Mismatch if the verdict or the packet is not as it must be."""


class ProgRuns:
    """BPF_PROG_TEST_RUN: linear packets, skb->sk always set."""

    has_socket = True

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def seen(self, step: Step) -> Step | None:
        """Since Linux 6.18 an IP header must be whole where one is announced."""
        least = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(step.packet[12:14], 14)
        return step if least <= len(step.packet) <= MAX_TEST_RUN_BYTES else None

    def send(self, step: Step) -> None:
        fd = self._loaded.programs[step.point.program]
        run = syscall.prog_test_run(fd, step.packet, context=_context(step))
        if run.retval != UNSPEC:
            raise Mismatch(f"{step.point.program} returned {run.retval}, not {UNSPEC}")
        if run.data_out != step.packet:
            raise Mismatch(f"{step.point.program} changed the packet into {run.data_out.hex()}")


def _context(step: Step) -> bytes:
    """struct __sk_buff (uapi/linux/bpf.h) with the fields that a test run takes."""
    if step.ifindex == 1 and not step.gso_size and not step.gso_segs:
        return b""
    context = bytearray(_CONTEXT_BYTES)
    pack_into("=I", context, _IFINDEX_AT, step.ifindex)
    pack_into("=I", context, _GSO_SEGS_AT, step.gso_segs)
    pack_into("=I", context, _GSO_SIZE_AT, step.gso_size)
    return bytes(context)


class Rig:
    """The loaded programs of one case and everything that reads them."""

    def __init__(self, case: Case, loaded: Loaded, transport: Transport) -> None:
        self._case, self._loaded, self._transport = case, loaded, transport
        self._ring = RingReader(loaded.maps["oh_ring"], case.spec.ring_bytes)
        self._counters = CounterReader(loaded.maps["oh_counters"])
        self._slots = mmap.mmap(loaded.maps["oh_slots"], case.spec.sets * SET_BYTES)
        self._ways = np.frombuffer(self._slots, WAY)
        self._cpus = syscall.possible_cpus()
        self._records = 0
        self._write_maps()

    def close(self) -> None:
        self._ring.close()
        del self._ways
        self._slots.close()

    def carried(self, steps: Sequence[Step]) -> list[Step]:
        """The steps that the transport can carry."""
        return [step for step in steps if self._transport.seen(step)]

    def check(self, steps: Sequence[Step]) -> int:
        """Run steps that are `carried` from an empty table; returns the number of records.

        Raises Mismatch with the smallest part of the steps that shows the difference.
        """
        problem = self._compare(steps)
        if problem:
            raise Mismatch(f"case {self._case.name!r}: " + self._explain(steps, problem))
        return self._records

    def _compare(self, steps: Sequence[Step]) -> str | None:
        """What differs, or None."""
        while True:
            begin_ns = time.monotonic_ns()
            problem = self._compare_once(steps, begin_ns)
            if time.monotonic_ns() - begin_ns < BATCH_LIMIT_NS:
                return problem

    def _compare_once(self, steps: Sequence[Step], begin_ns: int) -> str | None:
        self._slots[:] = bytes(len(self._slots))
        model = Model(self._case.spec, self._case.vports, self._transport.has_socket)
        before = self._counters.read()
        seen_before = self._read_seen()
        try:
            for step in steps:
                self._send(step)
        except Mismatch as mismatch:
            self._ring.read()
            return str(mismatch)
        for step in steps:
            self._model_run(model, step)
        after = self._counters.read()
        records = self._ring.read()
        self._records = len(records)
        got = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        expected = {name: count for name, count in model.counters.items() if count}
        if got != expected:
            return f"counters: expected {expected}, got {got}"
        seen = {key: count - seen_before[key] for key, count in self._read_seen().items()}
        if {key: count for key, count in seen.items() if count} != dict(model.seen):
            return f"oh_seen: expected {dict(model.seen)}, got {seen}"
        keys = self._ways["key"]
        used = np.flatnonzero(keys).tolist()
        slots = dict(zip(used, keys[used].tolist(), strict=True))
        if slots != model.slot_keys:
            return f"slot keys by way: expected {model.slot_keys}, got {slots}"
        end_ns = time.monotonic_ns() + sum(step.age_ns for step in steps)
        return compare_records(records, model.records, begin_ns, end_ns)

    def _send(self, step: Step) -> None:
        """Let one packet pass, after what happens to the table before it."""
        if step.age_ns:
            used = self._ways["key"] != 0
            self._ways["time_vni"][used] -= np.uint64(step.age_ns << 24)
        if not step.locked:
            self._transport.send(step)
            return
        held = list(step.locked)
        kept = self._ways["key"][held]
        self._ways["key"][held] = WAY_LOCKED
        try:
            self._transport.send(step)
        finally:
            self._ways["key"][held] = kept

    def _explain(self, steps: Sequence[Step], problem: str) -> str:
        """The shortest beginning that differs, without the steps that do not matter."""
        culprits = list(steps)
        for end in range(1, len(steps) + 1):
            found = self._compare(steps[:end])
            if found:
                culprits, problem = list(steps[:end]), found
                break
        else:
            return f"only as a whole batch: {problem}"
        at = 0
        while at < len(culprits):
            fewer = culprits[:at] + culprits[at + 1 :]
            found = self._compare(fewer)
            if found:
                culprits, problem = fewer, found
            else:
                at += 1
        return "\n".join([problem, *self._told(culprits)])

    def _told(self, steps: Sequence[Step]) -> Iterator[str]:
        model = Model(self._case.spec, self._case.vports, self._transport.has_socket)
        for sent in steps:
            outcome = self._model_run(model, sent)
            step = self._transport.seen(sent) or sent
            where = f"{step.point.label} ifindex {step.ifindex} gso {step.gso_size}/{step.gso_segs}"
            where += f" age {step.age_ns} locked {step.locked}" if step.age_ns or step.locked else ""
            yield f"  {where}, {len(step.packet)} bytes: {step.packet.hex()}"
            yield f"    model: {outcome}"
        yield f"  {self._case}"

    def _model_run(self, model: Model, step: Step) -> Request | str | None:
        seen = self._transport.seen(step)
        return model.run(seen) if seen else None

    def _read_seen(self) -> dict[tuple[int, str], int]:
        counts = {}
        for ifindex in self._case.vports.seen:
            value = syscall.map_lookup(self._loaded.maps["oh_seen"], _u32(ifindex), 16 * self._cpus)
            sums = np.frombuffer(value or bytes(16), "<u8").reshape(-1, 2).sum(axis=0)
            counts[ifindex, "looks_tls"], counts[ifindex, "looks_h2"] = int(sums[0]), int(sums[1])
        return counts

    def _write_maps(self) -> None:
        maps, vports = self._loaded.maps, self._case.vports
        for ifindex, address in vports.owners:
            syscall.map_update(maps["oh_owners"], _u32(ifindex) + address, _u32(1))
        for ifindex, wanted in vports.filters.items():
            value = bytes((wanted.directions, wanted.sample_shift, wanted.require_sampled, 0))
            syscall.map_update(maps["oh_filter"], _u32(ifindex), value)
        for ifindex in vports.seen:
            syscall.map_update(maps["oh_seen"], _u32(ifindex), bytes(16 * self._cpus))


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def compare_records(records: np.ndarray, expected: Sequence[bytes], begin_ns: int, end_ns: int) -> str | None:
    """What differs between the records read and those expected; times must only be possible."""
    if len(records) != len(expected):
        return f"{len(expected)} records expected, got {len(records)}"
    is_possible = (records["second_ns"] >= begin_ns) & (records["second_ns"] <= end_ns)
    is_possible &= records["latency_ns"] <= end_ns - begin_ns
    if not is_possible.all():
        return f"impossible times in {records[~is_possible][:3]}, run was {begin_ns} to {end_ns}"
    got = records.copy()
    got["second_ns"] = got["latency_ns"] = 0
    wanted = np.frombuffer(b"".join(expected), RECORD)
    if got.tobytes() == wanted.tobytes():
        return None
    for ours, theirs in zip(wanted, got, strict=True):
        names = [name for name in RECORD.names or () if ours[name].tobytes() != theirs[name].tobytes()]
        if names:
            return "record: " + "; ".join(
                f"{n}: expected {_text(ours[n])}, got {_text(theirs[n])}" for n in names
            )
    return None


def _text(value: np.generic) -> str:
    return value.tobytes().hex() if value.dtype.kind == "V" else str(value)


@contextmanager
def fresh_namespace() -> Iterator[None]:
    """This thread in a network namespace of its own, with interfaces of the indexes of IFINDEXES."""
    libc = ctypes.CDLL(None, use_errno=True)
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET): the fuzz needs root")
        _, one, other = (str(ifindex) for ifindex in IFINDEXES)
        command = [
            "ip",
            "link",
            "add",
            "fuzz0",
            "index",
            one,
            "type",
            "veth",
            "peer",
            "fuzz1",
            "index",
            other,
        ]
        subprocess.run(command, check=True)
        yield
    finally:
        if libc.setns(back, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns: cannot return to the first network namespace")
        os.close(back)


@contextmanager
def rig(case: Case) -> Iterator[Rig]:
    """The programs of a case, loaded, behind test runs."""
    with (
        load(case.spec, extra_defines=case.extra_defines) as loaded,
        closing(Rig(case, loaded, ProgRuns(loaded))) as made,
    ):
        yield made


@contextmanager
def live_rig(case: Case) -> Iterator[Rig]:
    """The programs of a case, loaded, behind TAP devices of this network namespace."""
    with (
        load(case.spec, extra_defines=case.extra_defines) as loaded,
        Taps(loaded) as taps,
        closing(Rig(case, loaded, taps)) as made,
    ):
        yield made
