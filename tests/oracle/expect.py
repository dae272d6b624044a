# SPDX-License-Identifier: Apache-2.0
"""Model of the four programs (docs/datapath.md §3 to §6): packets at tracing points -> counters, records."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from bpf.record import RECORD, RING_STRIDE, Encap, Kind, Point, Quality
from bpf.spec import ProgramSpec
from tests.oracle.context import Context, names_of, search
from tests.oracle.packet import Request, Tunnels, parse
from tests.oracle.slots import MASK64, Slots, Stamp, hash_source

KINDS: Mapping[tuple[Point, Point], Kind] = {
    (Point.NIC_IN, Point.VPORT_OUT): Kind.RX,
    (Point.VPORT_IN, Point.NIC_OUT): Kind.TX,
    (Point.VPORT_IN, Point.VPORT_OUT): Kind.LOCAL,
    (Point.NIC_IN, Point.NIC_OUT): Kind.FORWARD,
}
_NIC = (Point.NIC_IN, Point.NIC_OUT)
_FIRST = (Point.NIC_IN, Point.VPORT_IN)
_CODES = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q"}


def _record_format() -> str:
    """The struct format of RECORD, derived from it: one layout only."""
    codes = []
    for name in RECORD.names or ():
        kind = RECORD[name].str.lstrip("<|>")
        codes.append(_CODES.get(kind) or f"{kind.removeprefix('V')}s")
    return "<" + "".join(codes)


_pack_record = Struct(_record_format()).pack


class Step(NamedTuple):
    """One packet at one tracing point."""

    point: Point
    packet: bytes
    ifindex: int = 1
    gso_size: int = 0
    gso_segs: int = 0
    age_ns: int = 0
    """Before the packet every stamp gets this much older."""
    locked: tuple[int, ...] = ()
    """Numbers of ways that are locked while it passes."""


class VportFilter(NamedTuple):
    """An entry of `oh_filter`."""

    directions: int
    """1: in, 2: out."""
    sample_shift: int
    require_sampled: int


@dataclass(frozen=True, slots=True)
class Vports:
    """What user space has written into the maps."""

    owners: frozenset[tuple[int, bytes]] = frozenset()
    """(ifindex, 16 bytes of address; all zero: the addresses of this vport are known)."""
    filters: Mapping[int, VportFilter] = field(default_factory=dict)
    seen: frozenset[int] = frozenset()
    """The ifindexes that have an entry in `oh_seen`."""


class Model:
    """State of the four programs of one spec, from empty slots and an empty ring that nobody reads.

    `has_socket`: skb->sk is set, as in every BPF_PROG_TEST_RUN.
    """

    def __init__(self, spec: ProgramSpec, vports: Vports, has_socket: bool) -> None:
        self.counters: Counter[str] = Counter()
        self.seen: Counter[tuple[int, str]] = Counter()
        self.records: list[bytes] = []
        """Expected records in order, second_ns and latency_ns 0."""
        self._spec, self._vports, self._has_socket = spec, vports, has_socket
        self._tunnels, self._names = Tunnels.of(spec), names_of(spec)
        self._slots = Slots(spec.sets)

    def run(self, step: Step) -> Request | str | None:
        """Let one packet pass; returns what the parser made of it."""
        self._slots.age(step.age_ns)
        outcome = parse(step.packet, step.point in _NIC, self._tunnels, step.gso_size)
        if isinstance(outcome, str):
            self.counters[outcome] += 1
            if outcome.startswith("looks_") and step.ifindex in self._vports.seen:
                self.seen[step.ifindex, outcome] += 1
        elif outcome is not None and step.point in _FIRST:
            self._first(step, outcome)
        elif outcome is not None:
            self._second(step, outcome)
        return outcome

    @property
    def slot_keys(self) -> dict[int, int]:
        """The key field of every way that is not empty, by number of the way."""
        return self._slots.keys()

    def _filter_of(self, step: Step, direction: int) -> VportFilter | None:
        """Parameters of the vport of this step; None: not traced."""
        if not self._spec.filter or step.point in _NIC:
            return VportFilter(3, 0, 0)
        found = self._vports.filters.get(step.ifindex)
        return found if found and found.directions & direction else None

    def _first(self, step: Step, request: Request) -> None:
        wanted = self._filter_of(step, 1)
        stamp = Stamp(
            step.point,
            step.ifindex,
            request.dst,
            request.sport,
            request.dport,
            hash_source(request.src, request.is_ipv6),
            request.encap,
            request.vni,
            is_retransmission=False,
            is_skipped=wanted is None,
            sample_shift=wanted.sample_shift if wanted else 0,
            require_sampled=bool(wanted and wanted.require_sampled),
        )
        self.counters["first"] += 1
        counter = self._slots.put(request.seq, request.ack, stamp, step.locked)
        if counter:
            self.counters[counter] += 1

    def _second(self, step: Step, request: Request) -> None:
        self.counters["second"] += 1
        if step.point == Point.VPORT_OUT and not self._is_ours(step.ifindex, request.dst):
            self.counters["not_for_this_vport"] += 1
            return
        stamp, is_expired = self._slots.take(request.seq, request.ack, step.locked)
        if is_expired:
            self.counters["expired"] += 1
        if stamp is None:
            self.counters[self._why_unmatched(step, request, is_expired)] += 1
            return
        self.counters["taken"] += 1
        self.counters[self._emit(step, request, stamp)] += 1

    def _is_ours(self, ifindex: int, dst: bytes) -> bool:
        owners = self._vports.owners
        return (ifindex, dst) in owners or (ifindex, bytes(16)) not in owners

    def _why_unmatched(self, step: Step, request: Request, is_expired: bool) -> str:
        if self._has_socket:
            return "unmatched_local"
        is_taken = not is_expired and self._slots.is_taken(request.seq, request.ack, step.locked)
        return "unmatched_taken" if is_taken else "unmatched"

    def _emit(self, step: Step, request: Request, stamp: Stamp) -> str:
        wanted = self._filter_of(step, 2)
        if stamp.is_skipped or wanted is None:
            return "filtered"
        context = search(request.payload, self._spec.window, self._names)
        shift = max(stamp.sample_shift, wanted.sample_shift)
        if (stamp.require_sampled or wanted.require_sampled) and not context.trace_flags & 1:
            return "sampled_out"  # without context the flags are 0
        if not is_kept(context, shift):
            return "sampled_out"
        if len(self.records) >= (self._spec.ring_bytes - 1) // RING_STRIDE:
            return "ring_full"
        self.records.append(_record(step, request, stamp, context))
        return "records"


def is_kept(context: Context, shift: int) -> bool:
    """Whether the sample shift keeps a hop: always without context, else by the hash of the trace id."""
    if not shift or not context.kind:
        return True
    high = int.from_bytes(context.trace_id[:8], "big")
    low = int.from_bytes(context.trace_id[8:], "big")
    mixed = ((low ^ (high * 0x9E3779B97F4A7C15 & MASK64)) * 0xC2B2AE3D27D4EB4F) & MASK64
    return mixed >> (64 - shift) == 0


def _quality(request: Request, stamp: Stamp, context: Context) -> int:
    quality = Quality(context.quality)
    if stamp.is_retransmission:
        quality |= Quality.RETRANSMIT
    if (stamp.dst, stamp.dport) != (request.dst, request.dport):
        quality |= Quality.DNAT
    source = (request.sport, hash_source(request.src, request.is_ipv6))
    if (stamp.sport, stamp.src_hash) != source:
        quality |= Quality.SNAT
    return int(quality)


def _record(step: Step, request: Request, stamp: Stamp, context: Context) -> bytes:
    kind = KINDS[stamp.point, step.point]
    is_of_second = kind == Kind.TX or (kind == Kind.FORWARD and request.encap != Encap.NONE)
    tunnel = request if is_of_second else stamp
    return _pack_record(
        0,
        context.trace_id,
        context.span_id,
        request.src,
        request.dst,
        stamp.dst,
        0,
        request.seq,
        request.ack,
        tunnel.vni,
        stamp.ifindex,
        step.ifindex,
        len(request.payload),
        0,
        request.sport,
        request.dport,
        stamp.sport,
        stamp.dport,
        context.offset,
        max(step.gso_segs, 1),
        kind,
        tunnel.encap | context.kind << 4,
        context.trace_flags,
        _quality(request, stamp, context),
    )
