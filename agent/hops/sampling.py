# SPDX-License-Identifier: Apache-2.0
"""Which hops are kept in full: whole traces by hash, and the slowest of each series (docs/store.md)."""

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from agent.clock import ClockOffset
from agent.hops.records import Records, joined, taken, words_of
from agent.naming.names import Codes, Names, labels
from bpf.record import RECORD, Quality
from store.batch import Batch, Labels, Numbers
from store.schema import HOP_SAMPLE

TARGET_PER_S = 1_000
BURST = 4_000
"""What was not used of the target is saved up to here, so that a short burst is kept whole."""
MAX_LATE_S = 4.0
"""How late rows may be taken before hops are shed for it: 8,000 wait then, 1.2 MB."""
MAX_SHIFT = 20
TAILS = 3
"""How many of the slowest hops of a series are kept besides, per interval."""
MAX_PENDING_TAILS = 4_096

_MIX_HIGH = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xC2B2AE3D27D4EB4F)
_LOW_HALF = np.uint64(0xFFFFFFFF)


@dataclass(slots=True)
class _Kept:
    """Records on their way into the store, with what named them and the places of their series."""

    records: Records
    codes: Codes
    places: Codes
    names: Names

    def __len__(self) -> int:
        return len(self.records)

    def take(self, rows: Codes) -> "_Kept":
        return _Kept(taken(self.records, rows), self.codes.take(rows), self.places.take(rows), self.names)

    def copy(self) -> "_Kept":
        records: Records = words_of(self.records).copy().reshape(-1).view(RECORD)
        return _Kept(records, self.codes, self.places, self.names)


class Sampler:
    """Keeps about TARGET_PER_S hops a second, whole traces, and the slowest of each series. One thread.

    A trace is kept if the upper `shift` bits of its hash are 0. More hops than the target (and what was saved
    of it) raise the shift at once, for all that is not taken yet; room for twice as many lowers it by one.
    """

    def __init__(self, places: int) -> None:
        self.shift = 0
        self._places = places
        self._kept: list[_Kept] = []
        self._tails: list[_Kept] = []
        self._ready_tails: list[_Kept] = []
        self._slowest_ns = np.zeros((places, TAILS), np.uint32)
        """The slowest latencies of each place, ascending."""
        self._least_ns = np.zeros(places, np.uint32)
        self._credit = float(BURST)
        self._taken_at_ns: int | None = None
        self._seen = self._stored = self._stored_tails = 0

    def add(self, records: Records, codes: Codes, places: Codes, names: Names) -> None:
        """Looks at named records; `places` of their series, as Aggregator.add returns them.

        Records may change afterwards, codes and places must not.
        """
        if not len(records):
            return
        self._seen += len(records)
        batch = _Kept(records, codes, places, names)
        chosen = batch.take(self._kept_rows(records)) if self.shift else batch.copy()
        if len(chosen):
            self._kept.append(chosen)
        self._raise_shift(int(records["second_ns"][-1]))
        self._add_tails(batch)

    def new_interval(self) -> None:
        """The slowest of each series are looked for anew; the places of series may be others from now on."""
        self._ready_tails += self._slowest(self._tails)
        self._tails = []
        self._slowest_ns[:] = 0
        self._least_ns[:] = 0

    def take(self, clock: ClockOffset, boot_id: str, now_mono_ns: int) -> Batch:
        """The rows since the last call."""
        kept = _merged(self._kept)
        tails = self._ready_tails + self._slowest(self._tails)
        tails = [one.take(np.flatnonzero(~self._is_kept(one.records))) for one in tails] if self.shift else []
        batch = _rows(kept, tails, clock, boot_id, self.shift)
        self._kept, self._tails, self._ready_tails = [], [], []
        stored = _length(kept)
        self._stored += stored
        self._stored_tails += _length(tails)
        self._adapt(stored, now_mono_ns)
        return batch

    def counters(self) -> dict[str, int]:
        """Hops kept in full (`samples`, and besides `samples_tail`), and not; since the start."""
        waiting = _length(self._kept)
        return {
            "samples": self._stored,
            "samples_tail": self._stored_tails,
            "samples_not_kept": self._seen - self._stored - self._stored_tails - waiting,
        }

    def _is_kept(self, records: Records) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = trace_hashes(records) >> np.uint64(64 - self.shift) == 0
        return kept

    def _kept_rows(self, records: Records) -> Codes:
        return np.flatnonzero(self._is_kept(records))

    def _raise_shift(self, until_ns: int) -> None:
        """Keeps what may be kept of the time since rows were taken: a second of it, more if they are late."""
        late_s = 0.0 if self._taken_at_ns is None else (until_ns - self._taken_at_ns) / 1e9
        limit = int(self._credit + TARGET_PER_S * min(max(late_s, 1.0), MAX_LATE_S))
        while _length(self._kept) > limit and self.shift < MAX_SHIFT:
            self.shift += 1
            self._kept = [one.take(self._kept_rows(one.records)) for one in self._kept]
        excess = _length(self._kept) - limit
        while excess > 0:  # ids made to be kept
            last = self._kept.pop()
            if len(last) > excess:
                self._kept.append(last.take(np.arange(len(last) - excess)))
            excess -= len(last)

    def _adapt(self, stored: int, now_mono_ns: int) -> None:
        """Saves up what was not used, and lowers the shift if there is room."""
        elapsed_s = 1.0 if self._taken_at_ns is None else (now_mono_ns - self._taken_at_ns) / 1e9
        self._taken_at_ns = now_mono_ns
        allowed = TARGET_PER_S * elapsed_s
        self._credit = min(max(self._credit + allowed - stored, 0.0), float(BURST))
        if self.shift and 2 * stored <= allowed:
            self.shift -= 1

    def _add_tails(self, batch: _Kept) -> None:
        latencies = np.ascontiguousarray(batch.records["latency_ns"])
        slow = np.flatnonzero(latencies > self._least_ns.take(batch.places, mode="clip"))
        slow = slow[(batch.records["quality"][slow] & Quality.RETRANSMIT) == 0]
        if not len(slow):
            return
        keys = batch.places[slow].astype(np.uint64) << np.uint64(32) | latencies[slow]
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        ends = np.searchsorted(keys >> np.uint64(32), keys >> np.uint64(32), side="right")
        is_slowest = ends - np.arange(len(keys)) <= TAILS
        self._remember(keys[is_slowest])
        self._tails.append(batch.take(slow[order[is_slowest]]))
        if _length(self._tails) > MAX_PENDING_TAILS:
            self._tails = self._slowest(self._tails)

    def _remember(self, keys: npt.NDArray[np.uint64]) -> None:
        """`keys`: place and latency, at most TAILS of a place."""
        touched = np.flatnonzero(np.bincount((keys >> np.uint64(32)).astype(np.intp)))
        before = touched.astype(np.uint64)[:, None] << np.uint64(32) | self._slowest_ns[touched]
        keys = np.sort(np.concatenate([before.reshape(-1), keys]))
        ends = np.searchsorted((keys >> np.uint64(32)).astype(np.intp), touched, side="right")
        slowest = keys[ends[:, None] - np.arange(TAILS, 0, -1)] & _LOW_HALF
        self._slowest_ns[touched] = slowest.astype(np.uint32)
        self._least_ns = self._slowest_ns[:, 0].copy()

    def _slowest(self, tails: list[_Kept]) -> list[_Kept]:
        """Those that are still among the slowest."""
        found = []
        for one in _merged(tails):
            rows = np.flatnonzero(one.records["latency_ns"] >= self._least_ns[one.places])
            if len(rows):
                found.append(one.take(rows))
        return found


def trace_hashes(records: Records) -> npt.NDArray[np.uint64]:
    """The hash of each trace id that the kernel's sample shift uses too (docs/datapath.md, "Filter").

    Of hops without context, of seq and ack.
    """
    words = words_of(records)
    high, low = words[:, 1].byteswap(), words[:, 2].byteswap()
    has_no_context = records["encap_context"] >> 4 == 0
    if has_no_context.any():
        pairs = words[:, 10] & ~_LOW_HALF | words[:, 11] & _LOW_HALF
        high = np.where(has_no_context, pairs, high)
        low = np.where(has_no_context, np.uint64(0), low)
    return (low ^ high * _MIX_HIGH) * _MIX


def _merged(chunks: list[_Kept]) -> list[_Kept]:
    """The same in few chunks, one per numbering of names: each call of numpy has its price."""
    found = []
    for names, group in groupby(chunks, key=attrgetter("names")):
        parts = list(group)
        records = joined([one.records for one in parts])
        codes = np.concatenate([one.codes for one in parts])
        found.append(_Kept(records, codes, np.concatenate([one.places for one in parts]), names))
    return found


def _length(chunks: list[_Kept]) -> int:
    return sum(len(one) for one in chunks)


def _rows(kept: list[_Kept], tails: list[_Kept], clock: ClockOffset, boot_id: str, shift: int) -> Batch:
    chunks = kept + tails
    records = joined([one.records for one in chunks])
    rows = len(records)
    is_tail = np.zeros(rows, np.uint8)
    is_tail[_length(kept) :] = 1
    columns: dict[str, Numbers | Labels] = dict(labels([(one.names, one.codes) for one in _merged(chunks)]))
    columns |= {
        "at_ns": clock.to_real(records["second_ns"]),
        "mono_ns": records["second_ns"],
        "boot_id": Labels.same(boot_id, rows),
        "clock_bound_ns": np.full(rows, clock.bound_ns, np.uint64),
        "clock_maxerror_ns": np.full(rows, clock.maxerror_ns, np.uint64),
        "tail": is_tail,
        "kept_shift": np.full(rows, shift, np.uint8),
    }
    words = words_of(records).byteswap()
    columns |= {name: np.ascontiguousarray(words[:, at]) for name, at in _BIG_ENDIAN.items()}
    columns |= {column: np.ascontiguousarray(records[name]) for column, name in _AS_THEY_ARE.items()}
    return Batch(HOP_SAMPLE, columns)


_BIG_ENDIAN = {
    name: word
    for word, name in enumerate(
        (
            "trace_hi",
            "trace_lo",
            "span",
            "src_hi",
            "src_lo",
            "dst_hi",
            "dst_lo",
            "dst_before_hi",
            "dst_before_lo",
        ),
        start=1,
    )
}
"""Columns that are a word of the record, read as big-endian."""
_AS_THEY_ARE = {
    **{name: name for name in ("latency_ns", "seq", "ack", "vni", "first_ifindex", "second_ifindex")},
    **{name: name for name in ("first_wait_ns", "sport", "dport", "context_offset", "segments")},
    **{name: name for name in ("trace_flags", "quality")},
    "payload_bytes": "payload_len",
    "sport_before": "sport_before_nat",
    "dport_before": "dport_before_nat",
}
